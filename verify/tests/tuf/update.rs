//! Timestamp, snapshot and targets: freezes, mixes, lengths and hashes, and what is kept.

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use countersign_verify::tuf::{Answer, Update};
use serde_json::{Value, json};

use crate::builder::{Files, Repo, now, time};
use crate::shell::{Updated, code, denial, find, tags};
use crate::signer::Signer;

pub fn sound() -> Repo {
    let mut repo = Repo::signing(&[("1.0", "old")]);
    repo.delegated(
        "targets",
        "releases",
        &["registry.example.com/payments/*/*"],
        &[("1.4", "new")],
    );
    repo
}

pub fn run(files: &Files) -> Updated {
    files.run(tags("1.4"), &Memory::default())
}

#[test]
fn a_sound_repository_answers() {
    for (hashes, consistent) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut repo = sound();
        (repo.hashes, repo.consistent) = (hashes, consistent);
        repo.roots.insert(1, repo.root(1));
        let updated = run(&repo.seal());
        let proof = updated.find("new").unwrap();
        assert_eq!((proof.role(), proof.expires()), ("releases", time("2030-01-08T00:00:00Z")));
        assert_eq!(proof.name(), "registry.example.com/payments/api/1.4");
        let repository = updated.repository.unwrap();
        assert_eq!(repository.is_consistent(), consistent);
        assert!(repository.is_complete());
        assert_eq!(repository.expires(), time("2030-01-08T00:00:00Z"));
        let prefix = if consistent { "1." } else { "" };
        let files = ["snapshot", "targets", "releases"].map(|role| format!("{prefix}{role}.json"));
        assert_eq!(updated.asked[2..], files);
        let infos: Vec<String> = repository.roles().map(|info| info.name).collect();
        assert_eq!(infos, ["root", "timestamp", "snapshot", "releases", "targets"]);
    }
}

#[test]
fn t1_metadata_by_a_key_that_no_role_names_is_refused() {
    for role in ["timestamp", "snapshot", "targets", "releases"] {
        let mut repo = sound();
        repo.role(role).signers = vec![Signer::default()];
        let expected = Denial::ThresholdNotMet { role: role.to_owned(), found: 0, wanted: 1 };
        assert_eq!(run(&repo.seal()).denial(), expected);
    }
    // A role's key signs no other role's file.
    let mut repo = sound();
    repo.timestamp.signers = vec![repo.targets_key.clone(), repo.root_keys[0].clone()];
    assert_eq!(run(&repo.seal()).denial().code(), "ThresholdNotMet");
}

#[test]
fn t5_an_expired_file_is_refused_by_its_role() {
    for role in ["timestamp", "snapshot", "targets", "releases"] {
        let mut repo = sound();
        let expired = now();
        repo.set(role, "expires", json!(expired.to_string()));
        let updated = run(&repo.seal());
        let expected = Denial::Expired { role: role.to_owned(), expired, now: now() };
        assert_eq!(updated.denial(), expected);
        // It was verified, so it is remembered.
        assert_eq!(updated.memory.roles[role].version, 1);
    }
}

#[test]
fn t5_targets_that_expired_since_end_the_update_though_they_did_not_change() {
    let mut repo = Repo::signing(&[("1.4", "new")]);
    repo.set("targets", "expires", json!("2030-01-01T13:00:00Z"));
    let files = repo.seal();
    let earlier = files.run(tags("1.4"), &Memory::default()).repository.unwrap();
    let later = |time: &str| {
        let update = Update::new(&files.initial(), Memory::default(), time.parse().unwrap());
        files.drive(update.after(&earlier), tags("1.4")).repository.map(drop)
    };
    later("2030-01-01T12:59:59Z").unwrap();
    assert_eq!(later("2030-01-01T13:00:00Z").unwrap_err().code(), "Expired");
}

#[test]
fn t5_t17_expiries_are_checked_at_every_lookup() {
    let mut repo = sound();
    repo.set("releases", "expires", json!("2030-01-03T00:00:00Z"));
    let repository = run(&repo.seal()).repository.unwrap();
    let question = tags("1.4");
    let at = |when: &str| {
        let digest = crate::builder::digest("new");
        let image = countersign_verify::tuf::Image {
            reference: &question.reference,
            digest: &digest,
            size: None,
            manifest: None,
        };
        repository.find(&question.lookup, image, time(when)).map(|proof| proof.expires())
    };
    assert_eq!(at("2030-01-02T00:00:00Z"), Ok(time("2030-01-03T00:00:00Z")));
    let expired = |role: &str, when| match denial(at(when)) {
        Denial::Expired { role: found, .. } => assert_eq!(found, role),
        other => panic!("{other}"),
    };
    expired("releases", "2030-01-03T00:00:00Z");
    expired("timestamp", "2030-01-08T00:00:00Z");
    expired("root", "2040-01-08T00:00:00Z");
}

#[test]
fn t7_a_file_that_is_not_the_listed_one_is_refused() {
    let repo = sound();
    let sound = repo.seal();
    for role in ["snapshot", "targets", "releases"] {
        // Another file of the same version, well signed.
        let mut other = repo.clone();
        other.set(role, "x-other", json!(true));
        let mut files = sound.clone();
        files.roles.insert(role.to_owned(), other.seal().roles[role].clone());
        assert_eq!(run(&files).denial().code(), "MalformedMetadata", "{role}");
        // One more byte of white space.
        let mut files = sound.clone();
        files.roles.get_mut(role).unwrap().push(b' ');
        assert_eq!(run(&files).denial().code(), "MalformedMetadata", "{role}");
    }
}

#[test]
fn t7_each_of_length_hashes_and_version_is_held_to() {
    let break_meta = |member: &str, value: Value| {
        let edit = |meta: &mut Value| match member {
            "sha256" | "sha512" => meta["hashes"][member] = value.clone(),
            _ => meta[member] = value.clone(),
        };
        let repo = sound();
        let in_snapshot = repo.seal_with(|it| edit(&mut it["meta"]["targets.json"]), |_| {});
        let in_timestamp = repo.seal_with(|_| {}, |it| edit(&mut it["meta"]["snapshot.json"]));
        [in_snapshot, in_timestamp].map(|files| run(&files).denial().code())
    };
    let other256 = "0".repeat(64);
    let other512 = "0".repeat(128);
    for (member, value) in [
        ("length", json!(17)),
        ("sha256", json!(other256)),
        ("sha512", json!(other512)),
        ("version", json!(2)),
        ("hashes", json!({"md5": "00"})),
        ("hashes", json!({})),
        ("sha256", json!("xyz")),
        ("length", json!("17")),
        ("version", json!(0)),
    ] {
        assert_eq!(break_meta(member, value.clone()), ["MalformedMetadata"; 2], "{member} {value}");
    }
    // Without hashes the version still is.
    let mut repo = sound();
    repo.hashes = false;
    let mut files = repo.seal();
    repo.set("targets", "version", json!(2));
    let newer = repo.seal().roles["targets"].clone();
    files.roles.insert("targets".to_owned(), newer);
    assert_eq!(run(&files).denial().code(), "MalformedMetadata");
}

#[test]
fn t2_no_file_is_read_beyond_its_limit() {
    let large = "x".repeat(5_000_001);
    for (role, limit) in [
        ("timestamp", limits::TUF_TIMESTAMP_BYTES),
        ("snapshot", limits::TUF_SNAPSHOT_BYTES),
        ("targets", limits::TUF_TARGETS_BYTES),
        ("releases", limits::TUF_TARGETS_BYTES),
    ] {
        let mut repo = sound();
        repo.set(role, "x-large", json!(large));
        for hashes in [true, false] {
            repo.hashes = hashes;
            let updated = run(&repo.seal());
            let what = format!("{role}, in bytes,");
            assert_eq!(updated.denial(), Denial::LimitExceeded { what, limit });
            // Where its length is listed, it is not even asked for.
            let is_asked = updated.asked.iter().any(|path| path.contains(role));
            assert_eq!(is_asked, !hashes || role == "timestamp");
        }
    }
    let mut update = Update::new(&sound().seal().initial(), Memory::default(), now());
    let wanted = update.wanted();
    assert_eq!((wanted.len(), wanted[0].max_bytes), (1, limits::TUF_ROOT_BYTES));
    update.take("root", Answer::Absent).unwrap();
    assert_eq!(update.wanted()[0].max_bytes, limits::TUF_TIMESTAMP_BYTES);
    let files = sound().seal();
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    update.take("root", Answer::Absent).unwrap();
    update.take("timestamp", Answer::Bytes(&files.roles["timestamp"])).unwrap();
    // Where a length is listed, no more than that.
    assert_eq!(update.wanted()[0].max_bytes, files.roles["snapshot"].len() as u64);
}

#[test]
fn t3_t20_a_role_that_the_snapshot_does_not_list_denies_its_names_only() {
    let repo = sound();
    let files = repo.seal_with(
        |snapshot| drop(snapshot["meta"].as_object_mut().unwrap().remove("releases.json")),
        |_| {},
    );
    let denial = run(&files).denial();
    assert_eq!(denial.code(), "MalformedMetadata");
    assert!(denial.to_string().contains("does not list"), "{denial}");
    files.run(tags("1.0"), &Memory::default()).find("old").unwrap();
    // And one that it lists, but nobody delegates to, is never asked for.
    let mut repo = sound();
    repo.set_role("extra", &[("2.0", "new")], &[repo.targets_key.clone()]);
    let updated = repo.seal().run(tags("2.0"), &Memory::default());
    assert_eq!(updated.denial().code(), "Unsigned");
    assert!(updated.asked.iter().all(|path| !path.contains("extra")));
    // Without targets there is nothing.
    let files = repo.seal_with(
        |snapshot| drop(snapshot["meta"].as_object_mut().unwrap().remove("targets.json")),
        |_| {},
    );
    assert_eq!(run(&files).denial().code(), "MalformedMetadata");
}

#[test]
fn t11_another_repository_s_metadata_is_refused() {
    let (repo, other) = (sound(), sound());
    for role in ["timestamp", "snapshot", "targets", "releases"] {
        let mut files = repo.seal();
        files.roles.insert(role.to_owned(), other.seal().roles[role].clone());
        run(&files).find("new").unwrap_err();
    }
    // By the same keys as well: the hashes are others.
    let mut twin = repo.clone();
    twin.set("releases", "targets", json!({}));
    let mut files = repo.seal();
    files.roles.insert("releases".to_owned(), twin.seal().roles["releases"].clone());
    assert_eq!(run(&files).denial().code(), "MalformedMetadata");
}

#[test]
fn a_delegated_role_that_is_unavailable_harms_those_lookups_only_that_need_it() {
    let files = sound().seal();
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    let (new, old) = (tags("1.4"), tags("1.0"));
    for question in [&new, &old] {
        update.want(&question.lookup, &question.reference, None);
    }
    while let Some(file) = update.wanted().pop() {
        let answer = match file.role.as_str() {
            "root" => Answer::Absent,
            "releases" => Answer::Unavailable(Unavailable::DeadlineExceeded),
            role => Answer::Bytes(&files.roles[role]),
        };
        update.take(&file.role, answer).unwrap();
    }
    let repository = update.finish().unwrap();
    assert!(!repository.is_complete());
    let unavailable: Refusal = Unavailable::DeadlineExceeded.into();
    assert_eq!(find(&repository, &new, "new"), Err(unavailable));
    find(&repository, &old, "old").unwrap();
    // It is asked for again.
    let updated = files.drive(Update::within(&repository, now()), new);
    updated.find("new").unwrap();
    assert_eq!(updated.asked, ["1.releases.json"]);
}

#[test]
fn files_out_of_their_order_are_not_taken() {
    let files = sound().seal();
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    for role in ["timestamp", "snapshot", "targets", "releases"] {
        update.take(role, Answer::Bytes(&files.roles[role])).unwrap();
    }
    assert_eq!(update.memory(), &Memory::default());
    assert_eq!(update.wanted()[0].path, "2.root.json");
    assert_eq!(code(&update.finish()), "MalformedMetadata");
    // A role that was never given is not a role that says nothing.
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    let question = tags("1.4");
    update.want(&question.lookup, &question.reference, None);
    while let Some(file) = update.wanted().pop().filter(|file| file.role != "releases") {
        let answer = files.roles.get(&file.role).map_or(Answer::Absent, |it| Answer::Bytes(it));
        update.take(&file.role, answer).unwrap();
    }
    let repository = update.finish().unwrap();
    assert_eq!(code(&find(&repository, &question, "new")), "MalformedMetadata");
    assert_eq!(code(&find(&repository, &question, "old")), "MalformedMetadata");
}

#[test]
fn a_target_is_found_by_its_name() {
    let mut repo = sound();
    let name = "registry.example.com/payments/api/1.4";
    repo.role("releases").signed["targets"][name]["custom"] = json!({"b": [1], "a": "x"});
    let files = repo.seal();
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    update.want_target(name);
    while let Some(file) = update.wanted().pop() {
        let answer = files.roles.get(&file.role).map_or(Answer::Absent, |it| Answer::Bytes(it));
        update.take(&file.role, answer).unwrap();
    }
    let repository = update.finish().unwrap();
    let target = repository.target(name, now()).unwrap().unwrap();
    assert_eq!(
        (target.role.as_str(), target.custom.as_deref()),
        ("releases", Some(r#"{"a":"x","b":[1]}"#))
    );
    assert!(target.matches(&crate::builder::manifest("new")));
    assert!(!target.matches(&crate::builder::manifest("old")));
    let nothing = countersign_verify::tuf::Target { sha256: None, ..target };
    assert!(!nothing.matches(&crate::builder::manifest("new")));
    assert_eq!(repository.target("registry.example.com/payments/api/1.5", now()), Ok(None));
    assert_eq!(code(&repository.target(name, time("2031-01-01T00:00:00Z"))), "Expired");
}
