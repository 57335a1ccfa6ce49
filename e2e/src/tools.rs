//! Where the programs are that the tests run.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::process::run;
use crate::{Context, Failure, Outcome};

/// Where kube-apiserver and kubectl are, as controller test suites have them: there, only what
/// needs no pods is tested.
pub const ASSETS: &str = "KUBEBUILDER_ASSETS";

/// A program that `e2e/tools/install` built, as kubectl or helm: in the folder `COUNTERSIGN_TOOLS`,
/// as `make` sets it, or else in `KUBEBUILDER_ASSETS`.
pub fn kubernetes(binary: &str) -> Outcome<PathBuf> {
    let folder = env::var_os("COUNTERSIGN_TOOLS").or_else(|| env::var_os(ASSETS)).context(
        "COUNTERSIGN_TOOLS is not set: run `make test`, or \
         `export COUNTERSIGN_TOOLS=$(e2e/tools/install)` first",
    )?;
    existing(PathBuf::from(folder).join(binary))
}

/// etcd: Debian's, or the one in `KUBEBUILDER_ASSETS`.
pub fn etcd() -> PathBuf {
    let assets = env::var_os(ASSETS).map(|folder| PathBuf::from(folder).join("etcd"));
    assets.filter(|path| path.is_file()).unwrap_or_else(|| "etcd".into())
}

/// The folder with the definitions of Prometheus' operator, a file each, in the Go module that
/// `e2e/tools/operator` names.
pub fn operator_definitions() -> Outcome<PathBuf> {
    let pinned = concat!(env!("CARGO_MANIFEST_DIR"), "/tools/operator");
    let module = "github.com/prometheus-operator/prometheus-operator";
    let download = ["-C", pinned, "mod", "download", "-json", module];
    let told = run(Command::new("go").args(download), "")?.success()?.stdout;
    let told: Value = serde_json::from_str(&told)?;
    let folder = told["Dir"].as_str().context("a module without a folder")?;
    Ok(Path::new(folder).join("example/prometheus-operator-crd"))
}

/// The built program `workload`, as [`countersign`] is found.
pub fn workload() -> Outcome<PathBuf> {
    beside("workload")?.context("no workload program: run `cargo build -p countersign-e2e` first")
}

/// The built `countersign` program: `COUNTERSIGN_BIN`, or the one beside the running test.
pub fn countersign() -> Outcome<PathBuf> {
    if let Some(path) = env::var_os("COUNTERSIGN_BIN") {
        return existing(path.into());
    }
    beside("countersign")?.context("no countersign program: run `cargo build -p countersign` first")
}

/// A program beside the running one: `target/debug/deps/some_test` or `target/debug/demo`.
fn beside(program: &str) -> Outcome<Option<PathBuf>> {
    let own = env::current_exe()?;
    Ok(own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file()))
}

fn existing(path: PathBuf) -> Outcome<PathBuf> {
    if path.is_file() {
        Ok(path)
    } else {
        Err(Failure::new(format!("{} is missing", path.display())))
    }
}
