//! The program's commands.

mod crds;
mod one;
mod pin;
mod probe;
mod progress;
mod scan;
mod serve;
mod story;
mod tuf;
mod verify;

use std::fmt::Display;
use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand, ValueEnum};
use countersign_verify::outcome::{Decision, Effect};
use serde::Serialize;

use crate::api::is_namespace;

/// How a command ends. The numbers are part of the interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done; every image is admitted.
    Done,
    /// An image is denied on evidence.
    Denied,
    /// The call, a policy or a file that it names is wrong; nothing was decided.
    Usage,
    /// An image is denied for want of evidence.
    Unavailable,
    /// A command that judges no image did not do what it was to do.
    Failed,
}

impl Exit {
    /// By what becomes of images. Denied on evidence counts before denied for the want of it.
    fn of<'d>(decisions: impl Iterator<Item = &'d Decision>) -> Self {
        let mut denied = decisions.filter(|decision| decision.effect() == Effect::Deny).peekable();
        if denied.peek().is_none() {
            Self::Done
        } else if denied.all(Decision::denied_for_want_of_evidence) {
            Self::Unavailable
        } else {
            Self::Denied
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::Denied | Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Unavailable => 3,
        })
    }
}

/// How verdicts are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Text,
    Json,
}

/// Admits a pod only if every image in it is signed by someone the cluster trusts, and only while
/// that signature is current.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Answers the API server's admission reviews
    Serve(Box<serve::Args>),
    /// Gives the webhook's verdict on images, without a cluster.
    /// Exit status: 0 admitted, 1 denied, 2 wrong usage or policy, 3 evidence unavailable
    Verify(verify::Args),
    /// Tells which images of running pods would be denied and why, or what other policies would
    /// change. Exit status: 0 none, 1 denied, 2 wrong usage or policy, or the cluster cannot be
    /// read, 3 evidence unavailable
    ///
    /// Pods, TrustPolicies and TrustSources, and what these name, are read from the cluster of the
    /// kubeconfig's current context, as kubectl does, with your rights. Nothing is written. Images
    /// are judged as if their pods were made anew now.
    ///
    /// The question is what would be denied once images without a policy are: that is --unmatched
    /// Deny, the default here. With --unmatched Audit it is what the policies alone deny.
    ///
    /// Tags are looked up with the credentials of --docker-config; pods' pull secrets are not used.
    Scan(scan::Args),
    /// Prints a TrustSource and a TrustPolicy for an image, with the keys to compare
    Pin(pin::Args),
    /// Reads a TUF repository, as the webhook does: refreshes trusted metadata, downloads targets.
    /// Exit status: 0 done, 1 anything less
    Tuf(tuf::Args),
    /// Prints the custom resource definitions
    Crds,
    /// Waits until a running Countersign is ready; for the chart's test.
    /// Exit status: 0 ready, 2 wrong usage, 3 not ready in time
    #[command(hide = true)]
    Probe(probe::Args),
}

/// Runs the program with the process's arguments.
pub fn run() -> ExitCode {
    // It fails only where one is installed already, and there is only this one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return usage_exit(std::env::args().nth(1), &error).into();
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return complain(&format!("no threads to run on: {error}")).into(),
    };
    let exit = runtime.block_on(async {
        match cli.command {
            Command::Serve(args) => serve::run(*args).await,
            Command::Verify(args) => verify::run(args).await,
            Command::Scan(args) => scan::run(args).await,
            Command::Pin(args) => pin::run(args).await,
            Command::Tuf(args) => tuf::run(args).await,
            Command::Crds => match crds::run() {
                Ok(()) => Exit::Done,
                Err(error) => complain(&error),
            },
            Command::Probe(args) => probe::run(args).await,
        }
    });
    exit.into()
}

/// How a call ends whose arguments ask for help or make no sense. `tuf` tells done from anything
/// less only.
fn usage_exit(command: Option<String>, error: &clap::Error) -> Exit {
    match command.as_deref() {
        _ if !error.use_stderr() => Exit::Done,
        Some("tuf") => Exit::Failed,
        _ => Exit::Usage,
    }
}

/// The name of a namespace.
fn namespace(text: &str) -> Result<String, &'static str> {
    match is_namespace(text) {
        true => Ok(text.to_owned()),
        false => Err("it is no name of a namespace"),
    }
}

/// Prints what was asked for. A reader that went away is no error of ours, and the exit status
/// still tells.
fn print(text: &str) {
    let _ = writeln!(std::io::stdout(), "{}", text.trim_end());
}

fn print_json(value: &impl Serialize) {
    let json = serde_json::to_string_pretty(value);
    print(&json.unwrap_or_else(|error| format!("{{\"error\": \"{error}\"}}")));
}

/// Says what is wrong with the call or with a file that it names.
fn complain(error: &dyn Display) -> Exit {
    eprintln!("countersign: {error}");
    Exit::Usage
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(arguments: &[&str]) -> Option<String> {
        let all = ["countersign"].iter().chain(arguments);
        Cli::try_parse_from(all).err().map(|error| error.to_string())
    }

    #[test]
    fn serve_reads_its_policies_from_one_place() {
        let serve = |more: &[&str]| {
            let mut arguments = vec!["serve", "--tls-cert=c", "--tls-key=k"];
            arguments.extend(more);
            problem(&arguments)
        };
        assert_eq!(serve(&["--policies=p"]), None);
        assert_eq!(serve(&["--kubernetes", "--system-namespace=n"]), None);
        for (arguments, named) in [
            (&[] as &[&str], "--kubernetes"),
            (&["--kubernetes"], "--system-namespace"),
            (&["--kubernetes", "--system-namespace=n", "--policies=p"], "cannot be used with"),
            (&["--policies=p", "--watch-stale-after=2"], "--watch-stale-after"),
            (&["--kubernetes", "--system-namespace=n", "--state-dir=d"], "cannot be used with"),
        ] {
            let said = serve(arguments);
            assert!(
                said.as_ref().is_some_and(|said| said.contains(named)),
                "{arguments:?} {said:?}"
            );
        }
        assert_eq!(problem(&["verify", "--policies=p", "-n=a", "image"]), None);
        let no_name = problem(&["verify", "--policies=p", "-n=A/b", "image"]);
        assert!(no_name.is_some_and(|said| said.contains("no name of a namespace")));
        assert!(problem(&["verify", "image"]).is_some_and(|said| said.contains("--policies")));
    }
}
