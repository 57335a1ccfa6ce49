//! What an update takes over from the one before, and from files of an earlier run.

use std::collections::BTreeMap;

use countersign_verify::memory::Memory;
use countersign_verify::outcome::Denial;
use countersign_verify::tuf::{Answer, Kept, KeptFile, Update, unknown_keys};
use serde_json::json;

use crate::builder::{Files, Repo, now, time};
use crate::shell::{denial, find, tags};
use crate::signer::Signer;
use crate::update::{run, sound};

#[test]
fn an_unchanged_repository_costs_two_requests() {
    let repo = sound();
    let files = repo.seal();
    let first = run(&files);
    let repository = first.repository.as_ref().unwrap();
    let again = || Update::new(&files.initial(), first.memory.clone(), now()).after(repository);
    let updated = files.drive(again(), tags("1.4"));
    updated.find("new").unwrap();
    assert_eq!(updated.asked, ["2.root.json", "timestamp.json"]);
    assert_eq!(updated.memory, first.memory);
    // What another lookup loaded is there still.
    let updated = files.drive(again(), tags("1.0"));
    find(updated.repository.as_ref().unwrap(), &tags("1.4"), "new").unwrap();
    // A changed role is fetched alone.
    let mut newer = repo.clone();
    newer.set_role("releases", &[("1.4", "newer")], &newer.roles["releases"].signers.clone());
    for role in ["releases", "snapshot", "timestamp"] {
        newer.set(role, "version", json!(2));
    }
    let updated = newer.seal().drive(again(), tags("1.4"));
    updated.find("newer").unwrap();
    let asked = ["2.root.json", "timestamp.json", "2.snapshot.json", "2.releases.json"];
    assert_eq!(updated.asked, asked);
}

#[test]
fn t5_what_is_kept_from_before_expires_as_well() {
    let files = sound().seal();
    let first = run(&files);
    let repository = first.repository.as_ref().unwrap();
    for (later, role) in [("2030-01-08T00:00:00Z", "timestamp"), ("2039-01-01T00:00:00Z", "root")] {
        let update = Update::new(&files.initial(), first.memory.clone(), time(later));
        let updated = files.drive(update.after(repository), tags("1.4"));
        match denial(updated.repository) {
            Denial::Expired { role: found, .. } => assert_eq!(found, role),
            other => panic!("{other}"),
        }
    }
}

#[test]
fn a_set_of_another_initial_root_is_of_no_use() {
    let (files, other) = (sound().seal(), sound().seal());
    let repository = run(&other).repository.unwrap();
    let update = Update::new(&files.initial(), Memory::default(), now()).after(&repository);
    let updated = files.drive(update, tags("1.4"));
    updated.find("new").unwrap();
    assert_eq!(updated.asked.len(), 5);
}

#[test]
fn t4_what_was_verified_by_keys_that_a_root_rotates_is_fetched_anew() {
    let repo = sound();
    let first = run(&repo.seal());
    let repository = first.repository.as_ref().unwrap();
    let mut rotated = repo.clone();
    rotated.targets_key = Signer::default();
    rotated.rotate();
    // The old targets file, by the old key, is no longer good.
    let mut files = rotated.seal();
    files.roles = repo.seal().roles;
    let update = Update::new(&files.initial(), first.memory.clone(), now()).after(repository);
    let updated = files.drive(update, tags("1.4"));
    assert_eq!(updated.denial().code(), "ThresholdNotMet");
    assert!(updated.asked.contains(&"1.targets.json".to_owned()));
}

#[test]
fn kept_files_are_verified_before_they_are_used() {
    let repo = sound();
    let files = repo.seal();
    let with = |kept: &BTreeMap<String, Vec<u8>>| {
        let update = Update::new(&files.initial(), Memory::default(), now());
        files.drive(update.with_kept_files(kept.clone()), tags("1.4"))
    };
    let updated = with(&files.roles);
    updated.find("new").unwrap();
    assert_eq!(updated.asked, ["2.root.json", "timestamp.json"]);
    // Garbage and foreign files are not used, and harm nothing.
    let other = sound().seal();
    for kept in
        [other.roles, files.roles.keys().map(|role| (role.clone(), b"garbage".to_vec())).collect()]
    {
        let updated = with(&kept);
        updated.find("new").unwrap();
        assert_eq!(updated.asked.len(), 5);
    }
    // t8: a kept timestamp or snapshot is a floor.
    let mut newer = repo.clone();
    newer.set("timestamp", "version", json!(2));
    let expected = Denial::Rollback { role: "timestamp".to_owned(), found: 1, remembered: 2 };
    assert_eq!(with(&newer.seal().roles).denial(), expected);
    let mut newer = repo.clone();
    newer.set("releases", "version", json!(3));
    let kept = [("snapshot".to_owned(), newer.seal().roles["snapshot"].clone())].into();
    let expected = Denial::Rollback { role: "releases".to_owned(), found: 1, remembered: 3 };
    assert_eq!(with(&kept).denial(), expected);
    // Also where it has expired.
    let mut newer = repo.clone();
    newer.set("timestamp", "version", json!(2));
    newer.set("timestamp", "expires", json!("2029-01-01T00:00:00Z"));
    assert_eq!(with(&newer.seal().roles).denial().code(), "Rollback");
}

#[test]
fn roles_can_be_loaded_into_a_set_that_is_there() {
    let files = sound().seal();
    let first = files.run(tags("1.0"), &Memory::default());
    first.find("new").unwrap_err();
    let repository = first.repository.unwrap();
    let question = tags("1.4");
    let digest = crate::builder::digest("new");
    let image = countersign_verify::tuf::Image {
        reference: &question.reference,
        digest: &digest,
        size: None,
        manifest: None,
    };
    assert!(repository.needs_roles(&question.lookup, image, now()));
    let updated = files.drive(Update::within(&repository, now()), question.clone());
    updated.find("new").unwrap();
    assert_eq!(updated.asked, ["1.releases.json"]);
    let repository = updated.repository.unwrap();
    assert!(!repository.needs_roles(&question.lookup, image, now()));
    assert!(!repository.superseded_by(&updated.memory));
}

/// An update that wants a delegated role, and that role's file.
fn wanting() -> (Update, Files) {
    let repo = sound();
    let files = repo.seal();
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    let question = tags("1.4");
    update.want(&question.lookup, &question.reference, None);
    for role in ["root", "timestamp", "snapshot", "targets"] {
        assert_eq!(update.wanted()[0].role, role);
        let answer = match role {
            "root" => Answer::Absent,
            role => Answer::Bytes(&files.roles[role]),
        };
        update.take(role, answer).unwrap();
    }
    (update, files)
}

#[test]
fn a_kept_file_that_is_offered_is_taken_if_it_is_the_one_that_is_wanted() {
    let (mut update, files) = wanting();
    let wanted = update.wanted();
    let role = wanted[0].role.clone();
    let mut changed = files.roles[&role].clone();
    let digit = changed.iter().rposition(u8::is_ascii_digit).unwrap();
    changed[digit] = if changed[digit] == b'9' { b'8' } else { b'9' };
    for other in [&b""[..], &changed, &files.roles["targets"]] {
        update.offer(&role, other);
        assert_eq!(update.wanted(), wanted);
        assert!(!update.rests_on(&role, other));
    }
    update.offer("nobody", &files.roles[&role]);
    assert_eq!(update.wanted(), wanted);
    update.offer(&role, &files.roles[&role]);
    assert!(update.rests_on(&role, &files.roles[&role]));
    assert_ne!(update.wanted(), wanted);
}

#[test]
fn an_update_rests_on_what_it_has_verified_and_on_nothing_else() {
    let repo = sound();
    let files = repo.seal();
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    assert!(update.rests_on("root", &files.roots[&1]));
    assert!(!update.rests_on("root", b""));
    update.take("root", Answer::Absent).unwrap();
    assert!(!update.rests_on("timestamp", &files.roles["timestamp"]));
    update.take("timestamp", Answer::Bytes(&files.roles["timestamp"])).unwrap();
    assert!(update.rests_on("timestamp", &files.roles["timestamp"]));
    // Nor does the end of it take anything back.
    update.take("snapshot", Answer::Bytes(b"")).unwrap_err();
    assert!(update.rests_on("timestamp", &files.roles["timestamp"]));
    assert!(!update.rests_on("snapshot", &files.roles["snapshot"]));
    assert!(!update.rests_on("targets", &files.roles["targets"]));
}

#[test]
fn t13_roles_that_delegate_to_each_other_are_told_of_once() {
    let mut repo = Repo::new();
    let key = repo.delegated("targets", "a", &["*"], &[]);
    let other = repo.delegated("a", "b", &["*"], &[]);
    repo.delegate("b", "a", json!({"paths": ["*"]}), std::slice::from_ref(&key), 1);
    repo.set_role("b", &[("x/y", "new")], std::slice::from_ref(&other));
    let files = repo.seal();
    let read = |role: &str| files.roles.get(role).cloned();
    let names = files.roles.keys().cloned().collect();
    let kept = Kept::read(&files.initial(), &names, &read);
    let a = &kept.targets.delegations[0].role;
    let b = &a.delegations[0].role;
    assert_eq!((a.name.as_str(), b.name.as_str()), ("a", "b"));
    let KeptFile::Signed { detail, outdated: None } = &b.file else { panic!("{:?}", b.file) };
    assert_eq!((detail.version, detail.entries), (1, 1));
    let again = &b.delegations[0].role;
    assert!(matches!(again.file, KeptFile::Signed { .. }) && again.delegations.is_empty());
    // Nothing is told of a role that its keys have not signed.
    let bad = |role: &str| read(if role == "b" { "a" } else { role });
    let kept = Kept::read(&files.initial(), &names, &bad);
    let b = &kept.targets.delegations[0].role.delegations[0].role;
    assert!(matches!(&b.file, KeptFile::Bad(Denial::ThresholdNotMet { .. })), "{:?}", b.file);
    assert!(b.delegations.is_empty());
}

#[test]
fn t14_keys_that_count_nothing_are_named() {
    let mut repo = Repo::new();
    let unknown = Signer::default().of_type("sphincs").by_scheme("sphincs-shake-128s");
    repo.delegate("targets", "team", json!({"paths": ["*"]}), std::slice::from_ref(&unknown), 1);
    let files = repo.seal();
    let told = format!("{} (sphincs by sphincs-shake-128s)", unknown.id);
    assert_eq!(unknown_keys(&files.roles["targets"]), [told]);
    for file in [&files.roots[&1], &files.roles["snapshot"], &Vec::new()] {
        assert_eq!(unknown_keys(file), [""; 0]);
    }
}
