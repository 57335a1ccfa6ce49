//! Countersign in a cluster: what it reads from the API server.

pub mod pulls;
#[cfg(test)]
pub(crate) mod testing;
