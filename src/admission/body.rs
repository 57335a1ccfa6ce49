//! Reads requests' bodies, within bounds.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use bytes::BytesMut;
use futures_util::StreamExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::read;

/// Largest request read, in bytes: object and old object at etcd's limit (1.5 MiB, twice what
/// it stores as JSON), with room for the rest.
const BODY_BYTES: usize = 8 << 20;

/// Longest time in which a request's body has to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// As much of every body is not accounted for: most reviews are no larger, and they go on while
/// slow or large requests hold everything that is.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// Most bytes of bodies held at one time, so that many large requests do not exhaust memory.
const BODIES_BYTES: usize = 256 << 20;

/// Why a request gets no AdmissionReview in answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("the request is over the limit of {BODY_BYTES} bytes")]
    TooLarge,
    #[error("the request's body did not arrive within {} s", BODY_TIME.as_secs())]
    TooSlow,
    #[error("too many large requests are being read; try again")]
    TooMany,
    #[error("the request's body could not be read")]
    Broken,
    #[error(transparent)]
    Malformed(#[from] read::Malformed),
    #[error("Countersign failed on this request (a bug; its logs have the details)")]
    Failed,
}

impl Rejected {
    /// The HTTP status, and the reason that is counted.
    pub(super) fn status(&self) -> (StatusCode, &'static str) {
        match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "too_slow"),
            Self::TooMany => (StatusCode::SERVICE_UNAVAILABLE, "too_many"),
            Self::Broken => (StatusCode::BAD_REQUEST, "broken"),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, "malformed"),
            Self::Failed => (StatusCode::INTERNAL_SERVER_ERROR, "failed"),
        }
    }
}

/// Accounts for the bytes of all bodies at one time.
#[derive(Debug)]
pub(super) struct Bodies(Semaphore);

impl Default for Bodies {
    fn default() -> Self {
        Self(Semaphore::new(BODIES_BYTES))
    }
}

impl Bodies {
    /// Reads a whole body; its bytes are accounted for until the permit is dropped.
    pub(super) async fn read(&self, body: Body) -> Result<(Bytes, SemaphorePermit<'_>), Rejected> {
        let mut held = self.0.try_acquire_many(0).map_err(|_| Rejected::TooMany)?;
        let mut stream = body.into_data_stream();
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        let reading = async {
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|_| Rejected::Broken)?;
                let size = first.len().max(whole.len()) + chunk.len();
                if size > BODY_BYTES {
                    return Err(Rejected::TooLarge);
                }
                let accounted = size.saturating_sub(SMALL_BODY_BYTES).min(chunk.len());
                let bytes = u32::try_from(accounted).map_err(|_| Rejected::TooLarge)?;
                held.merge(self.0.try_acquire_many(bytes).map_err(|_| Rejected::TooMany)?);
                if first.is_empty() {
                    first = chunk;
                } else {
                    if whole.is_empty() {
                        whole.extend_from_slice(&first);
                    }
                    whole.extend_from_slice(&chunk);
                }
            }
            Ok(())
        };
        tokio::time::timeout(BODY_TIME, reading).await.map_err(|_| Rejected::TooSlow)??;
        Ok((if whole.is_empty() { first } else { whole.freeze() }, held))
    }
}
