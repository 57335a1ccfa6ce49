//! The attacks, against real servers on loopback.

mod auth;
mod bounds;
mod elsewhere;
mod streams;
mod tls;
