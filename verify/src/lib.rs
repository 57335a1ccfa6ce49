//! Decides whether an image is trusted.
//!
//! Everything here is a function of its arguments: signed metadata as bytes, an image's
//! digest, and the time. Nothing in this crate fetches, waits, reads a clock or knows Kubernetes,
//! so a verdict can be repeated and tested exactly.

mod hash;
pub mod image;
mod json;
pub mod limits;
pub mod memory;
pub mod notary;
pub mod outcome;
pub mod policy;
mod public_key;
mod sorted;
mod threshold;
pub mod tuf;
