//! The programs of `e2e/tools/tuf`, each of which writes with one library what it is told.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::Writer;
use crate::process::run;
use crate::{Outcome, tools};

/// python-tuf. It can do all there is.
#[derive(Debug, Clone, Copy)]
pub struct PythonTuf;

/// go-tuf. Its ECDSA keys are P-256.
#[derive(Debug, Clone, Copy)]
pub struct GoTuf;

/// The `tuf` crate. It has ed25519 keys and delegations by path, and no `:` in names.
#[derive(Debug, Clone, Copy)]
pub struct RustTuf;

/// How a library's program is started.
trait Program: Send + Sync {
    fn command(&self) -> Outcome<Command>;
}

impl Program for PythonTuf {
    fn command(&self) -> Outcome<Command> {
        let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tools/tuf/repository.py");
        let mut command = Command::new(tools::kubernetes("python-tuf/bin/python")?);
        // Isolated (-I): nothing of the machine's own Python is seen.
        command.arg("-I").arg(script);
        Ok(command)
    }
}

impl Program for GoTuf {
    fn command(&self) -> Outcome<Command> {
        Ok(Command::new(tools::kubernetes("tuf-go")?))
    }
}

impl Program for RustTuf {
    fn command(&self) -> Outcome<Command> {
        Ok(Command::new(tools::kubernetes("tuf-rust")?))
    }
}

impl<P: Program> Writer for P {
    fn version(&self) -> Outcome<String> {
        let said = run(self.command()?.arg("--version"), "")?.success()?;
        Ok(said.stdout.trim().to_owned())
    }

    fn apply(&self, folder: &Path, edits: &[Value]) -> Outcome<()> {
        let operations = folder.join("operations.json");
        fs::write(&operations, serde_json::to_vec(edits)?)?;
        run(self.command()?.arg(folder).arg(operations), "")?.success().map(drop)
    }
}
