//! One update of one repository's metadata: bytes in, checked in order, nothing fetched.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::delegation::Name;
use super::document::{Document, Identity, Listed, RoleKeys, Signed};
use super::lookup::{Query, Search, nobodys_digest};
use super::metadata::{self, Root, Snapshot, Targets};
use super::repository::Repository;
use super::tree::{Halt, Need, ROOT, Role, State, Tree, not_loaded};
use super::{Image, Lookup, SNAPSHOT, TARGETS, TIMESTAMP, file_name};
use crate::image::{Digest, Reference};
use crate::limits::{self, check_length};
use crate::memory::Memory;
use crate::outcome::{Denial, Refusal, Unavailable};

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
        Self {
            anchor: initial.anchor(),
            memory,
            now,
            max_delegations: limits::DELEGATIONS,
            stage: Stage::Root,
            root: Arc::clone(&initial.root),
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
            anchor,
            memory,
            now,
            max_delegations,
            stage: Stage::Roles,
            root,
            rotations: 0,
            timestamp: Some(timestamp),
            snapshot: Some(snapshot),
            tree,
            pending: Vec::new(),
            queries: Vec::new(),
            names: Vec::new(),
            old: Old::default(),
            kept: BTreeMap::new(),
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

    fn take_role(&mut self, role: &str, answer: &Answer<'_>) -> Result<(), Refusal> {
        let needs = std::mem::take(&mut self.pending);
        let (taken, rest): (Vec<_>, Vec<_>) = needs.into_iter().partition(|need| need.role == role);
        self.pending = rest;
        for need in taken {
            let loaded = bytes(role, answer.clone())
                .and_then(|bytes| self.load(&need, bytes).map_err(Refusal::from));
            match loaded {
                Ok(role) => self.settle(&need, State::Good(role)),
                Err(refusal) if need.parent == ROOT => return Err(refusal),
                Err(refusal) => self.settle(&need, State::Bad(refusal)),
            }
        }
        self.go_on();
        Ok(())
    }

    fn settle(&mut self, need: &Need, state: State) {
        self.tree.insert(&need.role, &need.parent, state);
        self.carry_over(&need.role, &need.parent);
    }

    /// Takes what was loaded below a role before, so that lookups other than this update's find it
    /// as well. Each pair of roles is taken once.
    fn carry_over(&mut self, role: &str, parent: &str) {
        let mut stack = vec![(role.to_owned(), parent.to_owned())];
        while let Some((role, parent)) = stack.pop() {
            let Some(State::Good(good)) = self.tree.get(&role, &parent) else { continue };
            let good = Arc::clone(good);
            let names = self.old.tree.below(&role);
            for (child, keys) in good.content.delegations.among(&names) {
                let is_new = self.tree.get(child, &role).is_none();
                if let Some(old) = self.reusable(child, &role, keys).filter(|_| is_new) {
                    self.tree.insert(child, &role, State::Good(old));
                    stack.push((child.to_owned(), role.clone()));
                }
            }
        }
    }

    /// A role that was verified before, where it still is what the snapshot and the role that
    /// delegates to it say.
    fn reusable(&self, role: &str, parent: &str, keys: &RoleKeys) -> Option<Arc<Role>> {
        let listed = self.listed(role)?;
        match self.old.tree.get(role, parent)? {
            State::Good(old) if listed.lists(&old.file) && old.is_signed_by(keys) => {
                Some(Arc::clone(old))
            }
            _ => None,
        }
    }

    /// Loads what the lookups need next from what is there already, and notes what has to be
    /// fetched. Every turn loads a role, of which a lookup visits a bounded number.
    fn go_on(&mut self) {
        while self.stage == Stage::Roles && self.pending.is_empty() {
            let needs = self.needs();
            if needs.is_empty() {
                return;
            }
            for need in needs {
                self.prepare(need);
            }
        }
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = Vec::new();
        let mut add = |halt: Halt| {
            let Halt::Missing(missing) = halt else { return };
            for need in missing {
                let known = |it: &Need| it.role == need.role && it.parent == need.parent;
                if !needs.iter().any(known) {
                    needs.push(need);
                }
            }
        };
        for Query { lookup, reference, digest } in &self.queries {
            let image = Image { reference, digest, size: None, manifest: None };
            let mut search = Search {
                tree: &self.tree,
                max_delegations: self.max_delegations,
                now: self.now,
                expires: Timestamp::MAX,
            };
            if let Err(halt) = search.evaluate(lookup, image) {
                add(halt);
            }
        }
        for name in &self.names {
            let has = |_: &str, role: &Role| Ok(role.content.entries.contains_key(name));
            if let Err(halt) = self.tree.walk(&Name::new(name), self.max_delegations, has) {
                add(halt);
            }
        }
        needs
    }

    /// Loads a role from an earlier update or run, or notes that it has to be fetched.
    fn prepare(&mut self, need: Need) {
        let Some(listed) = self.listed(&need.role) else {
            let refusal = unlisted(&need.role).into();
            return self.settle(&need, State::Bad(refusal));
        };
        if let Err(denial) =
            check_length(&need.role, listed.length.unwrap_or(0), limits::TUF_TARGETS_BYTES)
        {
            return self.settle(&need, State::Bad(denial.into()));
        }
        if let Some(old) = self.reusable(&need.role, &need.parent, &need.keys) {
            return self.settle(&need, State::Good(old));
        }
        if let Some(kept) = self.kept.get(&need.role).cloned()
            && let Ok(role) = self.load(&need, &kept)
        {
            return self.settle(&need, State::Good(role));
        }
        self.pending.push(need);
    }

    /// Clause 5.6, but for its version's floor, which the snapshot was held to.
    fn load(&mut self, need: &Need, bytes: &[u8]) -> Result<Arc<Role>, Denial> {
        let role = need.role.as_str();
        let listed = self.listed(role).ok_or_else(|| unlisted(role))?.clone();
        listed.check(role, bytes, SNAPSHOT)?;
        let document = Document::read(role, bytes, limits::TUF_TARGETS_BYTES)?;
        let (header, targets) = Targets::read(&document)?;
        let file = Identity::of(bytes, header.version);
        let signed = Signed::verify(role, &document, header, file, &need.keys, targets)?;
        check_version(role, header.version, listed.version, SNAPSHOT)?;
        self.remember_role(role, header.version);
        check_expiry(role, header.expires, self.now)?;
        Ok(Arc::new(signed))
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
        Answer::Absent => {
            let reason = "it is part of the repository, and the server does not have it".to_owned();
            Err(Denial::MalformedMetadata { file: role.to_owned(), reason }.into())
        }
    }
}

fn unlisted(role: &str) -> Denial {
    let reason = "it is delegated to, but the snapshot does not list it".to_owned();
    Denial::MalformedMetadata { file: role.to_owned(), reason }
}

/// Refuses a file of another version than the one that lists it says.
fn check_version(role: &str, found: u64, listed: u64, by: &str) -> Result<(), Denial> {
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
