//! What is remembered only ever restricts.

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::Denial;
use countersign_verify::tuf::Update;
use serde_json::json;

use crate::builder::{Repo, now};
use crate::shell::{Updated, tags};
use crate::signer::Signer;

const ROLES: [&str; 4] = ["timestamp", "snapshot", "targets", "team/releases"];

/// Tag 1.4 in a delegated role; every role at version 5.
fn fifth() -> Repo {
    let mut repo = Repo::signing(&[("1.0", "old")]);
    repo.delegated("targets", "team/releases", &["*/*/*/*"], &[("1.4", "new")]);
    for role in ROLES {
        repo.set(role, "version", json!(5));
    }
    repo
}

fn update(repo: &Repo, memory: &Memory) -> Updated {
    repo.seal().run(tags("1.4"), memory)
}

/// An update to the second repository in the run that verified the first, without memory.
fn after(first: &Repo, second: &Repo) -> Updated {
    let first = update(first, &Memory::default()).repository.unwrap();
    let files = second.seal();
    let update = Update::new(&files.initial(), Memory::default(), now());
    files.drive(update.after(&first), tags("1.4"))
}

fn remembered(repo: &Repo) -> Memory {
    let updated = update(repo, &Memory::default());
    updated.find("new").unwrap();
    // As it comes back from a checkpoint.
    serde_json::from_str(&serde_json::to_string(&updated.memory).unwrap()).unwrap()
}

fn name(role: &str) -> String {
    role.replace('/', "%2F")
}

#[test]
fn t8_rollback_of_every_role_in_one_run_and_after_a_restart() {
    let repo = fifth();
    let memory = remembered(&repo);
    for role in ROLES {
        let mut older = repo.clone();
        older.set(role, "version", json!(4));
        let updated = update(&older, &memory);
        let expected = Denial::Rollback { role: role.to_owned(), found: 4, remembered: 5 };
        assert_eq!(updated.denial(), expected);
        assert_eq!(updated.memory.roles[&name(role)].version, 5);
        // In one run: the timestamp has to be a newer one to be looked at.
        if role != "timestamp" {
            older.set("timestamp", "version", json!(6));
        }
        assert_eq!(after(&repo, &older).denial(), expected);
        // The same versions again are fine.
        update(&repo, &memory).find("new").unwrap();
    }
}

#[test]
fn t8_a_timestamp_of_the_same_version_changes_nothing() {
    let repo = fifth();
    let mut other = repo.clone();
    other.set_role("team/releases", &[("1.4", "newer")], &repo.roles["team/releases"].signers);
    for role in ["team/releases", "snapshot"] {
        other.set(role, "version", json!(6));
    }
    let updated = after(&repo, &other);
    updated.find("new").unwrap();
    assert_eq!(updated.asked.len(), 2);
    assert_eq!(updated.memory, remembered(&repo));
}

#[test]
fn t8_t20_a_role_must_not_vanish_from_the_snapshot() {
    let repo = fifth();
    let memory = remembered(&repo);
    for role in ["team/releases", "targets"] {
        let gone = |snapshot: &mut serde_json::Value| {
            let meta = snapshot["meta"].as_object_mut().unwrap();
            assert!(meta.remove(&format!("{role}.json")).is_some());
        };
        let updated = repo.seal_with(gone, |_| {}).run(tags("1.4"), &memory);
        let expected = Denial::Rollback { role: role.to_owned(), found: 0, remembered: 5 };
        assert_eq!(updated.denial(), expected);
    }
}

#[test]
fn t4_fast_forward_is_recovered_from_by_rotating_the_keys() {
    let repo = fifth();
    for (role, rotated) in [
        ("timestamp", &["timestamp"][..]),
        ("snapshot", &["timestamp", "snapshot"]),
        ("targets", &["snapshot"]),
        ("team/releases", &["snapshot"]),
    ] {
        let mut forward = repo.clone();
        forward.set(role, "version", json!(u64::MAX));
        let memory = remembered(&forward);
        assert_eq!(memory.roles[&name(role)].version, u64::MAX);
        update(&forward, &memory).find("new").unwrap();
        assert_eq!(update(&repo, &memory).denial().code(), "Rollback");
        // Another root by itself changes nothing.
        let mut same = repo.clone();
        same.rotate();
        assert_eq!(update(&same, &memory).denial().code(), "Rollback", "{role}");
        let mut recovered = repo.clone();
        for key in rotated {
            match *key {
                "timestamp" => recovered.timestamp_key = Signer::default(),
                _ => recovered.snapshot_key = Signer::default(),
            }
        }
        recovered.rotate();
        let updated = update(&recovered, &memory);
        updated.find("new").unwrap();
        assert_eq!(updated.memory.roles[&name(role)].version, 5);
        // In one run as well, by a newer timestamp.
        let mut newer = recovered.clone();
        if !rotated.contains(&"timestamp") {
            newer.set("timestamp", "version", json!(6));
        }
        after(&forward, &newer).find("new").unwrap();
        // And from there no way back, on another replica either.
        let merged = memory.merged(updated.memory.clone());
        assert_eq!(merged, updated.memory);
    }
}

#[test]
fn a_role_may_be_dropped_when_the_snapshot_s_keys_are_rotated() {
    let mut repo = fifth();
    let key = repo.targets_key.clone();
    repo.set_role("other", &[], &[key]);
    let memory = remembered(&repo);
    repo.roles.remove("other");
    assert_eq!(update(&repo, &memory).denial().code(), "Rollback");
    repo.snapshot_key = Signer::default();
    repo.rotate();
    let updated = update(&repo, &memory);
    updated.find("new").unwrap();
    assert_eq!(updated.memory.roles["other"].version, 0);
}

#[test]
fn t4_floors_of_rotated_keys_fall_with_the_root_though_nothing_after_it_can_be_read() {
    let mut repo = fifth();
    for role in ROLES {
        repo.set(role, "version", json!(u64::MAX));
    }
    let stored = remembered(&repo);
    for role in ROLES {
        repo.set(role, "version", json!(5));
    }
    repo.timestamp_key = Signer::default();
    repo.snapshot_key = Signer::default();
    repo.rotate();
    let mut files = repo.seal();
    files.roles.remove("timestamp");
    let updated = files.run(tags("1.4"), &stored);
    updated.find("new").unwrap_err();
    // As it is written then: a version that falls later, without a newer root, is refused.
    let fallen = stored.merged(updated.memory);
    assert_eq!(fallen.root.as_ref().unwrap().version, 2);
    assert!(fallen.roles.values().all(|floor| floor.version == 0), "{fallen:?}");
    let recovered = update(&repo, &fallen);
    recovered.find("new").unwrap();
    let risen = fallen.merged(recovered.memory);
    assert!(risen.roles.values().all(|floor| floor.version == 5), "{risen:?}");
}

#[test]
fn t8_a_key_that_is_added_lowers_no_floor() {
    let repo = fifth();
    let memory = remembered(&repo);
    let mut older = repo.clone();
    older.set("timestamp", "version", json!(4));
    older.rotate();
    let added = Signer::default();
    let root = older.role("root");
    root.signed["keys"][&added.id] = added.json();
    root.signed["roles"]["timestamp"]["keyids"].as_array_mut().unwrap().push(json!(added.id));
    let expected = Denial::Rollback { role: "timestamp".to_owned(), found: 4, remembered: 5 };
    assert_eq!(update(&older, &memory).denial(), expected);
}

#[test]
fn every_verified_step_is_remembered_even_if_a_later_one_fails() {
    let repo = fifth();
    let memory = remembered(&repo);
    let mut newer = repo.clone();
    newer.rotate();
    newer.set("timestamp", "version", json!(6));
    newer.set("snapshot", "version", json!(7));
    let mut files = newer.seal();
    files.roles.insert("snapshot".to_owned(), b"garbage".to_vec());
    let updated = files.run(tags("1.4"), &memory);
    assert_eq!(updated.denial().code(), "MalformedMetadata");
    assert_eq!(updated.memory.root.as_ref().unwrap().version, 2);
    let version = |role: &str| updated.memory.roles[role].version;
    assert_eq!((version("timestamp"), version("snapshot"), version("targets")), (6, 7, 5));
    // What was verified before does not answer any more.
    assert!(update(&repo, &memory).repository.is_ok_and(|old| old.superseded_by(&updated.memory)));
}

#[test]
fn nothing_unverified_is_remembered() {
    for role in ROLES {
        let mut repo = fifth();
        repo.set(role, "version", json!(9));
        repo.role(role).signers = vec![Signer::default()];
        let updated = update(&repo, &Memory::default());
        updated.find("new").unwrap_err();
        // The version that a verified file lists is remembered.
        let expected = (role != "timestamp").then_some(9);
        assert_eq!(updated.memory.roles.get(&name(role)).map(|floor| floor.version), expected);
    }
}

#[test]
fn of_many_roles_only_those_of_every_repository_are_remembered() {
    let mut repo = fifth();
    let key = repo.targets_key.clone();
    repo.set_role("other", &[], &[key]);
    let many = |snapshot: &mut serde_json::Value| {
        for number in 0..limits::REMEMBERED_ROLES {
            snapshot["meta"][format!("bin-{number}.json")] = json!({"version": 1});
        }
    };
    let memory = repo.seal_with(many, |_| {}).run(tags("1.4"), &Memory::default()).memory;
    let names: Vec<&String> = memory.roles.keys().collect();
    assert_eq!(names, ["snapshot", "targets", "timestamp"]);
    // Nor is a name that is too long for a checkpoint, even of few.
    let long = "x".repeat(limits::REMEMBERED_NAME_BYTES);
    let named = |snapshot: &mut serde_json::Value| {
        snapshot["meta"][format!("{long}.json")] = json!({"version": 1});
        snapshot["meta"][format!("{long}x.json")] = json!({"version": 1});
    };
    let memory = repo.seal_with(named, |_| {}).run(tags("1.4"), &Memory::default()).memory;
    assert!(memory.roles.contains_key(&long));
    assert!(!memory.roles.contains_key(&format!("{long}x")));
    // Of few, all: also those that no lookup has loaded.
    let memory = update(&repo, &Memory::default()).memory;
    assert!(memory.roles.contains_key("other"));
}
