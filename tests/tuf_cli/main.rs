//! `countersign tuf` against a server on loopback: what it asks for, what it keeps, and how it
//! ends, in the cases of the independent conformance suite for TUF clients and some more.

// The verifier's tests make metadata in more ways than these need.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../verify/tests/tuf/builder.rs"]
mod builder;
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../verify/tests/tuf/shell.rs"]
mod shell;
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../verify/tests/tuf/signer.rs"]
mod signer;

mod client;
mod simulator;

mod basic;
mod delegations;
mod downloads;
mod expiry;
mod folder;
mod keys;
mod rollback;
mod rotations;
mod show;

use client::Client;
use simulator::Simulator;

const FIRST: [&str; 4] = ["2.root.json", "timestamp.json", "1.snapshot.json", "1.targets.json"];
const ALL: [&str; 3] = ["targets", "snapshot", "timestamp"];

/// A client that has begun with a repository's first root.
fn start() -> (Simulator, Client) {
    start_with(Simulator::new())
}

fn start_with(simulator: Simulator) -> (Simulator, Client) {
    let client = Client::new();
    client.init(&simulator.first_root()).succeeds();
    (simulator, client)
}
