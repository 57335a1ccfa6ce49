//! Role names, and a role's keys, threshold and paths.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::key::Key;
use crate::json::Node;
use crate::limits::{self, check_count};
use crate::outcome::{Denial, shortened};
use crate::sorted::ALLOCATION;

/// The role that every repository's entries start from.
pub const TARGETS: &str = "targets";
/// The delegated role that Docker's lookup tries first.
pub const RELEASES: &str = "targets/releases";

/// Whether `name` is `targets` or a delegation's: `targets/` and components of `[-a-z0-9_]`, at
/// most [`limits::ROLE_NAME_BYTES`] in all.
pub fn is_targets_role(name: &str) -> bool {
    let component = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| matches!(b, b'-' | b'_' | b'a'..=b'z' | b'0'..=b'9'))
    };
    name.len() <= limits::ROLE_NAME_BYTES
        && name.split('/').all(component)
        && name.split('/').next() == Some(TARGETS)
}

/// `targets/a` of `targets/a/b`; `None` for `targets`.
pub(super) fn parent(name: &str) -> Option<&str> {
    name.rsplit_once('/').map(|(parent, _)| parent)
}

/// Who signs a role.
pub(super) type RoleKeys = crate::threshold::RoleKeys<Key>;

/// The key table of a root or targets file.
pub(super) type KeyTable = BTreeMap<String, Arc<Key>>;

/// Reads a key table; each key must be listed under its own id.
pub(super) fn read_keys(node: Node<'_>) -> Result<KeyTable, Denial> {
    let members = node.members()?;
    check_count(node, "keys", members.len(), limits::KEYS)?;
    members.map(|(id, key)| Ok((id.to_owned(), Arc::new(Key::read(id, key)?)))).collect()
}

/// Reads `keyids` and `threshold`; every id must be in `table`.
pub(super) fn read_role_keys(node: Node<'_>, table: &KeyTable) -> Result<RoleKeys, Denial> {
    let mut keys = BTreeMap::new();
    if let Some(ids) = node.optional("keyids")? {
        for id in ids.elements()? {
            let id = id.string()?;
            let unlisted = || node.malformed(format!("it lists no key {:?}", shortened(id)));
            let key = table.get(id).ok_or_else(unlisted)?;
            keys.insert(id.to_owned(), Arc::clone(key));
        }
    }
    Ok(RoleKeys::new(keys, node.get("threshold")?.positive()?))
}

/// A role that a targets file delegates to.
#[derive(Debug, Clone)]
pub(super) struct Delegation {
    /// Its whole name.
    pub(super) name: String,
    /// Who signs it.
    pub(super) keys: RoleKeys,
    /// Prefixes of the names it may sign; `""` is all.
    pub(super) paths: Vec<String>,
}

impl Delegation {
    /// Reads one delegation of `parent_role`.
    pub(super) fn read(
        node: Node<'_>,
        table: &KeyTable,
        parent_role: &str,
    ) -> Result<Self, Denial> {
        let name = node.get("name")?.string()?;
        if !is_targets_role(name) || parent(name) != Some(parent_role) {
            let name = shortened(name);
            return Err(node.malformed(format!("it cannot delegate to {name:?}")));
        }
        let mut paths = Vec::new();
        if let Some(listed) = node.optional("paths")? {
            let listed = listed.elements()?;
            check_count(node, "paths of one delegation", listed.len(), limits::DELEGATION_PATHS)?;
            for path in listed {
                paths.push(path.string()?.to_owned());
            }
        }
        Ok(Self { name: name.to_owned(), keys: read_role_keys(node, table)?, paths })
    }

    /// The memory that it takes, in bytes, without its keys.
    pub(super) fn footprint(&self) -> usize {
        let paths = self.paths.iter().map(|path| size_of::<String>() + ALLOCATION + path.len());
        size_of::<Self>()
            + ALLOCATION
            + self.name.len()
            + paths.sum::<usize>()
            + self.keys.footprint()
    }

    /// Keeps those paths only that lie under one of the parent's.
    pub(super) fn restrict(&mut self, parent_paths: &[String]) {
        self.paths.retain(|path| covers(parent_paths, path));
    }

    /// Whether the role may sign `name`.
    pub(super) fn covers(&self, name: &str) -> bool {
        covers(&self.paths, name)
    }
}

fn covers(paths: &[String], name: &str) -> bool {
    paths.iter().any(|path| name.starts_with(path.as_str()))
}
