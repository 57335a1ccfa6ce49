//! Reads requests' bodies, within bounds.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use bytes::BytesMut;
use futures_util::StreamExt as _;

use super::read;
use crate::fair::{Place, Places};

/// Largest request read, in bytes: object and old object at etcd's limit (1.5 MiB, twice what
/// it stores as JSON), with room for the rest.
pub(super) const BODY_BYTES: usize = 8 << 20;

/// Longest time in which a request's body has to arrive.
const BODY_TIME: Duration = Duration::from_secs(10);

/// As much of every body counts apart from the rest: most reviews are no larger, and they go on
/// while large requests hold everything that large ones may.
const SMALL_BODY_BYTES: usize = 64 << 10;

/// What a request takes beside its body, from when its header was read until its answer is sent:
/// 7 KiB were measured over HTTP/2. A header may add 4 KiB, which the API server's do not.
const REQUEST_BYTES: usize = 8 << 10;

/// Most bytes held at one time of what counts apart, and of the rest: with verified metadata they
/// are half of the memory that an installation gives.
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

/// Accounts for the bytes of all requests at one time, and of the answers to them.
#[derive(Debug)]
pub(super) struct Bodies {
    small: Arc<Places<Sender>>,
    large: Arc<Places<Sender>>,
}

/// Whose bytes they are; `None` where that is not known.
pub(super) type Sender = Option<IpAddr>;

/// Bytes that are accounted for until this is dropped.
pub(super) struct Held {
    small: Place<Sender>,
    large: Place<Sender>,
}

impl Default for Bodies {
    fn default() -> Self {
        Self { small: Places::new(BODIES_BYTES), large: Places::new(BODIES_BYTES) }
    }
}

impl Bodies {
    /// Room for a request whose body was not read yet, or `None` where its sender has too many.
    pub(super) fn begin(&self, sender: Sender) -> Option<Held> {
        let (mut small, large) = (self.small.none(sender), self.large.none(sender));
        small.try_grow(REQUEST_BYTES).then_some(Held { small, large })
    }
}

impl Held {
    /// Accounts for `size` bytes where `before` are accounted for.
    pub(super) fn grow(&mut self, before: usize, size: usize) -> Result<(), Rejected> {
        let all = size.saturating_sub(before);
        let small = size.min(SMALL_BODY_BYTES).saturating_sub(before);
        if self.small.try_grow(small) && self.large.try_grow(all - small) {
            return Ok(());
        }
        Err(Rejected::TooMany)
    }

    /// Reads a whole body of at most `limit` bytes.
    pub(super) async fn read(&mut self, body: Body, limit: usize) -> Result<Bytes, Rejected> {
        let mut stream = body.into_data_stream();
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        let reading = async {
            while let Some(chunk) = stream.next().await {
                let chunk = chunk.map_err(|_| Rejected::Broken)?;
                let before = first.len() + whole.len();
                let size = before + chunk.len();
                if size > limit {
                    return Err(Rejected::TooLarge(limit));
                }
                self.grow(before, size)?;
                if before == 0 {
                    first = chunk;
                } else {
                    if whole.is_empty() {
                        whole.extend_from_slice(&std::mem::take(&mut first));
                    }
                    whole.extend_from_slice(&chunk);
                }
            }
            Ok(())
        };
        tokio::time::timeout(BODY_TIME, reading).await.map_err(|_| Rejected::TooSlow)??;
        Ok(if whole.is_empty() { first } else { whole.freeze() })
    }
}
