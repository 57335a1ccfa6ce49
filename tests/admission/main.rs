//! The real router, with a scripted reviewer behind it.
#![allow(clippy::unwrap_used)]

mod answers;
mod harness;
mod hostile;
mod limits;
mod updates;
mod workloads;
