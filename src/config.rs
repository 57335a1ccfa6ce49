//! One configuration, from flags, validated once.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use countersign_verify::policy::Action;

use crate::clock::Clock;
use crate::metadata::{DEFAULT_BYTES, MemoryError, MemoryStore, Repositories};
use crate::registry::{Registry, RegistryConfig};
use crate::review::Reviewer;
use crate::snapshot::Snapshot;

/// What happens to images that no `Deny` policy matches.
#[derive(Debug, Clone, Copy, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub enum Unmatched {
    /// They are refused.
    Deny,
    /// They are let in, with a warning.
    Warn,
    /// They are let in, and logged.
    Audit,
}

impl From<Unmatched> for Action {
    fn from(unmatched: Unmatched) -> Self {
        match unmatched {
            Unmatched::Deny => Self::Deny,
            Unmatched::Warn => Self::Warn,
            Unmatched::Audit => Self::Audit,
        }
    }
}

/// Where verdicts come from: the same for every command.
#[derive(Debug, Args)]
pub struct ReviewArgs {
    /// Where the newest versions seen are remembered, so that a rollback is refused after a
    /// restart too; without it they are remembered until the program ends. In a cluster they are in
    /// TrustCheckpoints instead
    #[arg(long, value_name = "DIR", env = "COUNTERSIGN_STATE_DIR")]
    pub state_dir: Option<PathBuf>,
    /// What happens to images that no Deny policy matches
    #[arg(long, value_name = "ACTION", default_value = "Deny")]
    pub unmatched: Unmatched,
    /// Registry credentials, in docker's config.json format; may repeat; read again when it changes
    #[arg(long, value_name = "FILE")]
    pub docker_config: Vec<PathBuf>,
    /// Private registry CAs, in docker's layout: HOST[:PORT]/ca.crt
    #[arg(long, value_name = "DIR")]
    pub registry_certs_dir: Option<PathBuf>,
    /// A registry that may be contacted though no policy names it literally; may repeat
    #[arg(long, value_name = "HOST")]
    pub registry: Vec<String>,
    /// Memory for verified metadata, in MiB: beyond it, what is least in use is fetched again when
    /// it is asked for
    #[arg(long, value_name = "MIB", default_value_t = DEFAULT_BYTES >> 20, value_parser = clap::value_parser!(u64).range(1..=1 << 20))]
    pub metadata_memory: u64,
    /// A host other than its own that a registry may take its bearer tokens from; may repeat
    #[arg(long, value_name = "REGISTRY=HOST", value_parser = token_host)]
    pub registry_token_host: Vec<(String, String)>,
}

fn token_host(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((registry, host)) if !registry.is_empty() && !host.is_empty() => {
            Ok((registry.to_owned(), host.to_owned()))
        }
        _ => Err("write it as REGISTRY=HOST, as in registry.example.com=auth.example.com".into()),
    }
}

impl ReviewArgs {
    /// Builds the reviewer; its policies are `snapshot`.
    pub fn reviewer(&self, snapshot: Snapshot) -> Result<Reviewer, MemoryError> {
        let memory = match &self.state_dir {
            Some(folder) => MemoryStore::in_folder(folder)?,
            None => MemoryStore::in_process(),
        };
        Ok(self.reviewer_with(snapshot, memory))
    }

    /// Builds the reviewer, which remembers in `memory`.
    pub fn reviewer_with(&self, snapshot: Snapshot, memory: MemoryStore) -> Reviewer {
        let clock = Arc::new(Clock::system());
        let bytes = self.metadata_memory << 20;
        let config = self.registry_config();
        let measures = config.measures.clone();
        let repositories = Repositories::measured(bytes, memory, Arc::clone(&clock), measures);
        let registry = Registry::new(config);
        Reviewer::new(snapshot, repositories, registry, self.unmatched.into(), clock)
    }

    /// The registries that may be contacted besides those that policies name.
    pub fn registries(&self) -> BTreeSet<String> {
        self.registry.iter().cloned().collect()
    }

    fn registry_config(&self) -> RegistryConfig {
        let mut token_hosts: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (registry, host) in &self.registry_token_host {
            token_hosts.entry(registry.clone()).or_default().push(host.clone());
        }
        RegistryConfig {
            docker_configs: self.docker_config.clone(),
            certs_dir: self.registry_certs_dir.clone(),
            token_hosts,
            ..RegistryConfig::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Line {
        #[command(flatten)]
        review: ReviewArgs,
    }

    #[test]
    fn metadata_gets_as_much_memory_as_the_flag_says() {
        let capacity = |flags: &[&str]| {
            let line = Line::try_parse_from(["countersign"].iter().chain(flags)).ok()?;
            let memory = MemoryStore::in_process();
            line.review.reviewer_with(Snapshot::default(), memory).repositories().capacity()
        };
        assert_eq!(capacity(&[]), Some(256 << 20));
        assert_eq!(capacity(&["--metadata-memory=7"]), Some(7 << 20));
        assert_eq!(capacity(&["--metadata-memory=0"]), None);
    }
}
