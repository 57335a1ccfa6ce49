//! Whose pull secrets may be used.

use kube::Client;

use crate::cli::namespace;
use crate::cluster::pulls::{PullSecrets, Scope};

#[derive(Debug, clap::Args)]
pub(super) struct PullArgs {
    /// A namespace whose pods' imagePullSecrets, and their ServiceAccounts', are used to look up
    /// tags; may repeat. Takes the right to get Secrets and ServiceAccounts there
    #[arg(long, value_name = "NS", value_parser = namespace)]
    pull_secrets_namespace: Vec<String>,
    /// The same in every namespace
    #[arg(long, conflicts_with = "pull_secrets_namespace")]
    pull_secrets_everywhere: bool,
}

impl PullArgs {
    /// Whether any namespace's pull secrets may be used: that takes a client.
    pub(super) fn wanted(&self) -> bool {
        self.pull_secrets_everywhere || !self.pull_secrets_namespace.is_empty()
    }

    /// The pull secrets that may be used, read by this client.
    pub(super) fn pull_secrets(&self, client: &Client) -> Option<PullSecrets> {
        let namespaces = || self.pull_secrets_namespace.iter().cloned().collect();
        let scope = match self.pull_secrets_everywhere {
            true => Scope::Everywhere,
            false => Scope::Namespaces(namespaces()),
        };
        self.wanted().then(|| PullSecrets::new(client.clone(), scope))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Called {
        #[command(flatten)]
        pulls: PullArgs,
    }

    fn called(flags: &[&str]) -> Result<PullArgs, clap::Error> {
        Called::try_parse_from(["countersign"].iter().chain(flags)).map(|called| called.pulls)
    }

    #[test]
    fn only_what_is_named_is_used() {
        assert!(!called(&[]).expect("no flags").wanted());
        assert!(called(&["--pull-secrets-everywhere"]).expect("everywhere").wanted());
        let two = ["--pull-secrets-namespace=a", "--pull-secrets-namespace=b"];
        assert_eq!(called(&two).expect("two").pull_secrets_namespace, ["a", "b"]);
        for flags in [
            ["--pull-secrets-namespace=a", "--pull-secrets-everywhere"].as_slice(),
            &["--pull-secrets-namespace="],
            &["--pull-secrets-namespace=../a"],
            &["--pull-secrets-namespace=*"],
        ] {
            called(flags).expect_err("refused");
        }
    }
}
