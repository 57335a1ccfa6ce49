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

impl Floor {
    /// Whether `keys` lists those that signed this version, as TUF's floors do, and does not name
    /// the keys that the role has.
    fn is_of_signers(&self) -> bool {
        self.keys.starts_with("sha256:")
    }

    /// Which of this and `new` counts, which an update made of `base`. Of two that do not know of
    /// each other it is the higher: when its signers are not the role's keys any more, the next
    /// update finds that out.
    fn raised<'f>(&'f self, base: Option<&Self>, new: &'f Self) -> &'f Self {
        let higher = if self.version < new.version { new } else { self };
        let Some(base) = base.filter(|_| self.keys != new.keys) else { return higher };
        let lowers = |side: &Self| side.keys != base.keys && side.version < base.version;
        if new == base {
            self
        } else if self == base || (self.keys == base.keys && lowers(new)) {
            new
        } else if new.keys == base.keys && lowers(self) {
            self
        } else {
            higher
        }
    }
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

    /// What is remembered after an update that began with `base` and ended with `newer`, where
    /// this is remembered by now.
    ///
    /// Where floors are of signers and not of a role's keys (TUF), a newer root with other signers
    /// need not have rotated anything, so that [`Self::merged`] cannot tell. But the update held
    /// what it verified to the floors that it began with: it may lower those, and only those.
    #[must_use]
    pub fn raised(self, base: &Self, newer: Self) -> Self {
        let mut kept = Vec::new();
        for (role, own) in &self.roles {
            if let Some(new) = newer.roles.get(role).filter(|new| new.is_of_signers())
                && own.is_of_signers()
            {
                kept.push((role.clone(), own.raised(base.roles.get(role), new).clone()));
            }
        }
        let mut merged = self.merged(newer);
        merged.roles.extend(kept);
        merged
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

    fn signed(root: u64, version: u64, signer: &str) -> Memory {
        memory(root, &[("timestamp", version, &format!("sha256:{signer}"))])
    }

    #[test]
    fn t8_another_signer_and_a_newer_root_are_no_rotation() {
        let base = signed(1, 4, "a");
        let (high, newer) = (signed(1, 9, "b"), signed(2, 5, "a"));
        let both = signed(2, 9, "b");
        assert_eq!(high.clone().raised(&base, newer.clone()), both);
        assert_eq!(newer.raised(&base, high), both);
        // Nor where nothing was remembered before.
        let (high, newer) = (signed(1, 9, "b"), signed(2, 5, "a"));
        assert_eq!(high.raised(&Memory::default(), newer), both);
    }

    #[test]
    fn t4_what_an_update_began_with_it_may_lower() {
        let (base, recovered) = (signed(1, 1000, "a"), signed(2, 5, "b"));
        assert_eq!(base.clone().raised(&base, recovered.clone()), recovered);
        // Also where the root alone was verified before.
        let base = signed(2, 1000, "a");
        assert_eq!(base.clone().raised(&base, recovered.clone()), recovered);
        // Others' higher versions by the same signers meanwhile are as bad, in either order.
        let (base, meanwhile) = (signed(1, 1000, "a"), signed(1, 1001, "a"));
        assert_eq!(meanwhile.clone().raised(&base, recovered.clone()), recovered);
        assert_eq!(recovered.clone().raised(&base, meanwhile), recovered);
        // An update that verified nothing new does not bring them back.
        assert_eq!(recovered.clone().raised(&base, base.clone()), recovered);
        // Of two that recovered, the higher counts.
        let other = signed(2, 6, "b");
        assert_eq!(recovered.raised(&base, other.clone()), other);
    }

    #[test]
    fn t8_one_signer_s_floor_never_falls() {
        let (high, low) = (signed(1, 9, "a"), signed(2, 5, "a"));
        assert_eq!(high.clone().raised(&high, low), signed(2, 9, "a"));
    }

    #[test]
    fn t4_floors_of_a_roles_keys_fall_by_the_newer_root() {
        let before = memory(1, &[("timestamp", 9, "old")]);
        let rotated = memory(2, &[("timestamp", 1, "new")]);
        assert_eq!(before.clone().raised(&Memory::default(), rotated.clone()), rotated);
        assert_eq!(rotated.clone().raised(&Memory::default(), before), rotated);
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
