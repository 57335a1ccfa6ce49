//! The real server, over real sockets.
#![allow(clippy::unwrap_used)]

mod certificates;
mod clients;
mod drain;
mod floods;
mod harness;
mod start;
