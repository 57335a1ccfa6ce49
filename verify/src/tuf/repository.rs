//! A repository's verified metadata, ready to answer for images.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::TARGETS;
use super::document::{RoleKeys, Signed};
use super::metadata::{self, Entry, Root, Snapshot};
use super::tree::{ROOT, State, Tree};
use crate::limits::counted;
use crate::memory::Memory;
use crate::notary::{RoleDetail, RoleInfo};

/// A repository's verified metadata at one moment. Only a finished [`super::Update`] makes one.
#[derive(Debug, Clone)]
pub struct Repository {
    /// Names the initial root that everything here rests on.
    pub(super) anchor: String,
    pub(super) root: Arc<Signed<Root>>,
    pub(super) timestamp: Arc<Signed<metadata::Timestamp>>,
    pub(super) snapshot: Arc<Signed<Snapshot>>,
    pub(super) tree: Tree,
    pub(super) memory: Memory,
    pub(super) max_delegations: usize,
}

/// A signed target file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The role that answers for its name.
    pub role: String,
    /// In bytes.
    pub length: u64,
    /// Where it is listed.
    pub sha256: Option<[u8; 32]>,
    /// Where it is listed.
    pub sha512: Option<[u8; 64]>,
    /// What the signer adds, as canonical JSON. It decides nothing.
    pub custom: Option<String>,
}

impl Target {
    pub(super) fn new(role: &str, entry: &Entry) -> Self {
        let Entry { length, sha256, sha512, custom } = entry;
        let (length, sha256, sha512) = (*length, *sha256, sha512.as_deref().copied());
        let custom = custom.as_deref().map(str::to_owned);
        Self { role: role.to_owned(), length, sha256, sha512, custom }
    }

    /// Whether `bytes` have its length and every listed hash, of which there is at least one.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        self.length == bytes.len() as u64
            && (self.sha256.is_some() || self.sha512.is_some())
            && self.sha256.is_none_or(|hash| hash == crate::hash::sha256(bytes))
            && self.sha512.is_none_or(|hash| hash == crate::hash::sha512(bytes))
    }
}

impl Repository {
    /// What was remembered when this was verified.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Whether a newer root or timestamp has been verified than this rests on: then it must not
    /// answer any more.
    pub fn superseded_by(&self, memory: &Memory) -> bool {
        self.memory.is_superseded_by(memory)
    }

    /// Whether it rests on the same root, timestamp and snapshot as an earlier one: nothing was
    /// signed since.
    pub fn is_unchanged_since(&self, earlier: &Self) -> bool {
        Arc::ptr_eq(&self.root, &earlier.root)
            && Arc::ptr_eq(&self.timestamp, &earlier.timestamp)
            && Arc::ptr_eq(&self.snapshot, &earlier.snapshot)
    }

    /// The same without the roles that could not be had: they are loaded again where they are
    /// wanted.
    #[must_use]
    pub fn without_unavailable(&self) -> Self {
        Self { tree: self.tree.clone().without_unavailable(), ..self.clone() }
    }

    /// Whether file names begin with versions, and target files' with hashes.
    pub fn is_consistent(&self) -> bool {
        self.root.content.consistent
    }

    /// When the first of root, timestamp, snapshot and `targets` expires.
    pub fn expires(&self) -> Timestamp {
        let base = [self.root.header, self.timestamp.header, self.snapshot.header];
        let targets = match self.tree.get(TARGETS, ROOT) {
            Some(State::Good(targets)) => Some(targets.header),
            _ => None,
        };
        let all = base.into_iter().chain(targets).map(|header| header.expires);
        all.min().unwrap_or(Timestamp::MIN)
    }

    /// Whether every role that a lookup asked for could be fetched: where not, another update may
    /// tell more.
    pub fn is_complete(&self) -> bool {
        !self.tree.iter().any(|(_, _, state)| state.is_unavailable())
    }

    /// The sum of its files' lengths, without older roots. One of which more is made than twice its
    /// length in memory counts for half of that.
    pub fn bytes(&self) -> u64 {
        let snapshot = counted(self.snapshot.file.length, self.snapshot.content.footprint());
        let roles: BTreeMap<&str, u64> = self
            .tree
            .iter()
            .filter_map(|(role, _, state)| match state {
                State::Good(good) => {
                    Some((role, counted(good.file.length, good.content.footprint())))
                }
                State::Bad(_) => None,
            })
            .collect();
        let base = [self.root.file.length, self.timestamp.file.length, snapshot];
        base.into_iter().chain(roles.into_values()).sum()
    }

    /// Every role that is loaded, good or bad: root, timestamp, snapshot, then `targets` and
    /// delegated ones by name; one that several delegate to is there as often.
    pub fn roles(&self) -> impl Iterator<Item = RoleInfo> {
        let base = [
            ("root", detail(&self.root, &self.root.content.root, 0)),
            ("timestamp", detail(&self.timestamp, &self.timestamp.keys, 0)),
            ("snapshot", detail(&self.snapshot, &self.snapshot.keys, 0)),
        ];
        let base = base.into_iter().map(|(name, detail)| (name, Ok(detail)));
        let roles = self.tree.iter().map(|(name, _, state)| match state {
            State::Good(role) => (name, Ok(detail(role, &role.keys, role.content.entries.len()))),
            State::Bad(refusal) => (name, Err(refusal.clone())),
        });
        base.chain(roles).map(|(name, state)| RoleInfo { name: name.to_owned(), state })
    }
}

pub(super) fn detail<T>(signed: &Signed<T>, keys: &RoleKeys, entries: usize) -> RoleDetail {
    RoleDetail {
        version: signed.header.version,
        expires: signed.header.expires,
        keys: keys.fingerprints(),
        signers: signed.signers.clone(),
        threshold: keys.threshold(),
        entries,
    }
}
