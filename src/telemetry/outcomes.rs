//! How things end, as labels say it.

use prometheus_client::encoding::{EncodeLabelValue, LabelValueEncoder};

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Let in.
    Allowed,
    /// Let in with a warning.
    Warned,
    /// Refused.
    Denied,
}

impl Outcome {
    /// As in logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allowed => "allowed",
            Self::Warned => "warned",
            Self::Denied => "denied",
        }
    }
}

impl EncodeLabelValue for Outcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        EncodeLabelValue::encode(&self.as_str(), encoder)
    }
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventOutcome {
    /// The API server has it.
    Written,
    /// There were too many; the next one of its series counts it.
    Limited,
    /// So many waited to be written that nobody looked whether there was an owner to tell.
    Dropped,
    /// The API server did not take it.
    Failed,
}

impl EventOutcome {
    pub(super) const ALL: [Self; 4] = [Self::Written, Self::Limited, Self::Dropped, Self::Failed];
}

impl EncodeLabelValue for EventOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let value = match self {
            Self::Written => "written",
            Self::Limited => "limited",
            Self::Dropped => "dropped",
            Self::Failed => "failed",
        };
        EncodeLabelValue::encode(&value, encoder)
    }
}

/// What became of a TrustCheckpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CheckpointOutcome {
    /// The API server has newer versions now.
    Written,
    /// They could not be written; the update of the repository failed.
    Failed,
    /// It was seen deleted: what it said is forgotten.
    Deleted,
}

impl CheckpointOutcome {
    pub(super) const ALL: [Self; 3] = [Self::Written, Self::Failed, Self::Deleted];
}

impl EncodeLabelValue for CheckpointOutcome {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        let value = match self {
            Self::Written => "written",
            Self::Failed => "failed",
            Self::Deleted => "deleted",
        };
        EncodeLabelValue::encode(&value, encoder)
    }
}
