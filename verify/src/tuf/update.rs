//! One update of one repository's metadata: bytes in, checked in order, nothing fetched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;

use super::document::{Listed, Signed};
use super::lookup::{Query, nobodys_digest};
use super::metadata::{self, Root, Snapshot};
use super::repository::Repository;
use super::tree::{Need, ROOT, State, Tree, not_loaded};
use super::{Lookup, SNAPSHOT, TARGETS, TIMESTAMP, file_name};
use crate::image::{Digest, Reference};
use crate::limits;
use crate::memory::Memory;
use crate::outcome::{Denial, Refusal, Unavailable};

mod roles;
mod root;
mod top;

pub use root::InitialRoot;

/// A file that an update needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// The role, to be given back with the file.
    pub role: String,
    /// The file's path below the metadata's URL.
    pub path: String,
    /// So many bytes may be read.
    pub max_bytes: u64,
}

/// What came of fetching a [`File`].
#[derive(Debug, Clone)]
pub enum Answer<'a> {
    /// Its bytes.
    Bytes(&'a [u8]),
    /// The server does not have it. Of a root that is how the newest one shows.
    Absent,
    /// It is longer than may be read.
    TooLong {
        /// So many bytes may be.
        limit: u64,
    },
    /// It could not be had.
    Unavailable(Unavailable),
}

/// One update of one repository: give it the files of [`Update::wanted`] until it wants none.
#[derive(Debug)]
pub struct Update {
    anchor: String,
    memory: Memory,
    now: Timestamp,
    max_delegations: usize,
    stage: Stage,
    root: Arc<Signed<Root>>,
    rotations: u64,
    timestamp: Option<Arc<Signed<metadata::Timestamp>>>,
    snapshot: Option<Arc<Signed<Snapshot>>>,
    tree: Tree,
    pending: Vec<Need>,
    queries: Vec<Query>,
    names: Vec<String>,
    old: Old,
    /// Files from an earlier run, by role: not trusted.
    kept: BTreeMap<String, Vec<u8>>,
}

/// What was verified before, and may hold still.
#[derive(Debug, Default)]
struct Old {
    timestamp: Option<Arc<Signed<metadata::Timestamp>>>,
    snapshot: Option<Arc<Signed<Snapshot>>>,
    tree: Tree,
    /// The roles of the tree, by what delegates to them.
    below: BTreeMap<String, BTreeSet<String>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Root,
    Timestamp,
    Snapshot,
    Roles,
    Failed(Refusal),
}

impl Update {
    /// Starts at the initial root, at `now`.
    pub fn new(initial: &InitialRoot, memory: Memory, now: Timestamp) -> Self {
        Self::bare(initial.anchor(), Arc::clone(&initial.root), memory, now)
    }

    /// With a root, and nothing else yet.
    fn bare(anchor: String, root: Arc<Signed<Root>>, memory: Memory, now: Timestamp) -> Self {
        Self {
            anchor,
            memory,
            now,
            max_delegations: limits::DELEGATIONS,
            stage: Stage::Root,
            root,
            rotations: 0,
            timestamp: None,
            snapshot: None,
            tree: Tree::default(),
            pending: Vec::new(),
            queries: Vec::new(),
            names: Vec::new(),
            old: Old::default(),
            kept: BTreeMap::new(),
        }
    }

    /// Starts where an earlier update of the same repository ended: its root, and whatever of it
    /// is still current, need not be given again. One of another initial root is of no use.
    #[must_use]
    pub fn after(mut self, earlier: &Repository) -> Self {
        if self.anchor == earlier.anchor && self.stage == Stage::Root && self.rotations == 0 {
            self.root = Arc::clone(&earlier.root);
            self.old = Old {
                timestamp: Some(Arc::clone(&earlier.timestamp)),
                snapshot: Some(Arc::clone(&earlier.snapshot)),
                tree: earlier.tree.clone(),
                below: earlier.tree.by_parent(),
            };
        }
        self
    }

    /// Goes on with a set that is there, and fetches nothing but the delegated roles that
    /// [`Update::want`] asks for and that it does not have.
    pub fn within(repository: &Repository, now: Timestamp) -> Self {
        let Repository { anchor, root, timestamp, snapshot, tree, memory, max_delegations } =
            repository.clone();
        Self {
            max_delegations,
            stage: Stage::Roles,
            timestamp: Some(timestamp),
            snapshot: Some(snapshot),
            // What could not be had is asked for again.
            tree: tree.without_unavailable(),
            ..Self::bare(anchor, root, memory, now)
        }
    }

    /// Offers files from an earlier run, by role. They are verified like any other, and those
    /// that are not what is needed are ignored; a timestamp or snapshot among them is a floor for
    /// the new one.
    #[must_use]
    pub fn with_kept_files(mut self, files: BTreeMap<String, Vec<u8>>) -> Self {
        self.kept = files;
        self
    }

    /// Bounds how many delegations one lookup visits; [`limits::DELEGATIONS`] without it.
    #[must_use]
    pub fn with_max_delegations(mut self, max_delegations: usize) -> Self {
        self.max_delegations = max_delegations;
        self
    }

    /// Asks for the roles that looking this image up needs. Without a digest the roles of its tag
    /// are loaded.
    pub fn want(&mut self, lookup: &Arc<Lookup>, reference: &Reference, digest: Option<&Digest>) {
        let digest = digest.or(reference.digest()).cloned().unwrap_or_else(nobodys_digest);
        self.queries.push(Query {
            lookup: Arc::clone(lookup),
            reference: reference.clone(),
            digest,
        });
        self.go_on();
    }

    /// Asks for the roles that finding this target needs.
    pub fn want_target(&mut self, name: &str) {
        self.names.push(name.to_owned());
        self.go_on();
    }

    /// What is remembered by now. Every verified step has raised it, also when a later one fails.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// The files that are needed next, any of which may be fetched and given in any order; none
    /// where the update is at its end or has failed.
    pub fn wanted(&self) -> Vec<File> {
        let file = |role: &str, listed: Option<&Listed>, limit: u64| {
            let version = listed.map(|listed| listed.version);
            let length = listed.and_then(|listed| listed.length);
            File {
                role: role.to_owned(),
                path: self.path(role, version),
                max_bytes: length.unwrap_or(limit).min(limit),
            }
        };
        match &self.stage {
            Stage::Root => vec![File {
                role: ROOT.to_owned(),
                path: format!("{}.root.json", u128::from(self.root.header.version) + 1),
                max_bytes: limits::TUF_ROOT_BYTES,
            }],
            Stage::Timestamp => vec![file(TIMESTAMP, None, limits::TUF_TIMESTAMP_BYTES)],
            Stage::Snapshot => {
                let listed = self.timestamp.as_ref().map(|it| &it.content.snapshot);
                vec![file(SNAPSHOT, listed, limits::TUF_SNAPSHOT_BYTES)]
            }
            Stage::Roles => {
                let mut files: Vec<File> = Vec::new();
                for need in &self.pending {
                    if files.iter().all(|file| file.role != need.role) {
                        let listed = self.listed(&need.role);
                        files.push(file(&need.role, listed, limits::TUF_TARGETS_BYTES));
                    }
                }
                files
            }
            Stage::Failed(_) => Vec::new(),
        }
    }

    fn path(&self, role: &str, version: Option<u64>) -> String {
        let name = file_name(role);
        match version.filter(|_| self.root.content.consistent) {
            Some(version) => format!("{version}.{name}.json"),
            None => format!("{name}.json"),
        }
    }

    fn listed(&self, role: &str) -> Option<&Listed> {
        self.snapshot.as_ref().and_then(|snapshot| snapshot.content.roles.get(role))
    }

    /// Takes a file that was wanted; one that was not is ignored. A delegated role that is bad or
    /// could not be had keeps its refusal, and harms those lookups only whose path it is on.
    ///
    /// # Errors
    /// Where the update has failed: nothing more is wanted.
    pub fn take(&mut self, role: &str, answer: Answer<'_>) -> Result<(), Refusal> {
        let taken = match (&self.stage, role) {
            (Stage::Root, ROOT) => self.take_root(answer),
            (Stage::Timestamp, TIMESTAMP) => {
                bytes(role, answer).and_then(|bytes| Ok(self.take_timestamp(bytes)?))
            }
            (Stage::Snapshot, SNAPSHOT) => {
                bytes(role, answer).and_then(|bytes| Ok(self.take_snapshot(bytes)?))
            }
            (Stage::Roles, _) => self.take_role(role, &answer),
            (Stage::Failed(refusal), _) => return Err(refusal.clone()),
            _ => Ok(()),
        };
        if let Err(refusal) = &taken {
            self.stage = Stage::Failed(refusal.clone());
        }
        taken
    }

    /// Ends the update.
    ///
    /// # Errors
    /// Where it failed, or a file that every lookup rests on is missing. A delegated role that was
    /// wanted and never given refuses the lookups whose path it is on.
    pub fn finish(self) -> Result<Repository, Refusal> {
        if let Stage::Failed(refusal) = self.stage {
            return Err(refusal);
        }
        let (Some(timestamp), Some(snapshot), Some(State::Good(_))) =
            (self.timestamp, self.snapshot, self.tree.get(TARGETS, ROOT))
        else {
            return Err(not_loaded(TARGETS).into());
        };
        Ok(Repository {
            anchor: self.anchor,
            root: self.root,
            timestamp,
            snapshot,
            tree: self.tree,
            memory: self.memory,
            max_delegations: self.max_delegations,
        })
    }
}

/// The bytes of a file that has to be there.
fn bytes<'a>(role: &str, answer: Answer<'a>) -> Result<&'a [u8], Refusal> {
    match answer {
        Answer::Bytes(bytes) => Ok(bytes),
        Answer::Unavailable(unavailable) => Err(unavailable.into()),
        Answer::TooLong { limit } => {
            let what = format!("{role}, in bytes,");
            Err(Denial::LimitExceeded { what, limit }.into())
        }
        Answer::Absent => {
            let reason = "it is part of the repository, and the server does not have it".to_owned();
            Err(Denial::MalformedMetadata { file: role.to_owned(), reason }.into())
        }
    }
}

/// Refuses a file of another version than the one that lists it says.
pub(super) fn check_version(role: &str, found: u64, listed: u64, by: &str) -> Result<(), Denial> {
    if found == listed {
        return Ok(());
    }
    let reason = format!("it is of version {found}; {by} lists version {listed}");
    Err(Denial::MalformedMetadata { file: role.to_owned(), reason })
}

/// Refuses what has expired by `now`.
fn check_expiry(role: &str, expired: Timestamp, now: Timestamp) -> Result<(), Denial> {
    if expired <= now {
        return Err(Denial::Expired { role: role.to_owned(), expired, now });
    }
    Ok(())
}
