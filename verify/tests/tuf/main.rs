//! TUF 1.0 metadata, made and broken in every way, against the verifier. Attack numbers in test
//! names are those of the threat list.

#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod builder;
#[path = "../long/mod.rs"]
mod long;
mod shell;
mod signer;

mod bins;
mod delegations;
mod every_byte;
mod format;
mod kept;
mod keys;
mod lookup;
mod memory;
mod random;
mod roots;
mod texts;
mod update;
mod witness;
