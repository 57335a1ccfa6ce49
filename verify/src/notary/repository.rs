//! A repository's verified metadata, ready to answer for images.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::Memory;
use super::metadata::Entry;
use super::role::{Delegation, TARGETS};
use super::root::TrustedRoot;
use crate::outcome::{Denial, KeyFingerprint, Refusal};
use crate::sorted::Sorted;

/// A repository's verified metadata at one moment. Only a finished [`super::Update`] makes one.
#[derive(Debug)]
pub struct Repository {
    pub(super) base: Base,
    pub(super) roles: BTreeMap<String, RoleState>,
    pub(super) memory: Memory,
    warnings: Vec<String>,
    bytes: u64,
}

/// The files that every lookup rests on.
#[derive(Debug)]
pub(super) struct Base {
    pub(super) root: Standing,
    pub(super) timestamp: Standing,
    pub(super) timestamp_sha256: [u8; 32],
    pub(super) snapshot: Standing,
    /// Whether every role's file was given as the snapshot lists it.
    pub(super) is_complete: bool,
}

/// How a verified file stands.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    pub(super) version: u64,
    pub(super) expires: Timestamp,
    pub(super) keys: BTreeSet<KeyFingerprint>,
    pub(super) signers: BTreeSet<KeyFingerprint>,
    pub(super) threshold: u64,
}

impl Standing {
    pub(super) fn of_root(trusted: &TrustedRoot) -> Self {
        let root = &trusted.root;
        Self {
            version: root.header.version,
            expires: root.header.expires.min(trusted.certified_until),
            keys: root.root.fingerprints(),
            signers: trusted.signers.clone(),
            threshold: root.root.threshold(),
        }
    }
}

/// What is known of a role that is delegated to, or of `targets`.
#[derive(Debug)]
pub(super) enum RoleState {
    Good(Box<Role>),
    Bad(Refusal),
    /// Delegated to, absent from the snapshot, and never seen before.
    Unpublished,
}

impl RoleState {
    /// A role that was seen before and is no more.
    pub(super) fn gone(role: &str, remembered: u64) -> Self {
        Self::Bad(Denial::Rollback { role: role.to_owned(), found: 0, remembered }.into())
    }
}

/// A verified targets role.
#[derive(Debug)]
pub(super) struct Role {
    pub(super) standing: Standing,
    pub(super) entries: Sorted<Box<str>, Entry>,
    /// In the file's order, with those paths only that lie under this role's own.
    pub(super) delegations: Vec<Delegation>,
}

impl Role {
    /// The memory that it takes, in bytes, without keys.
    pub(super) fn footprint(&self) -> usize {
        let values = self.entries.iter().map(|(_, entry)| entry.footprint());
        let delegations = self.delegations.iter().map(Delegation::footprint);
        self.entries.footprint() + values.sum::<usize>() + delegations.sum::<usize>()
    }

    pub(super) fn delegation(&self, name: &str) -> Option<&Delegation> {
        self.delegations.iter().find(|delegation| delegation.name == name)
    }
}

/// A role of a repository, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleInfo {
    /// Its name: `root`, `timestamp`, `snapshot`, `targets` or a delegation's.
    pub name: String,
    /// What it holds, or why it is not trusted.
    pub state: Result<RoleDetail, Refusal>,
}

/// A verified role, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoleDetail {
    /// The file's version.
    pub version: u64,
    /// When it expires; for the root, no later than the certificates that it rests on.
    pub expires: Timestamp,
    /// The keys that may sign it.
    pub keys: BTreeSet<KeyFingerprint>,
    /// Those that did.
    pub signers: BTreeSet<KeyFingerprint>,
    /// How many must.
    pub threshold: u64,
    /// How many tags it signs itself; 0 for root, timestamp and snapshot.
    pub entries: usize,
}

impl Repository {
    pub(super) fn new(
        base: Base,
        roles: BTreeMap<String, RoleState>,
        memory: Memory,
        warnings: Vec<String>,
        bytes: u64,
    ) -> Self {
        Self { base, roles, memory, warnings, bytes }
    }

    /// The sum of its verified files' lengths, without older roots. One of which more is made than
    /// twice its length in memory counts for half of that.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// When the first of root, timestamp, snapshot and `targets` expires.
    pub fn expires(&self) -> Timestamp {
        let Base { root, timestamp, snapshot, .. } = &self.base;
        let earliest = root.expires.min(timestamp.expires).min(snapshot.expires);
        match self.roles.get(TARGETS) {
            Some(RoleState::Good(targets)) => earliest.min(targets.standing.expires),
            _ => earliest,
        }
    }

    /// Every role, good or bad: root, timestamp, snapshot, then `targets` and its delegations.
    pub fn roles(&self) -> impl Iterator<Item = RoleInfo> {
        let Base { root, timestamp, snapshot, .. } = &self.base;
        let base = [("root", root), ("timestamp", timestamp), ("snapshot", snapshot)];
        let base = base.into_iter().map(|(name, standing)| RoleInfo {
            name: name.to_owned(),
            state: Ok(RoleDetail::new(standing, 0)),
        });
        base.chain(self.roles.iter().map(|(name, state)| RoleInfo {
            name: name.clone(),
            state: match state {
                RoleState::Good(role) => Ok(RoleDetail::new(&role.standing, role.entries.len())),
                RoleState::Bad(refusal) => Err(refusal.clone()),
                RoleState::Unpublished => Err(unpublished(name).into()),
            },
        }))
    }

    /// Whether every role's file was had as the snapshot lists it: where not, because it could not
    /// be fetched or other bytes were served, another update may tell more.
    pub fn is_complete(&self) -> bool {
        self.base.is_complete
    }

    /// Whether an update that begins with this `timestamp.json` would end in this very set: it is
    /// the one that this rests on, byte for byte, and neither what is remembered nor the time says
    /// otherwise. It lists the snapshot by its hash, and that one the root and every role, so a
    /// change of any of them would have changed it. Says `false` where only an update can tell.
    pub fn is_confirmed_by(&self, timestamp: &[u8], remembered: &Memory, now: Timestamp) -> bool {
        self.base.is_complete
            && self.memory == *remembered
            && now < self.expires()
            && self.base.timestamp_sha256 == super::sha256(timestamp)
    }

    /// What an admin should know, one sentence each.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// What was remembered when this was verified.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether something newer has been verified than this rests on, or another root of the same
    /// version: then it must not answer any more. What is older, or was forgotten, says nothing.
    pub fn superseded_by(&self, memory: &Memory) -> bool {
        self.memory.is_superseded_by(memory)
    }
}

impl RoleDetail {
    fn new(standing: &Standing, entries: usize) -> Self {
        let Standing { version, expires, keys, signers, threshold } = standing.clone();
        Self { version, expires, keys, signers, threshold, entries }
    }
}

/// The refusal of a role that has never been published and is needed.
pub(super) fn unpublished(role: &str) -> Denial {
    let reason = "it is delegated to, but the snapshot does not list it".to_owned();
    Denial::MalformedMetadata { file: role.to_owned(), reason }
}
