//! Where the programs are that the tests run.

use std::env;
use std::path::PathBuf;

use crate::{Context, Failure, Outcome};

/// The folder that holds kube-apiserver and kubectl: `COUNTERSIGN_TOOLS`, as `make` sets it.
pub fn kubernetes(binary: &str) -> Outcome<PathBuf> {
    let folder = env::var_os("COUNTERSIGN_TOOLS").context(
        "COUNTERSIGN_TOOLS is not set: run `make test`, or \
         `export COUNTERSIGN_TOOLS=$(e2e/tools/install)` first",
    )?;
    existing(PathBuf::from(folder).join(binary))
}

/// The built `countersign` program: `COUNTERSIGN_BIN`, or the one beside the running test.
pub fn countersign() -> Outcome<PathBuf> {
    if let Some(path) = env::var_os("COUNTERSIGN_BIN") {
        return existing(path.into());
    }
    // target/debug/deps/some_test, target/debug/demo
    let test = env::current_exe()?;
    let beside = test.ancestors().skip(1).take(2).map(|folder| folder.join("countersign"));
    let found = beside.into_iter().find(|path| path.is_file());
    found.context(format!(
        "no countersign program beside {}: run `cargo build -p countersign` first",
        test.display()
    ))
}

fn existing(path: PathBuf) -> Outcome<PathBuf> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::new(format!("{} is missing", path.display())))
    }
}
