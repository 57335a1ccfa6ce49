//! TUF 1.0 repositories: what is asked of servers and folders, and what comes of it.

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
#[path = "../metadata/updates.rs"]
mod updates;

mod compile;
mod documentation;
mod drive;
mod live;
mod mirrors;
mod server;
mod shared;
mod world;

use builder::{Repo, now};
use server::Server;
