//! What a trace tells of an update.

use tracing::Span;

use super::Live;
use crate::telemetry::SPANS;

/// The span of an update; off where nobody takes spans.
pub(super) fn update(live: &Live, background: bool) -> Span {
    tracing::info_span!(
        target: SPANS,
        parent: None,
        "update",
        source = live.source.name,
        repository = live.repository,
        background,
        outcome = tracing::field::Empty,
        code = tracing::field::Empty,
    )
}
