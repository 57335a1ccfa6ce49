//! The real router, with a scripted reviewer behind it.
#![allow(clippy::unwrap_used)]

mod answers;
mod events;
mod harness;
mod hostile;
mod limits;
mod resources;
mod updates;
mod workloads;
