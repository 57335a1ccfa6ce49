//! What each role's file says.

use super::delegation::Delegations;
use super::document::{Document, Header, Listed, RoleKeys, read_hashes, read_keys, read_role_keys};
use super::{SNAPSHOT, TARGETS, TIMESTAMP};
use crate::json::Node;
use crate::limits::{self, check_count};
use crate::outcome::{Denial, shortened};
use crate::sorted::{ALLOCATION, Sorted};

/// What root.json says: who signs the top-level roles.
#[derive(Debug)]
pub(super) struct Root {
    /// Whether file names begin with versions.
    pub(super) consistent: bool,
    pub(super) root: RoleKeys,
    pub(super) timestamp: RoleKeys,
    pub(super) snapshot: RoleKeys,
    pub(super) targets: RoleKeys,
}

impl Root {
    pub(super) fn read(document: &Document<'_>) -> Result<(Header, Self), Denial> {
        let header = document.header("root")?;
        let signed = document.signed();
        let table = read_keys(signed.get("keys")?)?;
        let roles = signed.get("roles")?;
        let keys = |role| read_role_keys(roles.get(role)?, &table);
        let consistent = signed.optional("consistent_snapshot")?;
        let root = Self {
            consistent: consistent.map_or(Ok(false), |consistent| consistent.boolean())?,
            root: keys("root")?,
            timestamp: keys(TIMESTAMP)?,
            snapshot: keys(SNAPSHOT)?,
            targets: keys(TARGETS)?,
        };
        Ok((header, root))
    }
}

/// What timestamp.json says: the newest snapshot.
#[derive(Debug)]
pub(super) struct Timestamp {
    pub(super) snapshot: Listed,
}

impl Timestamp {
    pub(super) fn read(document: &Document<'_>) -> Result<(Header, Self), Denial> {
        let header = document.header(TIMESTAMP)?;
        let snapshot = Listed::read(document.signed().get("meta")?.get("snapshot.json")?)?;
        Ok((header, Self { snapshot }))
    }
}

/// What snapshot.json says: the newest targets files, by role.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) roles: Sorted<Box<str>, Listed>,
}

impl Snapshot {
    pub(super) fn read(document: &Document<'_>) -> Result<(Header, Self), Denial> {
        let header = document.header(SNAPSHOT)?;
        let meta = document.signed().get("meta")?;
        let members = meta.members()?;
        let mut roles = Vec::with_capacity(members.len());
        for (file, listed) in members {
            let role = file.strip_suffix(".json");
            // Some list the root as well, which decides nothing in TUF 1.0.
            let role = role.filter(|role| !["root", TIMESTAMP, SNAPSHOT].contains(role));
            if let Some(role) = role {
                roles.push((role.into(), Listed::read(listed)?));
            }
        }
        Ok((header, Self { roles: meta.sorted(roles)? }))
    }

    /// The memory that it takes, in bytes.
    pub(super) fn footprint(&self) -> usize {
        let values = self.roles.iter().map(|(_, listed)| listed.footprint());
        self.roles.footprint() + values.sum::<usize>()
    }
}

/// What a targets file says.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) entries: Sorted<Box<str>, Entry>,
    pub(super) delegations: Delegations,
}

/// A signed file: an image's manifest.
#[derive(Debug)]
pub(super) struct Entry {
    /// In bytes.
    pub(super) length: u64,
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) sha512: Option<Box<[u8; 64]>>,
    /// As canonical JSON.
    pub(super) custom: Option<Box<str>>,
}

impl Targets {
    pub(super) fn read(document: &Document<'_>) -> Result<(Header, Self), Denial> {
        let header = document.header(TARGETS)?;
        let signed = document.signed();
        let entries = signed.get("targets")?.each_member(Entry::read)?;
        let delegations = match signed.optional("delegations")? {
            Some(node) => Delegations::read(node)?,
            None => Delegations::default(),
        };
        Ok((header, Self { entries, delegations }))
    }

    /// The memory that it takes, in bytes, without keys.
    pub(super) fn footprint(&self) -> usize {
        let values = self.entries.iter().map(|(_, entry)| entry.footprint());
        self.entries.footprint() + values.sum::<usize>() + self.delegations.footprint()
    }
}

impl Entry {
    /// What it points to.
    fn footprint(&self) -> usize {
        let sha512 = self.sha512.as_ref().map_or(0, |_| ALLOCATION + 64);
        let custom = self.custom.as_ref().map_or(0, |custom| ALLOCATION + custom.len());
        sha512 + custom
    }

    fn read(node: Node<'_>) -> Result<Self, Denial> {
        let (sha256, sha512) = read_hashes(node.get("hashes")?)?;
        let custom = node.optional("custom")?.map(|custom| custom.canonical().into());
        Ok(Self { length: node.get("length")?.unsigned()?, sha256, sha512, custom })
    }
}

/// A list of strings of at most `limit`.
pub(super) fn read_strings<'a>(
    node: Node<'a>,
    what: &str,
    limit: usize,
) -> Result<Vec<&'a str>, Denial> {
    let elements = node.elements()?;
    check_count(node, what, elements.len(), limit)?;
    elements.map(|element| element.string()).collect()
}

/// Refuses what cannot be a role's name: nothing, too long, or with control characters. Anything
/// else may be one, and is escaped wherever a file or URL is named by it.
pub(super) fn check_role_name(node: Node<'_>, name: &str) -> Result<(), Denial> {
    let is_name = !name.is_empty()
        && name.len() <= limits::ROLE_NAME_BYTES
        && !name.chars().any(char::is_control);
    if !is_name || ["root", TIMESTAMP, SNAPSHOT, TARGETS].contains(&name) {
        let name = shortened(name);
        return Err(node.malformed(format!("it cannot delegate to {name:?}")));
    }
    Ok(())
}
