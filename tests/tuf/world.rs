//! Live repositories of TUF sources, and what their servers sign.

use std::sync::Arc;
use std::time::Duration;

use countersign::api::{Connection, Source, SourceKind};
use countersign::clock::Clock;
use countersign::metadata::{Live, MemoryStore, Repositories, Repository, Want};
use countersign_verify::limits;
use countersign_verify::outcome::Refusal;
use countersign_verify::tuf::InitialRoot;
use serde_json::json;
use url::Url;

use crate::builder::{Files, Repo, hex, now, path, sha256};
use crate::shell::{Question, code, find, tags};
use crate::signer;

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

fn source(urls: Vec<Url>, initial: InitialRoot, refresh_after: Duration) -> Source {
    let kind = SourceKind::Tuf {
        mirrors: urls,
        initial: Some(initial),
        max_delegations: limits::DELEGATIONS,
    };
    Source {
        name: "tuf".to_owned(),
        fingerprint: [0; 32],
        kind,
        connection: Connection::default(),
        refresh_after,
        refuse_after: refresh_after.max(MINUTE) * 60,
    }
}

pub(crate) struct World {
    pub(crate) repositories: Repositories,
    pub(crate) source: Arc<Source>,
}

impl World {
    pub(crate) fn new(urls: Vec<Url>, files: &Files, refresh_after: Duration) -> Self {
        Self::remembering(MemoryStore::in_process(), urls, files, refresh_after)
    }

    pub(crate) fn remembering(
        memory: MemoryStore,
        urls: Vec<Url>,
        files: &Files,
        refresh_after: Duration,
    ) -> Self {
        let clock = Arc::new(Clock::reading(now));
        let source = Arc::new(source(urls, files.initial(), refresh_after));
        Self { repositories: Repositories::new(memory, clock), source }
    }

    /// A review's way to the metadata for a tag.
    pub(crate) async fn ask(&self, tag: &str) -> Result<Arc<Repository>, Refusal> {
        let live = self.live(&tags(tag));
        match self.repositories.current(&live) {
            Some(current) => Ok(current),
            None => self.repositories.update(&live, "payments").await,
        }
    }

    pub(crate) fn live(&self, question: &Question) -> Live {
        let Question { lookup, reference } = question.clone();
        Live::tuf(Arc::clone(&self.source), vec![Want { lookup, reference }])
    }

    /// Whether a tag is signed for a word's manifest.
    pub(crate) async fn code(&self, tag: &str, word: &str) -> &'static str {
        match self.ask(tag).await {
            Ok(repository) => code(&find(repository.tuf().expect("of TUF"), &tags(tag), word)),
            Err(refusal) => refusal.code(),
        }
    }
}

pub(crate) fn signing() -> Repo {
    Repo::signing(&[("1.4", "new")])
}

/// Every role of the next version.
pub(crate) fn newer(repo: &mut Repo, version: u64) {
    for role in ["timestamp", "snapshot", "targets"] {
        repo.set(role, "version", json!(version));
    }
}

/// Sixteen bins, by the first digit of a name's hash, each with what it signs.
pub(crate) fn bins(targets: &[(&str, &str)]) -> Repo {
    let mut repo = Repo::new();
    let key = signer::Signer::default();
    for digit in "0123456789abcdef".chars() {
        let role = format!("bin-{digit}");
        let rule = json!({"path_hash_prefixes": [digit.to_string()]});
        repo.delegate("targets", &role, rule, std::slice::from_ref(&key), 1);
        let own: Vec<(&str, &str)> =
            targets.iter().copied().filter(|(tag, _)| bin(tag) == role).collect();
        repo.set_role(&role, &own, std::slice::from_ref(&key));
    }
    repo
}

/// The bin of a tag.
pub(crate) fn bin(tag: &str) -> String {
    format!("bin-{}", &hex(&sha256(path(tag).as_bytes()))[..1])
}

/// Two tags of different bins.
pub(crate) fn two_tags() -> (&'static str, &'static str) {
    let tags = ["a", "b", "c", "d", "e", "f"];
    let other = tags.into_iter().find(|tag| bin(tag) != bin("a")).expect("sixteen bins");
    ("a", other)
}
