//! TUF 1.0 repositories: where their files are, and the loop that gives them to the verifier.

mod body;
mod drive;
mod mirror;
mod mirrors;
pub(super) mod reads;
#[cfg(test)]
mod tests;
mod update;

pub use body::Body;
pub(super) use drive::is_too_much;
pub use drive::{Drive, Taken};
pub use mirror::Mirror;
pub(super) use mirrors::Mirrors;
pub(super) use update::{Begin, Updated, run};
