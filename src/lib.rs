//! Countersign admits a pod only if every image in it is signed by someone the cluster trusts,
//! and only while that signature is current.

pub mod admission;
pub mod api;
pub mod cli;
pub mod clock;
pub mod cluster;
pub mod config;
mod expiry;
mod fair;
mod files;
mod gate;
pub mod http;
pub mod message;
pub mod metadata;
pub mod registry;
pub mod review;
pub mod server;
pub mod singleflight;
pub mod snapshot;
pub mod telemetry;
pub mod watch;
