//! Real servers for the end-to-end tests and the demo: notary-server, notary-signer, a registry,
//! etcd with kube-apiserver, a whole Kubernetes node, and the `countersign` program itself, each in
//! a folder of its own, and ended when its value is dropped.

// The verifier's tests make metadata in more ways than these need.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../verify/tests/notary/builder.rs"]
pub mod builder;
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../verify/tests/notary/signer.rs"]
pub mod signer;

pub mod admin;
pub mod api;
pub mod api_server;
pub mod backup;
pub mod chart;
pub mod collector;
mod control_plane;
pub mod countersign;
mod failure;
pub mod flood;
pub mod front;
pub mod http;
pub mod image;
pub mod install;
pub mod installed;
pub mod lab;
pub mod network;
pub mod node;
pub mod notary;
pub mod notary_client;
pub mod pki;
pub mod place;
pub mod policies;
pub mod process;
pub mod prometheus;
pub mod proxy;
pub mod registry;
pub mod replica;
pub mod reviews;
pub mod serve;
pub mod signed;
pub mod token;
pub mod tools;
pub mod tuf;
pub mod usage;
pub mod webhooks;

pub use failure::{Context, Failure, Outcome};
