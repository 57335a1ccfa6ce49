//! The processes of the node. Each carries a variable in its environment, which its children
//! inherit: so containerd's shims are found too, and so is everything that a crashed test left.
//! Containers do not inherit it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::process::wait_until;
use crate::{Context, Outcome};

const VARIABLE: &str = "COUNTERSIGN_NODE";

/// How long a server has to end by itself.
const GRACE: Duration = Duration::from_secs(5);

/// How long the kernel may take to end what was killed.
const KILLED: Duration = Duration::from_secs(20);

/// The command that starts a server of the node.
pub(crate) fn command(name: &str, program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    // In a process group of its own: Ctrl-C is for the program that started it.
    command.env(VARIABLE, name).process_group(0);
    command
}

/// The living processes of a server, or of all of them, each with its command line.
pub(super) fn processes(name: Option<&str>) -> Outcome<Vec<(Pid, String)>> {
    let mark = format!("{VARIABLE}={}", name.unwrap_or_default());
    let carries = |environment: &[u8]| {
        environment.split(|byte| *byte == 0).any(|variable| match name {
            Some(_) => variable == mark.as_bytes(),
            None => variable.starts_with(mark.as_bytes()),
        })
    };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let pid = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(pid) = pid.and_then(Pid::from_raw) else { continue };
        // One that has ended meanwhile, or waits as a zombie to be noticed, has none.
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        if carries(&environment) {
            found.push((pid, command_line(&entry.path())));
        }
    }
    Ok(found)
}

/// Ends a server: SIGTERM, and SIGKILL where that is not enough.
pub(super) fn stop(name: &str) -> Outcome<()> {
    signal(Some(name), Signal::TERM)?;
    let gone = || Ok(processes(Some(name))?.is_empty());
    if wait_until(name, GRACE, gone).is_ok() {
        return Ok(());
    }
    signal(Some(name), Signal::KILL)?;
    wait_until(&format!("the end of {name}"), KILLED, gone)
}

/// Ends every process of the node at once.
pub(super) fn kill_all() -> Outcome<()> {
    signal(None, Signal::KILL)?;
    wait_until("the end of the node's processes", KILLED, || Ok(processes(None)?.is_empty()))
}

/// Kills one process; that it has ended already is no failure.
pub(super) fn kill(pid: Pid, signal: Signal) -> Outcome<()> {
    match kill_process(pid, signal) {
        Ok(()) | Err(Errno::SRCH) => Ok(()),
        Err(error) => Err(error).context(format!("ending process {pid:?}")),
    }
}

fn signal(name: Option<&str>, signal: Signal) -> Outcome<()> {
    processes(name)?.into_iter().try_for_each(|(pid, _)| kill(pid, signal))
}

fn command_line(process: &Path) -> String {
    let line = fs::read(process.join("cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&line).replace('\0', " ").trim_end().to_owned()
}
