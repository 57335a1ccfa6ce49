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
pub(super) const BODY_BYTES: usize = 8 << 20;

/// Longest time in which a request's body has to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// As much of every body counts apart from the rest: most reviews are no larger, and they go on
/// while large requests hold everything that large ones may.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// Most bytes held at one time of what counts apart, and of the rest: with verified metadata they
/// are three quarters of the memory that an installation gives.
const BODIES_BYTES: usize = 64 << 20;

/// Why a request gets no AdmissionReview in answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Rejected {
    #[error("the request is over the limit of {0} bytes")]
    TooLarge(usize),
    #[error("the request's body did not arrive within {} s", BODY_TIME.as_secs())]
    TooSlow,
    #[error("too many requests are being read; try again")]
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
            Self::TooLarge(_) => (StatusCode::PAYLOAD_TOO_LARGE, "too_large"),
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
pub(super) struct Bodies {
    small: Semaphore,
    large: Semaphore,
}

/// Bytes that are accounted for until this is dropped.
pub(super) struct Held<'a> {
    small: SemaphorePermit<'a>,
    large: SemaphorePermit<'a>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { small: Semaphore::new(BODIES_BYTES), large: Semaphore::new(BODIES_BYTES) }
    }
}

impl Bodies {
    /// Reads a whole body of at most `limit` bytes.
    pub(super) async fn read(
        &self,
        body: Body,
        limit: usize,
    ) -> Result<(Bytes, Held<'_>), Rejected> {
        let mut held = Held { small: take(&self.small, 0)?, large: take(&self.large, 0)? };
        let mut stream = body.into_data_stream();
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        let reading = async {
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|_| Rejected::Broken)?;
                let before = first.len().max(whole.len());
                let size = before + chunk.len();
                if size > limit {
                    return Err(Rejected::TooLarge(limit));
                }
                let small = size.min(SMALL_BODY_BYTES) - before.min(SMALL_BODY_BYTES);
                held.small.merge(take(&self.small, small)?);
                held.large.merge(take(&self.large, chunk.len() - small)?);
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

fn take(bytes: &Semaphore, count: usize) -> Result<SemaphorePermit<'_>, Rejected> {
    let count = u32::try_from(count).map_err(|_| Rejected::TooMany)?;
    bytes.try_acquire_many(count).map_err(|_| Rejected::TooMany)
}
