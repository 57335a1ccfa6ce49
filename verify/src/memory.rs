//! What is remembered of a repository. It only ever restricts: every chain of trust begins at the
//! pin.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What is remembered of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// The newest verified root.
    pub root: Option<RootFloor>,
    /// The newest verified version of every other role.
    pub roles: BTreeMap<String, Floor>,
}

/// The newest verified root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootFloor {
    /// Its version.
    pub version: u64,
    /// sha256 of its file, in hex.
    pub sha256: String,
}

/// The newest verified version of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Floor {
    /// The version; 0 where none was verified under these keys yet.
    pub version: u64,
    /// What names the role's keys: when a verified root or delegating role changes them, the
    /// floor falls.
    pub keys: String,
}

impl Memory {
    /// What both have seen. Of two floors under different keys, the one that the newer delegating
    /// role gave counts: a floor falls only by a rotation that was verified.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let mut roles = self.roles.clone();
        for (role, floor) in &other.roles {
            if self.age(&other, role).is_lt() {
                roles.insert(role.clone(), floor.clone());
            }
        }
        let root = match self.age_of_root(&other) {
            Ordering::Less => other.root,
            Ordering::Equal | Ordering::Greater => self.root,
        };
        Self { root, roles }
    }

    /// Takes note that a verified root or delegating role lists these keys for `role`. If its floor
    /// is under others it falls now, and not when the role is read: that may fail, and then no
    /// merge could tell any more which verified step lowered it.
    pub(crate) fn rotate(&mut self, role: &str, keys: String) {
        if let Some(floor) = self.roles.get_mut(role)
            && floor.keys != keys
        {
            *floor = Floor { version: 0, keys };
        }
    }

    /// Whether `newest` has anything newer than what this remembers, or another root of the same
    /// version: what was verified then must not answer any more. What is older, or was forgotten,
    /// says nothing.
    pub(crate) fn is_superseded_by(&self, newest: &Self) -> bool {
        let forked = |own: &RootFloor, other: &RootFloor| {
            own.version == other.version && own.sha256 != other.sha256
        };
        let roots = self.root.as_ref().zip(newest.root.as_ref());
        if roots.is_some_and(|(own, other)| forked(own, other)) {
            return true;
        }
        let merged = self.clone().merged(newest.clone());
        let passed = |(role, floor): (&String, &Floor)| merged.roles.get(role) != Some(floor);
        merged.root != self.root || self.roles.iter().any(passed)
    }

    /// `Less` where `other` has the newer floor.
    fn age(&self, other: &Self, role: &str) -> Ordering {
        let (Some(own), Some(others)) = (self.roles.get(role), other.roles.get(role)) else {
            return self.roles.contains_key(role).cmp(&other.roles.contains_key(role));
        };
        let rotated = own.keys != others.keys;
        let delegating = || match role.rsplit_once('/') {
            Some((delegating, _)) => self.age(other, delegating),
            None => self.age_of_root(other),
        };
        let by_rotation = if rotated { delegating() } else { Ordering::Equal };
        by_rotation.then(own.version.cmp(&others.version))
    }

    fn age_of_root(&self, other: &Self) -> Ordering {
        let version = |memory: &Self| memory.root.as_ref().map(|root| root.version);
        version(self).cmp(&version(other))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn memory(root: u64, roles: &[(&str, u64, &str)]) -> Memory {
        Memory {
            root: (root > 0).then(|| RootFloor { version: root, sha256: format!("{root}") }),
            roles: roles
                .iter()
                .map(|(role, version, keys)| {
                    ((*role).to_owned(), Floor { version: *version, keys: (*keys).to_owned() })
                })
                .collect(),
        }
    }

    #[test]
    fn t8_merging_takes_the_maximum() {
        let merged = memory(2, &[("targets", 5, "a"), ("snapshot", 1, "a")])
            .merged(memory(2, &[("targets", 4, "a"), ("timestamp", 9, "a")]));
        let all = [("targets", 5, "a"), ("snapshot", 1, "a"), ("timestamp", 9, "a")];
        assert_eq!(merged, memory(2, &all));
    }

    #[test]
    fn t4_a_newer_roots_keys_lower_the_floor() {
        let before = memory(1, &[("timestamp", u64::MAX, "old")]);
        let rotated = memory(2, &[("timestamp", 1, "new")]);
        assert_eq!(before.clone().merged(rotated.clone()), rotated);
        assert_eq!(rotated.clone().merged(before), rotated);
    }

    #[test]
    fn t4_a_newer_delegating_roles_keys_lower_the_floor() {
        let before = memory(1, &[("targets", 4, "t"), ("targets/a", u64::MAX, "old")]);
        let rotated = memory(1, &[("targets", 5, "t"), ("targets/a", 1, "new")]);
        assert_eq!(before.clone().merged(rotated.clone()), rotated);
        assert_eq!(rotated.clone().merged(before), rotated);
    }

    #[test]
    fn t8_the_same_roots_other_keys_do_not_lower_the_floor() {
        let high = memory(1, &[("targets/a", 9, "old")]);
        let low = memory(1, &[("targets/a", 1, "new")]);
        assert_eq!(high.clone().merged(low.clone()), high);
        assert_eq!(low.merged(high.clone()), high);
    }

    proptest! {
        #[test]
        fn merging_is_idempotent_and_never_lowers_under_one_root(
            versions in proptest::collection::vec((0u64..5, 0u64..5), 3),
        ) {
            let side = |pick: fn(&(u64, u64)) -> u64| {
                let names = ["timestamp", "snapshot", "targets"];
                let roles: Vec<(&str, u64, &str)> = names
                    .iter()
                    .zip(&versions)
                    .map(|(name, pair)| (*name, pick(pair), "k"))
                    .collect();
                memory(1, &roles)
            };
            let (left, right) = (side(|pair| pair.0), side(|pair| pair.1));
            let merged = left.clone().merged(right.clone());
            prop_assert_eq!(&merged, &right.merged(left.clone()));
            prop_assert_eq!(&merged, &merged.clone().merged(left.clone()));
            for (role, floor) in &left.roles {
                prop_assert!(merged.roles[role].version >= floor.version);
            }
        }
    }
}
