//! python-tuf, by the script in `e2e/tools/tuf`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Writer;
use crate::process::run;
use crate::{Outcome, tools};

/// python-tuf. It can do all there is.
#[derive(Debug, Clone, Copy)]
pub struct PythonTuf;

impl PythonTuf {
    fn command() -> Outcome<Command> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools/tuf/repository.py");
        let mut command = Command::new(tools::kubernetes("python-tuf/bin/python")?);
        // Isolated (-I): nothing of the machine's own Python is seen.
        command.arg("-I").arg(script);
        Ok(command)
    }
}

impl Writer for PythonTuf {
    fn version(&self) -> Outcome<String> {
        let said = run(Self::command()?.arg("--version"), "")?.success()?;
        Ok(said.stdout.trim().to_owned())
    }

    fn apply(&self, folder: &Path, edits: &[Value]) -> Outcome<()> {
        apply(&mut Self::command()?, folder, edits)
    }
}

/// Runs a program of `e2e/tools` that reads edits from a file.
pub(super) fn apply(command: &mut Command, folder: &Path, edits: &[Value]) -> Outcome<()> {
    let operations = folder.join("operations.json");
    std::fs::write(&operations, serde_json::to_vec(edits)?)?;
    run(command.arg(folder).arg(operations), "")?.success().map(drop)
}
