//! Repositories that real tools write, read by the verifier.

mod shell;
mod writers;
