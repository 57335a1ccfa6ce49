//! Repositories that real tools write, read by the verifier.

mod cli;
mod layouts;
mod shell;
mod writers;
