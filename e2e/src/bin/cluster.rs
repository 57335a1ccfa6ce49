//! `cluster up` starts the one-node Kubernetes of this machine and leaves it running; `cluster down`
//! takes it down, or what a crash left of it.

use std::process::ExitCode;

use countersign_e2e::node::{self, Node, Settings};
use countersign_e2e::{Failure, Outcome};

fn main() -> ExitCode {
    let argument = std::env::args().nth(1);
    let outcome = match argument.as_deref() {
        Some("up") => up(),
        Some("down") => node::down(),
        _ => Err(Failure::new("usage: cluster up|down")),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("{failure}");
            ExitCode::FAILURE
        }
    }
}

fn up() -> Outcome<()> {
    let node = Node::start(&Settings::default())?;
    println!("export KUBECONFIG={}", node.kubeconfig().display());
    node.keep()
}
