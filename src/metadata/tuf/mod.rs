//! TUF 1.0 repositories: where their files are, and the loop that gives them to the verifier.

mod body;
mod drive;
mod mirror;
#[cfg(test)]
mod tests;

pub use body::Body;
pub use drive::{Drive, Taken};
pub use mirror::Mirror;
