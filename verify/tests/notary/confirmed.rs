//! What confirms a set at hand, and what supersedes it.

use countersign_verify::notary::{Memory, Repository};
use serde_json::json;

use crate::builder::{Files, GUN, Repo, now, time};
use crate::memory::{fifth, remembered, update, with_second_root};
use crate::signer::{Kind, Signer};

/// A set at hand of [`fifth`], its files, and what was remembered when it was verified.
fn at_hand(repo: &Repo) -> (Repository, Files, Memory) {
    let updated = update(repo, &Memory::default());
    (updated.repository.unwrap(), repo.seal(), updated.memory)
}

#[test]
fn the_same_timestamp_confirms_a_set() {
    let (set, files, memory) = at_hand(&fifth());
    assert!(set.is_confirmed_by(&files.timestamp, &memory, now()));
}

#[test]
fn t5_the_same_timestamp_confirms_nothing_that_has_expired() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let mut repo = fifth();
        repo.set(role, "expires", json!("2030-01-02T00:00:00Z"));
        let (set, files, memory) = at_hand(&repo);
        let confirmed = |at: &str| set.is_confirmed_by(&files.timestamp, &memory, time(at));
        assert!(confirmed("2030-01-01T23:59:59Z"), "{role}");
        assert!(!confirmed("2030-01-02T00:00:00Z"), "{role}");
    }
}

#[test]
fn t8_other_bytes_confirm_nothing_though_their_version_be_the_same() {
    let first = fifth();
    let (set, files, memory) = at_hand(&first);
    let confirmed = |bytes: &[u8]| set.is_confirmed_by(bytes, &memory, now());
    // Signed by the right key, of the same version and of an older one.
    for version in [4, 5, 6] {
        let mut other = first.clone();
        other.set("timestamp", "version", json!(version));
        other.set("timestamp", "expires", json!("2031-01-01T00:00:00Z"));
        assert!(!confirmed(&other.seal().timestamp), "{version}");
    }
    // The same content with another signature, with white space, cut short, or nothing at all.
    let mut spaced = files.timestamp.clone();
    spaced.push(b' ');
    for bytes in [&spaced[..], &files.timestamp[1..], &files.snapshot, b""] {
        assert!(!confirmed(bytes));
    }
}

#[test]
fn t8_a_timestamp_confirms_nothing_where_other_versions_are_remembered() {
    let first = fifth();
    let (set, files, memory) = at_hand(&first);
    let mut newer = first.clone();
    newer.set("timestamp", "version", json!(6));
    let passed = remembered(&newer);
    // What was forgotten has to be verified and remembered again, too.
    for memory in [passed, Memory::default(), Memory { root: None, ..memory }] {
        assert!(!set.is_confirmed_by(&files.timestamp, &memory, now()));
    }
}

#[test]
fn t7_a_set_that_lacks_a_file_is_not_confirmed() {
    let first = fifth();
    let mut files = first.seal();
    let served = files.roles.insert("targets/releases".to_owned(), b"garbage".to_vec());
    let updated = files.update(&first.pin(), GUN, &Memory::default(), now());
    let set = updated.repository.unwrap();
    assert!(!set.is_complete());
    assert!(!set.is_confirmed_by(&files.timestamp, &updated.memory, now()));
    // A file that is had as it is listed is not missing because it is bad.
    files.roles.insert("targets/releases".to_owned(), served.unwrap());
    assert!(files.verify(&first.pin()).unwrap().is_complete());
    let mut unsigned = first;
    unsigned.role("targets/releases").signers = Vec::new();
    assert!(unsigned.seal().verify(&unsigned.pin()).unwrap().is_complete());
}

#[test]
fn a_set_is_superseded_by_what_is_newer_and_by_nothing_else() {
    let first = fifth();
    let (set, _, memory) = at_hand(&first);
    assert!(!set.superseded_by(&memory));
    // Forgotten, or restored from an old backup: not newer.
    assert!(!set.superseded_by(&Memory::default()));
    let mut older = first.clone();
    older.set("timestamp", "version", json!(4));
    assert!(!set.superseded_by(&remembered(&older)));
    // One newer role each; a rotation counts though the version is lower.
    for role in ["timestamp", "snapshot", "targets", "targets/releases"] {
        let mut newer = memory.clone();
        newer.roles.get_mut(role).unwrap().version = 6;
        assert!(set.superseded_by(&newer), "{role}");
    }
    let mut rotated = first.clone();
    let key = Signer::new(Kind::P256);
    rotated.timestamp_key = key.clone();
    rotated.role("timestamp").signers = vec![key];
    rotated.set("timestamp", "version", json!(1));
    assert!(set.superseded_by(&remembered(&with_second_root(&rotated))));
    // Another root of the same version.
    let mut forked = memory;
    forked.root.as_mut().unwrap().sha256 = "ab".repeat(32);
    assert!(set.superseded_by(&forked));
}
