//! Random changes of random repositories: what was not signed is never accepted.

use countersign_verify::memory::Memory;
use countersign_verify::tuf::{InitialRoot, Update};
use proptest::prelude::*;
use serde_json::json;

use crate::builder::{Files, Repo, canonical, now};
use crate::shell::tags;

/// Two versions of a repository, with what is fetched for tag 1.4 in up to three delegations.
pub fn versions(depth: usize, hashes: bool) -> (Repo, Repo) {
    let mut repo = Repo::new();
    repo.hashes = hashes;
    let mut parent = "targets".to_owned();
    for number in 0..depth {
        let role = format!("r{number}");
        repo.delegated(&parent, &role, &["registry.example.com/payments/*/*"], &[]);
        parent = role;
    }
    let signers = repo.roles[&parent].signers.clone();
    repo.set_role(&parent, &[("1.4", "old")], &signers);
    let mut newer = repo.clone();
    newer.set_role(&parent, &[("1.4", "new")], &signers);
    for role in [&parent, "snapshot", "timestamp"] {
        newer.set(role, "version", json!(2));
    }
    newer.rotate();
    (repo, newer)
}

fn names(files: &Files) -> Vec<String> {
    files.roles.keys().cloned().collect()
}

fn says_the_same(one: &[u8], other: &[u8]) -> bool {
    let signed = |bytes: &[u8]| {
        let file: Option<serde_json::Value> = serde_json::from_slice(bytes).ok();
        file.map(|file| canonical(&file["signed"]))
    };
    signed(one).is_some() && signed(one) == signed(other)
}

fn accepted(files: &Files) -> bool {
    let Ok(initial) = InitialRoot::read(&files.roots[&1]) else { return false };
    let update = Update::new(&initial, Memory::default(), now());
    files.drive(update, tags("1.4")).find("new").is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn t7_t8_a_file_that_is_dropped_swapped_or_old_is_never_accepted(
        depth in 0usize..4,
        hashes: bool,
        which: prop::sample::Index,
        from: prop::sample::Index,
        way in 0..3,
    ) {
        let (older, newer) = versions(depth, hashes);
        let (old, mut files) = (older.seal(), newer.seal());
        prop_assert!(accepted(&files));
        let names = names(&files);
        let (name, other) = (which.get(&names), from.get(&names));
        let original = files.roles[name].clone();
        let changed = match way {
            0 => None,
            1 => Some(files.roles[other].clone()),
            _ => Some(old.roles[name].clone()),
        };
        match &changed {
            None => drop(files.roles.remove(name)),
            Some(bytes) => drop(files.roles.insert(name.clone(), bytes.clone())),
        }
        let same = changed.is_some_and(|changed| says_the_same(&changed, &original));
        prop_assert!(same || !accepted(&files), "{name} {other} {way}");
    }

    #[test]
    fn t8_what_was_seen_before_is_never_rolled_back(
        depth in 0usize..4,
        hashes: bool,
        keep in proptest::collection::vec(any::<bool>(), 7),
    ) {
        let (older, newer) = versions(depth, hashes);
        let (old, mut files) = (older.seal(), newer.seal());
        let first = files.run(tags("1.4"), &Memory::default());
        prop_assert!(first.find("new").is_ok());
        let names = names(&files);
        for (name, _) in names.iter().zip(&keep).filter(|(_, keep)| !**keep) {
            files.roles.insert(name.clone(), old.roles[name].clone());
        }
        if !keep[6] {
            files.roots.remove(&2);
        }
        let again = files.run(tags("1.4"), &first.memory);
        prop_assert!(again.find("old").is_err());
        for (name, floor) in &first.memory.roles {
            prop_assert!(again.memory.roles[name].version >= floor.version);
        }
    }

    #[test]
    fn t1_any_changed_bytes_are_refused_or_say_the_same(
        depth in 0usize..4,
        hashes: bool,
        which: prop::sample::Index,
        edits in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (_, newer) = versions(depth, hashes);
        let mut files = newer.seal();
        let names = names(&files);
        let name = which.get(&names);
        let original = files.roles[name].clone();
        let changed = files.roles.get_mut(name).unwrap();
        for (at, byte) in edits {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        let same = says_the_same(&original, &files.roles[name]);
        prop_assert!(same || !accepted(&files));
    }

    #[test]
    fn nothing_makes_it_panic(bytes: Vec<u8>, text in "[\\[\\]{}:,\"a-z0-9_.\\\\]{0,64}") {
        for bytes in [bytes.as_slice(), text.as_bytes()] {
            prop_assert!(InitialRoot::read(bytes).is_err());
            let mut files = Repo::signing(&[("1.4", "new")]).seal();
            files.roles.insert("timestamp".to_owned(), bytes.to_vec());
            prop_assert!(!accepted(&files));
        }
    }
}
