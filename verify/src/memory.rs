//! What is remembered of a repository. It only ever restricts: every chain of trust begins at the
//! pin.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::limits::SIGNATURES;

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
    /// In TUF, where floors are of those that signed: who may sign by this root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signers: Option<Box<Signers>>,
}

/// Who may sign what is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Signers {
    /// The timestamp, and the snapshot's version that it lists.
    pub timestamp: Keys,
    /// The snapshot, and the versions of all roles that it lists.
    pub snapshot: Keys,
}

/// A role's keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Keys {
    /// As `sha256:...`, with commas between them.
    pub keys: String,
    /// So many of them have to sign.
    pub threshold: u64,
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

    /// The higher of two floors of signers. Of one version all who signed it count, so that it
    /// holds while any of them are enough.
    fn or_higher(self, other: Self) -> Self {
        match self.version.cmp(&other.version) {
            Ordering::Less => other,
            Ordering::Greater => self,
            Ordering::Equal => {
                let mut keys = listed(&self.keys);
                keys.extend(listed(&other.keys));
                Self { version: self.version, keys: joined(keys, SIGNATURES) }
            }
        }
    }
}

impl RootFloor {
    /// What is left of a floor under this root: nothing where too few of those that signed it may
    /// sign any more (TUF, 5.3.11).
    fn left_of(&self, role: &str, floor: Floor) -> Floor {
        let Some(signers) = self.signers.as_ref().filter(|_| floor.is_of_signers()) else {
            return floor;
        };
        let now = if role == "timestamp" || role == "snapshot" {
            &signers.timestamp
        } else {
            &signers.snapshot
        };
        now.left_of(floor)
    }
}

impl Keys {
    fn left_of(&self, floor: Floor) -> Floor {
        let now = listed(&self.keys);
        let left = listed(&floor.keys).intersection(&now).count();
        // Where too few keys can be used, nobody can sign, and the next root decides.
        if left as u64 >= self.threshold || (now.len() as u64) < self.threshold {
            return floor;
        }
        let threshold = usize::try_from(self.threshold).unwrap_or(SIGNATURES);
        Floor { version: 0, keys: joined(now, threshold) }
    }
}

fn listed(keys: &str) -> BTreeSet<&str> {
    keys.split(',').filter(|key| !key.is_empty()).collect()
}

/// So many of them, and no more than may sign one file.
fn joined(keys: BTreeSet<&str>, most: usize) -> String {
    let keys: Vec<&str> = keys.into_iter().take(most.min(SIGNATURES)).collect();
    keys.join(",")
}

impl Memory {
    /// What both have seen. Of two floors under different keys, the one that the newer delegating
    /// role gave counts: a floor falls only by a rotation that was verified. Of two floors of
    /// signers the higher counts, of those that the newer root leaves.
    #[must_use]
    pub fn merged(self, other: Self) -> Self {
        let lacks_signers =
            |memory: &Self| memory.root.as_ref().is_some_and(|root| root.signers.is_none());
        let root = match self.age_of_root(&other) {
            Ordering::Less => other.root.clone(),
            Ordering::Equal if lacks_signers(&self) && !self.is_forked_from(&other) => {
                other.root.clone()
            }
            Ordering::Equal | Ordering::Greater => self.root.clone(),
        };
        let left = |role: &str, floor: &Floor| match &root {
            Some(root) => root.left_of(role, floor.clone()),
            None => floor.clone(),
        };
        let mut roles = BTreeMap::new();
        for role in self.roles.keys().chain(other.roles.keys()) {
            let floor = match (self.roles.get(role), other.roles.get(role)) {
                (Some(own), Some(others)) if own.is_of_signers() && others.is_of_signers() => {
                    left(role, own).or_higher(left(role, others))
                }
                (Some(_), Some(others)) if self.age(&other, role).is_lt() => others.clone(),
                (Some(one), _) | (None, Some(one)) => left(role, one),
                (None, None) => continue,
            };
            roles.insert(role.clone(), floor);
        }
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

    /// Whether another root of the same version was seen: nothing leads from one to the other.
    #[must_use]
    pub fn is_forked_from(&self, other: &Self) -> bool {
        let roots = self.root.as_ref().zip(other.root.as_ref());
        roots.is_some_and(|(own, other)| own.version == other.version && own.sha256 != other.sha256)
    }

    /// Whether `newest` has anything newer than what this remembers, or another root of the same
    /// version: what was verified then must not answer any more. What is older, or was forgotten,
    /// says nothing.
    pub(crate) fn is_superseded_by(&self, newest: &Self) -> bool {
        if self.is_forked_from(newest) {
            return true;
        }
        let merged = self.clone().merged(newest.clone());
        let passed = |(role, floor): (&String, &Floor)| match merged.roles.get(role) {
            // Who signed one version says nothing of what is newer.
            Some(merged) if floor.is_of_signers() => merged.version != floor.version,
            merged => merged != Some(floor),
        };
        self.age_of_root(newest).is_lt() || self.roles.iter().any(passed)
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
            root: (root > 0).then(|| RootFloor {
                version: root,
                sha256: format!("{root}"),
                signers: None,
            }),
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

    fn keys(all: &str) -> String {
        let keys: Vec<String> = all.chars().map(|key| format!("sha256:{key}")).collect();
        keys.join(",")
    }

    /// Of so many signers each a letter: who may sign by the root, and who signed the version.
    fn signed(root: u64, (may, threshold): (&str, u64), version: u64, by: &str) -> Memory {
        let mut memory = memory(root, &[("timestamp", version, &keys(by))]);
        let may = Keys { keys: keys(may), threshold };
        let signers = Signers { timestamp: may.clone(), snapshot: may };
        memory.root.as_mut().expect("a root").signers = Some(Box::new(signers));
        memory
    }

    /// In either order, since replicas hear of each other in either.
    fn both(one: &Memory, other: &Memory) -> Memory {
        let merged = one.clone().merged(other.clone());
        assert_eq!(merged, other.clone().merged(one.clone()));
        merged
    }

    #[test]
    fn t8_another_signer_and_a_newer_root_are_no_rotation() {
        let (high, newer) = (signed(1, ("ab", 1), 9, "b"), signed(2, ("ab", 1), 5, "a"));
        assert_eq!(both(&high, &newer), signed(2, ("ab", 1), 9, "b"));
        // Nor where one more key may sign, or one that has not signed may not any more.
        for may in ["abc", "b"] {
            let newer = signed(2, (may, 1), 5, "b");
            assert_eq!(both(&high, &newer), signed(2, (may, 1), 9, "b"), "{may}");
        }
        let (high, newer) = (signed(1, ("ab", 2), 9, "ab"), signed(2, ("abc", 2), 5, "bc"));
        assert_eq!(both(&high, &newer), signed(2, ("abc", 2), 9, "ab"));
    }

    #[test]
    fn t4_a_newer_root_leaves_no_floor_of_signers_that_may_not_sign_any_more() {
        let (bad, recovered) = (signed(1, ("a", 1), 1000, "a"), signed(2, ("b", 1), 5, "b"));
        assert_eq!(both(&bad, &recovered), recovered);
        // Also where nothing was read after the root: what is read then only raises.
        let root = Memory { roles: BTreeMap::new(), ..recovered.clone() };
        let fallen = signed(2, ("b", 1), 0, "b");
        assert_eq!(both(&bad, &root), fallen);
        assert_eq!(both(&fallen, &recovered), recovered);
        // What others have seen of the former signers meanwhile does not bring it back.
        assert_eq!(both(&signed(1, ("a", 1), 1001, "a"), &fallen), fallen);
        // Of two that recovered, the higher counts.
        let higher = signed(2, ("b", 1), 6, "b");
        assert_eq!(both(&recovered, &higher), higher);
        // Too few of those that signed are left.
        let (bad, recovered) = (signed(1, ("ab", 2), 9, "ab"), signed(2, ("bc", 2), 5, "bc"));
        assert_eq!(both(&bad, &recovered), recovered);
    }

    #[test]
    fn one_version_of_different_signers_is_one_floor_for_all_and_nothing_newer() {
        let (one, other) = (signed(1, ("ab", 1), 9, "a"), signed(1, ("ab", 1), 9, "b"));
        let all = signed(1, ("ab", 1), 9, "ab");
        assert_eq!(both(&one, &other), all);
        assert_eq!(both(&all, &one), all);
        // Who still may sign has signed it.
        let rotated = signed(2, ("b", 1), 5, "b");
        assert_eq!(both(&all, &rotated), signed(2, ("b", 1), 9, "ab"));
        assert!(!one.is_superseded_by(&other) && !other.is_superseded_by(&one));
        assert!(one.is_superseded_by(&signed(1, ("ab", 1), 10, "b")));
    }

    #[test]
    fn t8_one_signer_s_floor_never_falls() {
        let (high, low) = (signed(1, ("a", 1), 9, "a"), signed(2, ("a", 1), 5, "a"));
        assert_eq!(both(&high, &low), signed(2, ("a", 1), 9, "a"));
    }

    #[test]
    fn t8_a_root_by_which_nobody_can_sign_lowers_nothing() {
        let floor = signed(1, ("a", 1), 9, "a");
        for may in [("", 1), ("a", 2), ("b", 2)] {
            let root = Memory { roles: BTreeMap::new(), ..signed(2, may, 0, "") };
            assert_eq!(both(&floor, &root), signed(2, may, 9, "a"), "{may:?}");
        }
        let next = Memory { roles: BTreeMap::new(), ..signed(3, ("b", 1), 0, "") };
        assert_eq!(both(&floor, &next), signed(3, ("b", 1), 0, "b"));
    }

    #[test]
    fn t21_one_root_has_its_signers_whoever_told_them() {
        let whole = signed(1, ("a", 1), 9, "a");
        let mut without = whole.clone();
        without.root.as_mut().expect("a root").signers = None;
        assert_eq!(both(&whole, &without), whole);
    }

    #[test]
    fn t4_what_is_left_of_many_keys_fits_where_floors_are_kept() {
        let may: String = ('A'..='z').chain('\u{e0}'..='\u{ff}').collect();
        assert!(may.chars().count() > SIGNATURES);
        let bad = signed(1, ("!", 1), 9, "!");
        let root = signed(2, (&may, SIGNATURES as u64 + 1), 0, "A");
        let floor = &both(&bad, &root).roles["timestamp"];
        assert_eq!((floor.version, floor.keys.split(',').count()), (0, SIGNATURES));
    }

    #[test]
    fn t4_floors_of_a_roles_keys_fall_by_the_newer_root() {
        let before = memory(1, &[("timestamp", 9, "old")]);
        let rotated = memory(2, &[("timestamp", 1, "new")]);
        assert_eq!(both(&before, &rotated), rotated);
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
