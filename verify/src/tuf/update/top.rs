//! Clauses 5.4 and 5.5: timestamp and snapshot, and what is remembered of versions.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Stage, Update, check_expiry, check_version};
use crate::limits::{self, check_length};
use crate::memory::Floor;
use crate::outcome::{Denial, KeyFingerprint, shortened};
use crate::tuf::document::{Document, Identity, RoleKeys, Signed};
use crate::tuf::metadata::{Snapshot, Timestamp};
use crate::tuf::tree::{Need, ROOT};
use crate::tuf::{SNAPSHOT, TARGETS, TIMESTAMP, file_name, role_name};

impl Update {
    /// What was verified before holds while the newest root's keys have signed it; what they have
    /// not is forgotten (5.3.11).
    pub(super) fn read_kept(&mut self) {
        let root = Arc::clone(&self.root);
        let (timestamp, snapshot) = (&root.content.timestamp, &root.content.snapshot);
        let old = &mut self.old;
        old.timestamp = old.timestamp.take().filter(|old| old.is_signed_by(timestamp));
        old.snapshot = old.snapshot.take().filter(|old| old.is_signed_by(snapshot));
        if let (None, Some(kept)) = (&old.timestamp, self.kept.get(TIMESTAMP)) {
            old.timestamp = read_timestamp(kept, timestamp).ok().map(Arc::new);
        }
        if let (None, Some(kept)) = (&old.snapshot, self.kept.get(SNAPSHOT)) {
            old.snapshot = read_snapshot(kept, snapshot).ok().map(Arc::new);
        }
    }

    pub(super) fn take_timestamp(&mut self, bytes: &[u8]) -> Result<(), Denial> {
        let keys = self.root.content.timestamp.clone();
        let mut timestamp = Arc::new(read_timestamp(bytes, &keys)?);
        self.remember_root();
        let version = timestamp.header.version;
        let old = self.old.timestamp.take();
        check_rollback(TIMESTAMP, version, old.as_ref().map(|old| old.header.version))?;
        check_rollback(TIMESTAMP, version, self.floor(TIMESTAMP))?;
        // 5.4.3.1: of the same version the one that is trusted stays.
        if let Some(old) = old.as_ref().filter(|old| old.header.version == version) {
            timestamp = Arc::clone(old);
        }
        let snapshot = timestamp.content.snapshot.clone();
        let floor = old.as_ref().map(|old| old.content.snapshot.version);
        check_rollback(SNAPSHOT, snapshot.version, floor)?;
        check_rollback(SNAPSHOT, snapshot.version, self.floor(SNAPSHOT))?;
        self.remember(TIMESTAMP, version, &timestamp.signers);
        self.remember(SNAPSHOT, snapshot.version, &timestamp.signers);
        check_expiry(TIMESTAMP, timestamp.header.expires, self.now)?;
        check_length(SNAPSHOT, snapshot.length.unwrap_or(0), limits::TUF_SNAPSHOT_BYTES)?;
        self.timestamp = Some(timestamp);
        self.stage = Stage::Snapshot;
        if let Some(old) = self.old.snapshot.clone()
            && snapshot.lists(&old.file)
        {
            self.trust_snapshot(old)?;
        }
        Ok(())
    }

    pub(super) fn take_snapshot(&mut self, bytes: &[u8]) -> Result<(), Denial> {
        let Some(timestamp) = &self.timestamp else {
            return Err(super::not_loaded(TIMESTAMP));
        };
        let listed = timestamp.content.snapshot.clone();
        listed.check(SNAPSHOT, bytes, TIMESTAMP)?;
        let snapshot = read_snapshot(bytes, &self.root.content.snapshot)?;
        check_version(SNAPSHOT, snapshot.header.version, listed.version, TIMESTAMP)?;
        self.trust_snapshot(Arc::new(snapshot))
    }

    fn trust_snapshot(&mut self, snapshot: Arc<Signed<Snapshot>>) -> Result<(), Denial> {
        self.check_roles(&snapshot.content)?;
        self.remember_listed(&snapshot);
        check_expiry(SNAPSHOT, snapshot.header.expires, self.now)?;
        let Some(targets) = snapshot.content.roles.get(TARGETS) else {
            let reason = "it does not list targets".to_owned();
            return Err(Denial::MalformedMetadata { file: SNAPSHOT.to_owned(), reason });
        };
        check_length(TARGETS, targets.length.unwrap_or(0), limits::TUF_TARGETS_BYTES)?;
        self.snapshot = Some(snapshot);
        self.stage = Stage::Roles;
        let keys = self.root.content.targets.clone();
        self.prepare(Need { role: TARGETS.to_owned(), parent: ROOT.to_owned(), keys });
        self.go_on();
        Ok(())
    }

    /// 5.5.5: no role's version goes back, and none is removed.
    fn check_roles(&self, snapshot: &Snapshot) -> Result<(), Denial> {
        let version = |role: &str| snapshot.roles.get(role).map_or(0, |listed| listed.version);
        // One of thousands of roles is not held against itself.
        if let Some(old) = &self.old.snapshot
            && !std::ptr::eq(&raw const old.content, snapshot)
        {
            for (role, listed) in old.content.roles.iter() {
                check_rollback(role, version(role), Some(listed.version))?;
            }
        }
        for name in self.memory.roles.keys().filter(|name| is_targets_role(name)) {
            let role = role_name(name);
            check_rollback(&role, version(&role), self.floor(name))?;
        }
        Ok(())
    }

    /// The version below which a role must not be.
    fn floor(&self, name: &str) -> Option<u64> {
        self.memory.roles.get(name).map(|floor| floor.version)
    }

    fn remember(&mut self, name: &str, version: u64, signers: &BTreeSet<KeyFingerprint>) {
        self.memory.roles.insert(name.to_owned(), Floor { version, keys: listed(signers) });
    }

    /// The snapshot's keys vouch for every role's version.
    fn remember_listed(&mut self, snapshot: &Signed<Snapshot>) {
        let few = snapshot.content.roles.len() <= limits::REMEMBERED_ROLES;
        for (role, listed) in snapshot.content.roles.iter() {
            let name = file_name(role);
            let fits = few && name.len() <= limits::REMEMBERED_NAME_BYTES;
            if fits || role == TARGETS || self.memory.roles.contains_key(&name) {
                self.remember(&name, listed.version, &snapshot.signers);
            }
        }
    }
}

/// Keys as they are remembered.
pub(super) fn listed(keys: &BTreeSet<KeyFingerprint>) -> String {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    keys.join(",")
}

fn is_targets_role(name: &str) -> bool {
    name != TIMESTAMP && name != SNAPSHOT
}

fn read_timestamp(bytes: &[u8], keys: &RoleKeys) -> Result<Signed<Timestamp>, Denial> {
    let document = Document::read(TIMESTAMP, bytes, limits::TUF_TIMESTAMP_BYTES)?;
    let file = |version| Identity::of(bytes, version);
    Signed::read(TIMESTAMP, &document, keys, Timestamp::read, file)
}

fn read_snapshot(bytes: &[u8], keys: &RoleKeys) -> Result<Signed<Snapshot>, Denial> {
    let document = Document::read(SNAPSHOT, bytes, limits::TUF_SNAPSHOT_BYTES)?;
    let file = |version| Identity::of(bytes, version);
    Signed::read(SNAPSHOT, &document, keys, Snapshot::read, file)
}

/// Refuses a version below the floor; `found` is 0 where the role is gone.
fn check_rollback(role: &str, found: u64, floor: Option<u64>) -> Result<(), Denial> {
    match floor {
        Some(remembered) if found < remembered => {
            Err(Denial::Rollback { role: shortened(role).into_owned(), found, remembered })
        }
        _ => Ok(()),
    }
}
