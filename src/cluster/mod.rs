//! Countersign in a cluster.

pub mod certificate;
pub mod lease;
mod problem;
pub mod webhooks;

/// Who writes, as server-side apply records it.
pub const FIELD_MANAGER: &str = "countersign";
