//! What is remembered only ever restricts.

use countersign_verify::notary::{Floor, Memory, RootFloor};
use countersign_verify::outcome::Denial;
use serde_json::{Value, json};

use crate::builder::{GUN, Repo, Updated, code, denial, find_tag, now, pin};
use crate::signer::{Cert, Kind, Signer};

/// Tag 1.0 in `targets`, 1.4 in `targets/releases`; every role at version 5.
pub(crate) fn fifth() -> Repo {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    for role in ["timestamp", "snapshot", "targets", "targets/releases"] {
        repo.set(role, "version", json!(5));
    }
    repo
}

pub(crate) fn update(repo: &Repo, memory: &Memory) -> Updated {
    repo.seal().update(&repo.pin(), GUN, memory, now())
}

pub(crate) fn remembered(repo: &Repo) -> Memory {
    let updated = update(repo, &Memory::default());
    updated.repository.unwrap();
    updated.memory
}

/// The refusal of the update, or of tag 1.4's lookup.
fn refusal(updated: Updated) -> Denial {
    match updated.repository {
        Ok(repository) => denial(find_tag(&repository, "1.4", "new")),
        refusal => denial(refusal),
    }
}

#[test]
fn t8_rollback_of_every_role_in_one_run_and_after_a_restart() {
    let first = fifth();
    let memory = remembered(&first);
    // As it comes back from a checkpoint.
    let text = serde_json::to_string(&memory).unwrap();
    let memory: Memory = serde_json::from_str(&text).unwrap();
    for role in ["timestamp", "snapshot", "targets", "targets/releases"] {
        let mut older = first.clone();
        older.set(role, "version", json!(4));
        let updated = update(&older, &memory);
        assert_eq!(updated.memory.roles[role].version, 5);
        let expected = Denial::Rollback { role: role.to_owned(), found: 4, remembered: 5 };
        assert_eq!(refusal(updated), expected);
        // The same version again is fine.
        assert!(update(&first, &memory).repository.is_ok());
    }
}

/// [`fifth`] with a second root by the same key.
pub(crate) fn with_second_root(repo: &Repo) -> Repo {
    let mut repo = repo.clone();
    let root = repo.root(2, &[repo.root_key.clone()], 1);
    repo.roots.insert(2, root);
    repo
}

#[test]
fn t8_rollback_of_the_root() {
    let first = fifth();
    let memory = remembered(&with_second_root(&first));
    assert_eq!(memory.root.as_ref().unwrap().version, 2);
    let updated = update(&first, &memory);
    assert_eq!(updated.memory, memory);
    assert_eq!(
        refusal(updated),
        Denial::Rollback { role: "root".to_owned(), found: 1, remembered: 2 }
    );
}

#[test]
fn t8_another_root_of_a_remembered_version() {
    let first = fifth();
    let memory = remembered(&first);
    let seen = memory.root.clone().unwrap().sha256;
    let mut forked = first.clone();
    forked.set("root", "expires", json!("2038-01-01T00:00:00Z"));
    // As the newest, and below the newest in the chain that is walked.
    let mut newer = forked.clone();
    let key = Signer::x509(Kind::P256, &Cert::named(GUN));
    let mut root = newer.root(2, std::slice::from_ref(&key), 1);
    root.signers.push(newer.root_key.clone());
    newer.roots.insert(2, root);
    for repo in [forked, newer] {
        let found = super::builder::sha256(&repo.seal().roots[&1]);
        let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
        let denial = refusal(update(&repo, &memory));
        assert_eq!(denial.code(), "MalformedMetadata");
        let text = denial.to_string();
        assert!(text.contains(&seen) && text.contains(&found), "{text}");
    }
}

#[test]
fn memory_is_never_a_starting_point() {
    // Root 2 is not signed by the pinned key, nor by root 1's; that it is remembered is no excuse.
    let first = fifth();
    let mut second = first.clone();
    let key = Signer::x509(Kind::P256, &Cert::named(GUN));
    let root = second.root(2, std::slice::from_ref(&key), 1);
    second.roots.insert(2, root);
    let other = second.seal().update(&pin(&[&key], 1), GUN, &Memory::default(), now());
    other.repository.unwrap();
    assert_eq!(other.memory.root.as_ref().unwrap().version, 2);
    assert_eq!(refusal(update(&second, &other.memory)).code(), "ThresholdNotMet");
}

#[test]
fn every_verified_step_is_remembered_even_if_a_later_one_fails() {
    let first = fifth();
    let memory = remembered(&first);
    let mut repo = with_second_root(&first);
    repo.set("timestamp", "version", json!(6));
    repo.set("snapshot", "version", json!(6));
    repo.set("targets", "version", json!(6));
    repo.role("targets").signers = Vec::new();
    let updated = update(&repo, &memory);
    assert_eq!(code(&updated.repository), "ThresholdNotMet");
    let version = |role: &str| updated.memory.roles[role].version;
    assert_eq!(updated.memory.root.as_ref().unwrap().version, 2);
    assert_eq!((version("timestamp"), version("snapshot"), version("targets")), (6, 6, 5));
    let old = update(&first, &Memory::default()).repository.unwrap();
    assert!(old.superseded_by(&updated.memory) && !old.superseded_by(&memory));
    assert_eq!(old.memory(), &memory);
    // By a newer root alone, and by a newer timestamp alone.
    let root = Memory { root: updated.memory.root.clone(), ..memory.clone() };
    let timestamp = Memory { root: memory.root, roles: updated.memory.roles };
    assert!(old.superseded_by(&root) && old.superseded_by(&timestamp));
}

#[test]
fn what_is_not_verified_is_not_remembered() {
    let first = fifth();
    let memory = remembered(&first);
    for role in ["timestamp", "snapshot", "targets", "targets/releases", "root"] {
        let mut repo = first.clone();
        repo.set(role, "version", json!(u64::MAX));
        repo.role(role).signers = vec![Signer::new(Kind::P256)];
        let updated = update(&repo, &memory);
        assert_eq!(updated.memory, memory, "{role}");
    }
}

#[test]
fn t5_an_expired_file_is_remembered() {
    let first = fifth();
    let mut repo = first.clone();
    repo.set("timestamp", "version", json!(6));
    repo.set("timestamp", "expires", json!("2029-12-31T00:00:00Z"));
    let updated = update(&repo, &Memory::default());
    assert_eq!(code(&updated.repository), "Expired");
    assert_eq!(refusal(update(&first, &updated.memory)).code(), "Rollback");
}

#[test]
fn t4_fast_forward_and_recovery_after_the_keys_are_rotated() {
    for role in ["timestamp", "snapshot", "targets"] {
        let first = fifth();
        let mut forward = first.clone();
        forward.set(role, "version", json!(u64::MAX));
        let memory = remembered(&forward);
        assert_eq!(memory.roles[role].version, u64::MAX);
        assert_eq!(refusal(update(&first, &memory)).code(), "Rollback", "{role}");
        let mut recovered = first.clone();
        let key = Signer::new(Kind::P256);
        match role {
            "timestamp" => recovered.timestamp_key = key.clone(),
            "snapshot" => recovered.snapshot_key = key.clone(),
            _ => recovered.targets_key = key.clone(),
        }
        recovered.role(role).signers = vec![key];
        let recovered = with_second_root(&recovered);
        let updated = update(&recovered, &memory);
        updated.repository.unwrap();
        assert_eq!(updated.memory.roles[role].version, 5, "{role}");
        // The old keys' files do not come back: the root's floor holds.
        assert_eq!(refusal(update(&forward, &updated.memory)).code(), "Rollback", "{role}");
    }
}

#[test]
fn t4_recovery_survives_an_update_that_fails_between_the_rotation_and_the_role() {
    let forward = {
        let mut repo = fifth();
        repo.set("timestamp", "version", json!(u64::MAX));
        repo.set("targets/releases", "version", json!(u64::MAX));
        repo
    };
    let before = remembered(&forward);
    let (timestamp, releases) = (Signer::new(Kind::P256), Signer::new(Kind::P256));
    let mut recovered = fifth();
    recovered.timestamp_key = timestamp.clone();
    recovered.role("timestamp").signers = vec![timestamp];
    recovered.set("targets", "version", json!(6));
    recovered.set("targets", "delegations", json!({"keys": {}, "roles": []}));
    recovered.delegate("targets/releases", &[""], std::slice::from_ref(&releases), 1);
    recovered.role("targets/releases").signers = vec![releases];
    let recovered = with_second_root(&recovered);
    let mut memory = before;
    for broken in ["timestamp", "targets/releases"] {
        let mut half = recovered.clone();
        half.role(broken).signers = Vec::new();
        let after = update(&half, &memory).memory;
        assert_eq!(after.roles[broken].version, 0, "{broken}");
        memory = memory.merged(after);
        assert_eq!(memory.roles[broken].version, 0, "{broken}");
    }
    // What others write meanwhile, who have not seen the rotation, does not bring it back.
    memory = memory.merged(remembered(&forward));
    let after = update(&recovered, &memory);
    find_tag(&after.repository.unwrap(), "1.4", "new").unwrap();
    memory = memory.merged(after.memory.clone());
    assert_eq!(memory, after.memory);
    assert_eq!(memory.roles["timestamp"].version, 5);
    assert_eq!(memory.roles["targets/releases"].version, 5);
}

#[test]
fn t4_a_version_past_64_bits_is_malformed() {
    for version in [json!(u64::MAX), json!(i64::MIN)] {
        let mut repo = fifth();
        repo.set("targets", "version", version.clone());
        assert_eq!(
            update(&repo, &Memory::default()).repository.is_ok(),
            version == json!(u64::MAX)
        );
    }
    let repo = fifth();
    let text = String::from_utf8(repo.seal().timestamp).unwrap();
    for version in ["18446744073709551616", "99999999999999999999999999", "1e400"] {
        let mut files = repo.seal();
        files.timestamp =
            text.replace("\"version\":5", &format!("\"version\":{version}")).into_bytes();
        assert_eq!(code(&files.verify(&repo.pin())), "MalformedMetadata");
    }
}

#[test]
fn t4_a_delegation_recovers_when_the_delegating_role_changes_its_keys() {
    let first = fifth();
    let mut forward = first.clone();
    forward.set("targets/releases", "version", json!(u64::MAX));
    let memory = remembered(&forward);
    assert_eq!(refusal(update(&first, &memory)).code(), "Rollback");
    let mut recovered = first.clone();
    let key = Signer::new(Kind::P256);
    recovered.set("targets", "delegations", json!({"keys": {}, "roles": []}));
    recovered.delegate("targets/releases", &[""], std::slice::from_ref(&key), 1);
    recovered.role("targets/releases").signers = vec![key];
    let repository = update(&recovered, &memory).repository.unwrap();
    find_tag(&repository, "1.4", "new").unwrap();
}

#[test]
fn t8_t20_a_remembered_role_that_the_snapshot_drops() {
    let first = fifth();
    let memory = remembered(&first);
    let drop_role = |role: &'static str| {
        move |snapshot: &mut Value| drop(snapshot["meta"].as_object_mut().unwrap().remove(role))
    };
    let gone = |role: &str| Denial::Rollback { role: role.to_owned(), found: 0, remembered: 5 };
    let files = first.seal_with(drop_role("targets/releases"), |_| {});
    let repository = files.update(&first.pin(), GUN, &memory, now()).repository.unwrap();
    // Without it the older entry in `targets` would win.
    assert_eq!(denial(find_tag(&repository, "1.0", "old")), gone("targets/releases"));
    assert_eq!(denial(find_tag(&repository, "1.4", "new")), gone("targets/releases"));
    // Never seen before, it is passed over.
    let repository = files.verify(&first.pin()).unwrap();
    find_tag(&repository, "1.0", "old").unwrap();
    let files = first.seal_with(drop_role("targets"), |_| {});
    let updated = files.update(&first.pin(), GUN, &memory, now());
    assert_eq!(denial(updated.repository), gone("targets"));
}

#[test]
fn the_delegating_role_may_end_a_delegation() {
    let first = fifth();
    let memory = remembered(&first);
    let mut repo = first.clone();
    repo.roles.remove("targets/releases");
    repo.set("targets", "delegations", json!({"keys": {}, "roles": []}));
    let repository = update(&repo, &memory).repository.unwrap();
    find_tag(&repository, "1.0", "old").unwrap();
}

#[test]
fn t21_a_checkpoint_s_form_is_strict() {
    let memory = Memory {
        root: Some(RootFloor { version: 4, sha256: "ab".repeat(32), signers: None }),
        roles: [("targets".to_owned(), Floor { version: u64::MAX, keys: "cd".repeat(32) })].into(),
    };
    let text = serde_json::to_string(&memory).unwrap();
    assert_eq!(serde_json::from_str::<Memory>(&text).unwrap(), memory);
    assert!(serde_json::from_str::<Memory>(&text.replace("root", "rot")).is_err());
}
