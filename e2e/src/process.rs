//! Child processes that are started, awaited, and ended by their own process id.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::place::Place;
use crate::{Context, Failure, Outcome};

/// How often readiness and exits are looked for.
const POLL: Duration = Duration::from_millis(20);

/// How long a server has to end after SIGTERM before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// How much of a log a failure shows, in lines.
const TAIL_LINES: usize = 20;

/// A running server. Dropping it ends it: SIGTERM, and SIGKILL where that is not enough.
#[derive(Debug)]
pub struct Server {
    name: String,
    child: Child,
    log: PathBuf,
    left: bool,
}

impl Server {
    /// Starts `command` with its output in `folder/name.log` and waits until `ready` is true.
    /// Fails, with the log's end, where the process exits or is not ready `within` that time.
    pub fn start(
        name: &str,
        command: &mut Command,
        folder: &Path,
        within: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Outcome<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context(format!("starting {}", command.get_program().display()))?;
        let mut server = Self { name: name.to_owned(), child, log, left: false };
        let deadline = Instant::now() + within;
        while !ready() {
            if let Some(status) = server.child.try_wait()? {
                return Err(server.failure(&format!("ended ({status}) before it was ready")));
            }
            if Instant::now() > deadline {
                return Err(server.failure(&format!("not ready within {within:?}")));
            }
            thread::sleep(POLL);
        }
        Ok(server)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that it has printed so far.
    pub fn log(&self) -> Outcome<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    /// Asks the process to end and does not wait for it.
    pub fn terminate(&self) -> Outcome<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::TERM)?)
    }

    /// Lets it do nothing at all, until what is given back is dropped.
    pub fn suspend(&self) -> Outcome<Suspended> {
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::STOP)?;
        Ok(Suspended(process))
    }

    /// Lets it run on, even after this program.
    pub fn leave(mut self) {
        self.left = true;
    }

    /// Ends it as [`Self::kill`] does, while others may be asking it.
    pub fn crash(&self) -> Outcome<()> {
        Ok(kill_process(Pid::from_child(&self.child), Signal::KILL)?)
    }

    /// Ends it at once, as a crash would: no handler runs.
    pub fn kill(mut self) -> Outcome<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Waits for the process to end by itself; fails after `within`.
    pub fn wait(&mut self, within: Duration) -> Outcome<ExitStatus> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > deadline {
                return Err(self.failure(&format!("still running after {within:?}")));
            }
            thread::sleep(POLL);
        }
    }

    /// The end of its log, for a person.
    pub fn tail(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let tail = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
        format!("the end of the log of {}:\n{tail}", self.name)
    }

    fn failure(&self, what: &str) -> Failure {
        Failure::new(format!("{} {what}; {}", self.name, self.tail()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Nothing can be done about a failure here, and an ended process is no failure.
        if self.left || matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = self.terminate();
        if self.wait(GRACE).is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// A process that does nothing. Dropping this lets it go on.
#[must_use]
#[derive(Debug)]
pub struct Suspended(Pid);

impl Drop for Suspended {
    fn drop(&mut self) {
        // One that has ended is no failure.
        let _ = kill_process(self.0, Signal::CONT);
    }
}

/// Waits until `ready` is true; fails, naming `what` is awaited, where it is not `within` that time.
pub fn wait_until(
    what: &str,
    within: Duration,
    mut ready: impl FnMut() -> Outcome<bool>,
) -> Outcome<()> {
    let deadline = Instant::now() + within;
    while !ready()? {
        if Instant::now() > deadline {
            return Err(Failure::new(format!("{what}: not within {within:?}")));
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// How long [`eventually`] asks.
const SOON: Duration = Duration::from_secs(20);

/// Asks until the answer is the wanted one; fails with the last answer after [`SOON`].
pub fn eventually<T: std::fmt::Debug>(
    what: &str,
    mut ask: impl FnMut() -> Outcome<T>,
    wanted: impl Fn(&T) -> bool,
) -> Outcome<T> {
    let deadline = Instant::now() + SOON;
    loop {
        let answer = ask()?;
        if wanted(&answer) {
            return Ok(answer);
        }
        if Instant::now() > deadline {
            return Err(Failure::new(format!("{what}: still {answer:?}")));
        }
        thread::sleep(POLL);
    }
}

/// [`Place::free_port`] on loopback.
pub fn free_port() -> Outcome<u16> {
    Place::LOOPBACK.free_port()
}

/// Whether something accepts connections on this loopback port.
pub fn listens(port: u16) -> bool {
    Place::LOOPBACK.listens(port)
}

/// What a finished command said.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Its exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
    command: String,
}

impl Finished {
    /// Itself where the command succeeded; else a failure that shows the command and its output.
    pub fn success(self) -> Outcome<Self> {
        if self.code == Some(0) { Ok(self) } else { Err(Failure::new(self)) }
    }
}

impl std::fmt::Display for Finished {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { code, stdout, stderr, command } = self;
        let code = code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(f, "{command}\nended with {code}\n{stdout}{stderr}")
    }
}

/// Runs a command to its end, with `input` on its standard input. `input` has to fit a pipe
/// (64 KiB): it is written before the output is read.
pub fn run(command: &mut Command, input: &str) -> Outcome<Finished> {
    let text = format!("{command:?}");
    let program = command.get_program().display().to_string();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context(format!("starting {program}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        use std::io::Write as _;
        // A command that does not read its input is no failure.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output()?;
    Ok(Finished {
        code: output.status.code(),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        command: text,
    })
}
