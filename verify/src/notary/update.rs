//! One update of one repository's metadata: bytes in, checked in order, nothing fetched.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use jiff::Timestamp;

use super::metadata::{Envelope, FileMeta, Header, Listing, Targets};
use super::pin::Pin;
use super::repository::{Base, Repository, Role, RoleState, Standing};
use super::role::{Delegation, RELEASES, RoleKeys, TARGETS};
use super::root::{Judge, Progress, TrustedRoot, Walk};
use super::{Floor, Memory};
use crate::limits::{self, check_length, counted};
use crate::outcome::{Denial, Refusal, Unavailable, listed};

const TIMESTAMP: &str = "timestamp";
const SNAPSHOT: &str = "snapshot";

/// What is to be done after a root was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RootStep {
    /// The newest root is trusted.
    Trusted,
    /// These versions, as `<n>.root.json`, are needed to show that it is: all of them, though the
    /// newest may be enough.
    Needs(RangeInclusive<u64>),
}

/// What is to be done after the snapshot was given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnapshotStep {
    /// The snapshot is trusted.
    Trusted,
    /// It lists another root than the one given: there may be a newer one by now. Start again
    /// once, from a freshly fetched root.
    RootChanged,
}

/// One update of one repository. Give it the newest root, older roots while they are asked for,
/// the timestamp, the snapshot, and then every wanted role, until none is wanted.
#[derive(Debug)]
pub struct Update<'p> {
    pin: &'p Pin,
    repository: String,
    memory: Memory,
    now: Timestamp,
    walk: Option<Walk>,
    root: Option<TrustedRoot>,
    timestamp: Option<VerifiedTimestamp>,
    snapshot: Option<(Standing, BTreeMap<String, FileMeta>)>,
    roles: BTreeMap<String, RoleState>,
    wanted: BTreeMap<String, Pending>,
    /// Whether some role's file, as the snapshot lists it, was not given.
    lacks_files: bool,
    /// Delegations loaded or to be loaded.
    delegations: usize,
    /// The lengths that are listed of these and of `targets`, summed up.
    listed: u64,
    /// The lengths of the verified files but the root, summed up.
    bytes: u64,
}

/// A verified timestamp, the snapshot that it lists, and its own bytes' sha256.
#[derive(Debug)]
struct VerifiedTimestamp {
    standing: Standing,
    snapshot: FileMeta,
    sha256: [u8; 32],
}

/// A role that can be loaded now.
#[derive(Debug)]
struct Pending {
    file: FileMeta,
    keys: RoleKeys,
    paths: Vec<String>,
}

impl<'p> Update<'p> {
    /// Starts an update of `repository` (`registry/repository`, normalised) at `now`.
    pub fn new(pin: &'p Pin, repository: &str, memory: Memory, now: Timestamp) -> Self {
        Self {
            pin,
            repository: repository.to_owned(),
            memory,
            now,
            walk: None,
            root: None,
            timestamp: None,
            snapshot: None,
            roles: BTreeMap::new(),
            wanted: BTreeMap::new(),
            lacks_files: false,
            delegations: 0,
            listed: 0,
            bytes: 0,
        }
    }

    /// What is remembered by now. Every verified step has raised it, also when a later one fails.
    pub fn memory(&self) -> &Memory {
        &self.memory
    }

    /// Takes the newest root, `root.json`.
    ///
    /// # Errors
    /// Where it is malformed, older than one seen before, not signed as it says, expired, or
    /// cannot be led back to the pinned keys.
    pub fn root(&mut self, newest: &[u8]) -> Result<RootStep, Denial> {
        if self.root.is_some() || self.walk.is_some() {
            return Err(out_of_order("root"));
        }
        let progress = Walk::start(self.judge(), newest)?;
        self.take_root(progress)
    }

    /// Takes the older roots that were asked for, by version. One asked for and absent breaks the
    /// chain, unless a newer one was enough.
    ///
    /// # Errors
    /// As for [`Update::root`].
    pub fn older_roots(&mut self, files: BTreeMap<u64, Vec<u8>>) -> Result<RootStep, Denial> {
        let walk = self.walk.take().ok_or_else(|| out_of_order("root"))?;
        let progress = walk.older(self.judge(), &files)?;
        self.take_root(progress)
    }

    fn judge(&self) -> Judge<'_> {
        let Self { pin, repository, memory, now, .. } = self;
        Judge { pin, repository, memory, now: *now }
    }

    fn take_root(&mut self, progress: Progress) -> Result<RootStep, Denial> {
        let root = match progress {
            Progress::Needs(walk, versions) => {
                self.walk = Some(*walk);
                return Ok(RootStep::Needs(versions));
            }
            Progress::Trusted(root) => *root,
        };
        self.memory.root = Some(root.floor());
        let listed = &root.root;
        for (role, keys) in [
            (TIMESTAMP, &listed.timestamp),
            (SNAPSHOT, &listed.snapshot),
            (TARGETS, &listed.targets),
        ] {
            self.memory.rotate(role, keys.name());
        }
        // notary-v1 rule 12: only the last root's expiry counts.
        check_expiry("root", root.root.header.expires, self.now)?;
        self.root = Some(root);
        Ok(RootStep::Trusted)
    }

    /// Takes `timestamp.json`.
    ///
    /// # Errors
    /// Where it is malformed, not signed as the root says, older than one seen before, or expired.
    pub fn timestamp(&mut self, bytes: &[u8]) -> Result<(), Denial> {
        let (Some(root), None) = (&self.root, &self.timestamp) else {
            return Err(out_of_order(TIMESTAMP));
        };
        let keys = root.root.timestamp.clone();
        let envelope = Envelope::read(TIMESTAMP, bytes, limits::TIMESTAMP_BYTES)?;
        let mut listing = Listing::read(&envelope, "Timestamp")?;
        let standing = self.accept(TIMESTAMP, &keys, &envelope, listing.header)?;
        let snapshot = listing
            .meta
            .remove(SNAPSHOT)
            .ok_or_else(|| malformed(TIMESTAMP, "it does not list the snapshot"))?;
        check_length(SNAPSHOT, snapshot.length, limits::SNAPSHOT_BYTES)?;
        let sha256 = super::sha256(bytes);
        self.timestamp = Some(VerifiedTimestamp { standing, snapshot, sha256 });
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// The snapshot that the timestamp lists.
    pub fn snapshot_file(&self) -> Option<FileMeta> {
        self.timestamp.as_ref().map(|timestamp| timestamp.snapshot.clone())
    }

    /// Takes the snapshot.
    ///
    /// # Errors
    /// Where it is not the one that the timestamp lists, malformed, not signed as the root says,
    /// older than one seen before, or expired.
    pub fn snapshot(&mut self, bytes: &[u8]) -> Result<SnapshotStep, Denial> {
        let (Some(root), Some(timestamp), None) = (&self.root, &self.timestamp, &self.snapshot)
        else {
            return Err(out_of_order(SNAPSHOT));
        };
        timestamp.snapshot.check(SNAPSHOT, bytes, TIMESTAMP)?;
        let envelope = Envelope::read(SNAPSHOT, bytes, limits::SNAPSHOT_BYTES)?;
        let listing = Listing::read(&envelope, "Snapshot")?;
        let listed = listing.meta.get("root");
        let listed = listed.ok_or_else(|| malformed(SNAPSHOT, "it does not list the root"))?;
        // Before the signatures: a newer root may have changed the snapshot's keys as well.
        if !listed.lists(&root.file) {
            return Ok(SnapshotStep::RootChanged);
        }
        let (keys, targets) = (root.root.snapshot.clone(), root.root.targets.clone());
        let standing = self.accept(SNAPSHOT, &keys, &envelope, listing.header)?;
        self.snapshot = Some((standing, listing.meta));
        self.bytes += bytes.len() as u64;
        self.expect(TARGETS.to_owned(), targets, vec![String::new()]);
        Ok(SnapshotStep::Trusted)
    }

    /// The roles that can be loaded now and are not: first `targets`, then delegations level by
    /// level over the whole tree.
    pub fn wanted_roles(&self) -> Vec<(String, FileMeta)> {
        self.wanted.iter().map(|(name, pending)| (name.clone(), pending.file.clone())).collect()
    }

    /// Takes a wanted role's file. Never fails as a whole: a role that is bad or unavailable keeps
    /// its refusal, and harms those lookups only whose path it is on. Others are ignored.
    pub fn role(&mut self, role: &str, file: Result<&[u8], Unavailable>) {
        let Some(pending) = self.wanted.remove(role) else { return };
        self.lacks_files |= !file.as_ref().is_ok_and(|bytes| pending.file.matches(bytes));
        let loaded = match file {
            Ok(bytes) => self.load(role, &pending, bytes).map_err(Refusal::from),
            Err(unavailable) => Err(unavailable.into()),
        };
        let mut delegations = match &loaded {
            Ok(loaded) => loaded.delegations.clone(),
            Err(_) => Vec::new(),
        };
        let state = loaded.map_or_else(RoleState::Bad, |role| RoleState::Good(Box::new(role)));
        self.roles.insert(role.to_owned(), state);
        // Where there are too many, Docker's own comes first.
        delegations.sort_by_key(|delegation| delegation.name != RELEASES);
        for Delegation { name, keys, paths } in delegations {
            self.expect(name, keys, paths);
        }
    }

    fn load(&mut self, role: &str, pending: &Pending, bytes: &[u8]) -> Result<Role, Denial> {
        pending.file.check(role, bytes, SNAPSHOT)?;
        let envelope = Envelope::read(role, bytes, limits::TARGETS_BYTES)?;
        let mut targets = Targets::read(&envelope, role)?;
        let standing = self.accept(role, &pending.keys, &envelope, targets.header)?;
        for delegation in &mut targets.delegations {
            delegation.restrict(&pending.paths);
        }
        let Targets { entries, delegations, .. } = targets;
        let role = Role { standing, entries, delegations };
        self.bytes += counted(bytes.len() as u64, role.footprint());
        Ok(role)
    }

    /// Notes a role that is delegated to: to be loaded, or why it cannot be.
    fn expect(&mut self, name: String, keys: RoleKeys, paths: Vec<String>) {
        let seen = self.memory.roles.get(&name).map(|floor| floor.version);
        self.memory.rotate(&name, keys.name());
        let file = self.snapshot.as_ref().and_then(|(_, meta)| meta.get(&name));
        let state = match file {
            None => match seen {
                Some(version) => RoleState::gone(&name, version),
                None if name == TARGETS => {
                    RoleState::Bad(malformed(SNAPSHOT, "it does not list targets").into())
                }
                None => RoleState::Unpublished,
            },
            Some(file) => match self.check_limits(&name, file) {
                Err(denial) => RoleState::Bad(denial.into()),
                Ok(()) => {
                    let file = file.clone();
                    self.delegations += usize::from(name != TARGETS);
                    self.listed += file.length;
                    self.wanted.insert(name, Pending { file, keys, paths });
                    return;
                }
            },
        };
        self.roles.insert(name, state);
    }

    fn check_limits(&self, name: &str, file: &FileMeta) -> Result<(), Denial> {
        check_length(name, file.length, limits::TARGETS_BYTES)?;
        let exceeded = |what: &str, limit: u64| {
            let what = format!("{what} at {name}");
            Err(Denial::LimitExceeded { what, limit })
        };
        if name.matches('/').count() > limits::DELEGATION_DEPTH {
            return exceeded("the depth of delegations", limits::DELEGATION_DEPTH as u64);
        }
        if self.delegations >= limits::DELEGATIONS && name != TARGETS {
            return exceeded("the number of delegations", limits::DELEGATIONS as u64);
        }
        if self.listed + file.length > limits::NOTARY_REPOSITORY_BYTES {
            let what = "the sum of a repository's targets files, in bytes,";
            return exceeded(what, limits::NOTARY_REPOSITORY_BYTES);
        }
        Ok(())
    }

    /// The checks that every role but root shares: threshold, version, expiry, in this order, so
    /// that what is verified is remembered even if it has expired.
    fn accept(
        &mut self,
        role: &str,
        keys: &RoleKeys,
        envelope: &Envelope<'_>,
        header: Header,
    ) -> Result<Standing, Denial> {
        let signers = keys.verify(role, &envelope.sealed)?;
        let Header { version, expires } = header;
        let floor = Floor { version, keys: keys.name() };
        if let Some(seen) = self.memory.roles.get(role)
            && seen.keys == floor.keys
            && version < seen.version
        {
            let (role, remembered) = (role.to_owned(), seen.version);
            return Err(Denial::Rollback { role, found: version, remembered });
        }
        self.memory.roles.insert(role.to_owned(), floor);
        check_expiry(role, expires, self.now)?;
        let (keys, threshold) = (keys.fingerprints(), keys.threshold());
        Ok(Standing { version, expires, keys, signers, threshold })
    }

    /// Ends the update.
    ///
    /// # Errors
    /// Where the root, timestamp, snapshot or `targets` is missing or bad. A wanted role that was
    /// never given is refused like a bad one.
    pub fn finish(mut self) -> Result<Repository, Refusal> {
        for (name, _) in std::mem::take(&mut self.wanted) {
            self.lacks_files = true;
            let refusal = malformed(&name, "it was not loaded").into();
            self.roles.insert(name, RoleState::Bad(refusal));
        }
        let (Some(root), Some(timestamp), Some((snapshot, _))) =
            (self.root, self.timestamp, self.snapshot)
        else {
            return Err(out_of_order(TARGETS).into());
        };
        match self.roles.get(TARGETS) {
            Some(RoleState::Good(_)) => {}
            Some(RoleState::Bad(refusal)) => return Err(refusal.clone()),
            _ => return Err(out_of_order(TARGETS).into()),
        }
        let warnings = warnings(self.pin, &root);
        let bytes = self.bytes + root.file.length;
        let base = Base {
            root: Standing::of_root(&root),
            timestamp: timestamp.standing,
            timestamp_sha256: timestamp.sha256,
            snapshot,
            is_complete: !self.lacks_files,
        };
        Ok(Repository::new(base, self.roles, self.memory, warnings, bytes))
    }
}

fn warnings(pin: &Pin, root: &TrustedRoot) -> Vec<String> {
    let newest = root.root.header.version;
    if root.start == newest {
        return Vec::new();
    }
    let keys = root.root.root.fingerprints().into_iter().map(|key| key.to_string());
    vec![format!(
        "pin \"{}\" is behind: it leads to root {}, and root {newest} is signed by other keys; \
         pin these too: {}",
        pin.name,
        root.start,
        listed(keys).join(", ")
    )]
}

fn malformed(file: &str, reason: &str) -> Denial {
    Denial::MalformedMetadata { file: file.to_owned(), reason: reason.to_owned() }
}

/// A caller's mistake, which must not become an admission.
fn out_of_order(file: &str) -> Denial {
    malformed(file, "it was not given in its place in the update")
}

/// Refuses what has expired by `now`.
pub(super) fn check_expiry(role: &str, expired: Timestamp, now: Timestamp) -> Result<(), Denial> {
    if expired <= now {
        return Err(Denial::Expired { role: role.to_owned(), expired, now });
    }
    Ok(())
}
