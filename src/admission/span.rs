//! What a trace tells of a review.

use tracing::{Span, field};

use super::read::Request;
use crate::telemetry::{SPANS, attribute};

/// The span of a review; off where nobody takes spans.
pub(super) fn review(action: &'static str, request: &Request<'_>) -> Span {
    tracing::info_span!(
        target: SPANS,
        "review",
        otel.kind = "server",
        action,
        uid = attribute(&request.uid),
        kind = attribute(&request.kind.kind),
        namespace = attribute(&request.namespace),
        operation = request.operation.as_str(),
        dry_run = request.dry_run,
        outcome = field::Empty,
        code = field::Empty,
    )
}
