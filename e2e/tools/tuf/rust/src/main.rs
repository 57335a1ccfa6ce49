//! Writes a TUF repository with the `tuf` crate: `tuf-rust FOLDER OPERATIONS`, as repository.py
//! does with python-tuf, whose comments say what the edits are. The crate has ed25519 keys, and
//! delegations by path; it has no bins.

mod publish;
mod state;

use std::error::Error;
use std::path::Path;

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--version"] => println!("rust-tuf {}", locked_version()),
        [folder, operations] => run(Path::new(folder), Path::new(operations))?,
        _ => return Err("usage: tuf-rust FOLDER OPERATIONS".into()),
    }
    Ok(())
}

/// The version in the lock file that this was built with.
fn locked_version() -> &'static str {
    let lock = include_str!("../Cargo.lock");
    let own =
        lock.split_once("name = \"tuf\"\nversion = \"").and_then(|(_, rest)| rest.split_once('"'));
    own.map_or("?", |(version, _)| version)
}

fn run(folder: &Path, operations: &Path) -> Outcome<()> {
    let edits: Vec<state::Edit> = serde_json::from_slice(&std::fs::read(operations)?)?;
    let mut state = state::State::read(folder)?;
    for edit in edits {
        state.apply(edit)?;
    }
    publish::publish(&mut state, folder)?;
    state.write(folder)
}
