//! `countersign pin`: the resources for an image that is signed already.

use std::path::PathBuf;

use super::{Exit, complain};

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// A TrustSource to add the pin to; without it, the Notary server is --server
    #[arg(long, value_name = "FILE")]
    source: Option<PathBuf>,
    /// The Notary server's URL; by default docker's own choice: notary.docker.io for docker.io,
    /// else the registry's host
    #[arg(
        long,
        value_name = "URL",
        env = "DOCKER_CONTENT_TRUST_SERVER",
        conflicts_with = "source"
    )]
    server: Option<String>,
    /// The image
    #[arg(value_name = "IMAGE")]
    image: String,
}

pub(super) async fn run(args: Args) -> Exit {
    complain(&format!("{args:?}"))
}
