//! The files that an earlier run kept, read for people: what they say, whatever has expired since.
//! It decides nothing.

use std::collections::BTreeSet;

use super::delegation::Delegations;
use super::document::{Document, Header, Identity, Listed, RoleKeys, Signed};
use super::key::Key;
use super::metadata::{Snapshot, Targets, Timestamp};
use super::repository::detail;
use super::update::{InitialRoot, check_version};
use super::{SNAPSHOT, TARGETS, TIMESTAMP};
use crate::limits;
use crate::notary::RoleDetail;
use crate::outcome::{Denial, shortened};

/// Gives a role's file, where there is one.
pub type ReadFile<'r> = &'r dyn Fn(&str) -> Option<Vec<u8>>;

/// A role's file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeptFile {
    /// There is none.
    Absent,
    /// It is not one of the role's, or no more: the next update ignores it.
    Bad(Denial),
    /// It is signed as the role that delegates to it says.
    Signed {
        /// What it says.
        detail: RoleDetail,
        /// Why it is not the one that the file above lists, where it is not.
        outdated: Option<Denial>,
    },
}

/// A targets role, and the roles that it delegates to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptRole {
    /// Its name.
    pub name: String,
    /// Its file.
    pub file: KeptFile,
    /// What it delegates, in its order; of succinct bins those only that are there.
    pub delegations: Vec<KeptDelegation>,
    /// How many bins it delegates to by their number; 0 where it does not.
    pub bins: u64,
}

/// A delegation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptDelegation {
    /// Which targets it is for: patterns, or what the sha256 of their names begins with.
    pub covers: Covers,
    /// Whether it ends the search.
    pub terminating: bool,
    /// How many keys may sign the role, and how many must.
    pub keys: (usize, u64),
    /// The role. Its own delegations are left out where the role was told of before, or where it
    /// is deeper than [`limits::DELEGATIONS`].
    pub role: KeptRole,
}

/// Which targets a delegation is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Covers {
    /// Those whose names match one of these.
    Paths(Vec<String>),
    /// Those whose name's sha256 begins with one of these hex digits.
    HashPrefixes(Vec<String>),
    /// Those of the bin with this number.
    Bin,
}

/// The files of one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The root.
    pub root: RoleDetail,
    /// The timestamp.
    pub timestamp: KeptFile,
    /// The snapshot.
    pub snapshot: KeptFile,
    /// `targets`, and everything below it.
    pub targets: KeptRole,
}

impl Kept {
    /// Reads the files below a root. `names` are the roles that there are files of.
    pub fn read(initial: &InitialRoot, names: &BTreeSet<String>, read: ReadFile<'_>) -> Self {
        let root = &initial.root;
        let keys = &root.content;
        let timestamp = open(TIMESTAMP, &keys.timestamp, None, read, Timestamp::read);
        let listed = timestamp.1.as_ref().map(|timestamp| &timestamp.snapshot);
        let snapshot = open(SNAPSHOT, &keys.snapshot, listed, read, Snapshot::read);
        let mut reader = Reader { names, read, snapshot: snapshot.1, told: BTreeSet::new() };
        let targets = reader.role(TARGETS, &keys.targets, 0);
        let root = detail(root, &keys.root, 0);
        Self { root, timestamp: timestamp.0, snapshot: snapshot.0, targets }
    }
}

struct Reader<'r> {
    names: &'r BTreeSet<String>,
    read: ReadFile<'r>,
    snapshot: Option<Snapshot>,
    told: BTreeSet<String>,
}

impl Reader<'_> {
    fn role(&mut self, name: &str, keys: &RoleKeys, depth: usize) -> KeptRole {
        let listed = self.snapshot.as_ref().and_then(|snapshot| snapshot.roles.get(name));
        let (mut file, targets) = open(name, keys, listed, self.read, Targets::read);
        let mut role = KeptRole {
            name: name.to_owned(),
            file: KeptFile::Absent,
            delegations: Vec::new(),
            bins: 0,
        };
        if let (KeptFile::Signed { detail, .. }, Some(targets)) = (&mut file, targets) {
            detail.entries = targets.entries.len();
            if depth < limits::DELEGATIONS && self.told.insert(name.to_owned()) {
                role.delegations = self.below(&targets.delegations, depth);
                role.bins = targets.delegations.bins();
            }
        }
        role.file = file;
        role
    }

    fn below(&mut self, delegations: &Delegations, depth: usize) -> Vec<KeptDelegation> {
        let names = self.names.iter().map(String::as_str).collect();
        let told = delegations.told(&names);
        let below = told.into_iter().map(|(step, covers)| KeptDelegation {
            covers,
            terminating: step.terminating,
            keys: (step.keys.fingerprints().len(), step.keys.threshold()),
            role: self.role(&step.role, step.keys, depth + 1),
        });
        below.collect()
    }
}

type Content<T> = fn(&Document<'_>) -> Result<(Header, T), Denial>;

/// A role's file, and what is in it where it is signed.
fn open<T>(
    role: &str,
    keys: &RoleKeys,
    listed: Option<&Listed>,
    read: ReadFile<'_>,
    content: Content<T>,
) -> (KeptFile, Option<T>) {
    let Some(bytes) = read(role) else { return (KeptFile::Absent, None) };
    let opened = Document::read(role, &bytes, limits::TUF_TARGETS_BYTES).and_then(|document| {
        Signed::read(role, &document, keys, content, |version| Identity::of(&bytes, version))
    });
    match opened {
        Err(denial) => (KeptFile::Bad(denial), None),
        Ok(signed) => {
            let by = if role == SNAPSHOT { TIMESTAMP } else { SNAPSHOT };
            let outdated = listed.and_then(|listed| {
                let version = check_version(role, signed.header.version, listed.version, by);
                version.and_then(|()| listed.check(role, &bytes, by).map(drop)).err()
            });
            (KeptFile::Signed { detail: detail(&signed, keys, 0), outdated }, Some(signed.content))
        }
    }
}

/// The keys in a root or targets file that count nothing, because their type, scheme and value are
/// not those of any known kind: their ids and what they say that they are. None where the file
/// cannot be read.
pub fn unknown_keys(bytes: &[u8]) -> Vec<String> {
    let Ok(document) = Document::read(TARGETS, bytes, limits::TUF_TARGETS_BYTES) else {
        return Vec::new();
    };
    let signed = document.signed();
    let below = signed.optional("delegations").ok().flatten();
    let tables = [Some(signed), below].into_iter().flatten();
    let tables = tables.filter_map(|node| node.optional("keys").ok().flatten()?.members().ok());
    let keys =
        tables.flatten().filter(|(_, key)| !Key::read(*key).is_ok_and(|key| key.is_usable()));
    keys.map(|(id, key)| {
        let said = |member| key.get(member).and_then(|it| it.string()).unwrap_or("nothing");
        let told = |text| shortened(text).escape_debug().to_string();
        format!("{} ({} by {})", told(id), told(said("keytype")), told(said("scheme")))
    })
    .collect()
}
