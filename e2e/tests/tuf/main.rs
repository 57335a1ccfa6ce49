//! Repositories that real tools write, read by the verifier.

mod layouts;
mod shell;
mod writers;
