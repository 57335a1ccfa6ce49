//! Notary metadata, made and broken in every way, against the verifier. Attack numbers in test
//! names are those of the threat list.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod builder;
#[path = "../long/mod.rs"]
mod long;
mod signer;

mod certificates;
mod confirmed;
mod delegations;
mod every_byte;
mod keys;
mod listed;
mod lookup_docker;
mod lookup_required;
mod memory;
mod roots;
mod texts;
mod thresholds;
mod update;
