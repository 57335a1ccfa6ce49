//! Timestamp, snapshot and targets.

use countersign_verify::limits;
use countersign_verify::notary::{Memory, Update};
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use serde_json::{Value, json};

use crate::builder::{GUN, Repo, code, denial, find_digest, find_tag, now, time};

/// Tag 1.0 in `targets`, 1.4 in `targets/releases`.
pub(crate) fn sound() -> Repo {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    repo
}

const ROLES: [&str; 5] = ["root", "timestamp", "snapshot", "targets", "targets/releases"];

/// The code of tag 1.4's lookup in a repository, or of the update that did not get there.
fn outcome(repo: &Repo) -> &'static str {
    match repo.seal().verify(&repo.pin()) {
        Ok(repository) => code(&find_tag(&repository, "1.4", "new")),
        refusal => code(&refusal),
    }
}

#[test]
fn a_sound_repository_verifies() {
    let repo = sound();
    let repository = repo.seal().verify(&repo.pin()).unwrap();
    let proof = find_tag(&repository, "1.4", "new").unwrap();
    assert_eq!((proof.role(), proof.name()), ("targets/releases", "1.4"));
    assert_eq!(proof.expires(), time("2030-02-01T00:00:00.123456789Z"));
    let signer = repo.roles["targets/releases"].signers[0].fingerprint();
    assert_eq!(proof.keys().iter().collect::<Vec<_>>(), [&signer]);
    assert_eq!(find_tag(&repository, "1.0", "old").unwrap().role(), "targets");
    assert_eq!(find_digest(&repository, "old").unwrap().name(), "1.0");
    assert_eq!(code(&find_tag(&repository, "1.0", "new")), "DigestMismatch");
    assert_eq!(repository.expires(), proof.expires());
    let roles: Vec<_> = repository.roles().collect();
    let names: Vec<_> = roles.iter().map(|role| role.name.as_str()).collect();
    assert_eq!(names, ROLES);
    let detail = roles[4].state.as_ref().unwrap();
    assert_eq!((detail.version, detail.threshold, detail.entries), (1, 1, 1));
    assert_eq!(detail.keys, detail.signers);
}

#[test]
fn t15_files_that_break_the_format() {
    let breaks: [(&str, Value); 14] = [
        ("version", json!(0)),
        ("version", json!(-1)),
        ("version", json!("1")),
        ("version", json!(1.5)),
        ("version", json!(null)),
        ("version", json!([1])),
        ("expires", json!("soon")),
        ("expires", json!(1_900_000_000)),
        ("expires", json!(null)),
        ("_type", json!("timestamp")),
        ("_type", json!("")),
        ("_type", json!(null)),
        ("_type", json!("Mirrors")),
        ("_type", json!(["Root", "Targets", "Snapshot", "Timestamp"])),
    ];
    for role in ROLES {
        for (member, value) in &breaks {
            let mut repo = sound();
            repo.set(role, member, value.clone());
            assert_eq!(outcome(&repo), "MalformedMetadata", "{member}: {value} in {role}");
        }
    }
}

#[test]
fn t15_a_file_of_another_role_by_the_right_key() {
    for role in ROLES {
        for kind in ["Root", "Targets", "Snapshot", "Timestamp"] {
            let mut repo = sound();
            if repo.role(role).signed["_type"] == kind {
                continue;
            }
            repo.set(role, "_type", json!(kind));
            assert_eq!(outcome(&repo), "MalformedMetadata", "{kind} in {role}");
        }
    }
}

#[test]
fn t15_members_that_are_missing() {
    for (role, member) in [
        ("root", "keys"),
        ("root", "roles"),
        ("timestamp", "meta"),
        ("snapshot", "meta"),
        ("targets/releases", "version"),
    ] {
        let mut repo = sound();
        let mut signed = repo.role(role).signed.clone();
        signed.as_object_mut().unwrap().remove(member);
        let seal = move |file: &mut Value| *file = signed;
        let files = match role {
            "snapshot" => repo.seal_with(seal, |_| {}),
            "timestamp" => repo.seal_with(|_| {}, seal),
            _ => {
                seal(&mut repo.role(role).signed);
                repo.seal()
            }
        };
        let code = match files.verify(&repo.pin()) {
            Ok(repository) => code(&find_tag(&repository, "1.4", "new")),
            refusal => code(&refusal),
        };
        assert_eq!(code, "MalformedMetadata", "{role} without {member}");
    }
    for missing in ["root", "timestamp", "snapshot", "targets"] {
        let mut repo = sound();
        repo.role("root").signed["roles"].as_object_mut().unwrap().remove(missing);
        assert_eq!(outcome(&repo), "MalformedMetadata", "{missing}");
    }
}

#[test]
fn t15_unknown_members_are_tolerated_and_signed() {
    for role in ROLES {
        let mut repo = sound();
        repo.set(role, "x-custom", json!({"b": [1, null, true], "a": "<&\"\\\u{1}>", "é": -3}));
        assert_eq!(outcome(&repo), "ok", "{role}");
        let files = repo.seal();
        let strip = |bytes: &[u8]| -> Vec<u8> {
            let mut file: Value = serde_json::from_slice(bytes).unwrap();
            file["signed"].as_object_mut().unwrap().remove("x-custom");
            serde_json::to_vec(&file).unwrap()
        };
        if role == "timestamp" {
            let mut files = files;
            files.timestamp = strip(&files.timestamp);
            assert_eq!(code(&files.verify(&repo.pin())), "ThresholdNotMet");
        }
    }
}

#[test]
fn t15_duplicate_members_floats_and_junk() {
    let repo = sound();
    let files = repo.seal();
    let text = String::from_utf8(files.timestamp.clone()).unwrap();
    let version = "\"version\":1";
    assert!(text.contains(version));
    for bad in [
        text.replace(version, "\"version\":1,\"version\":1"),
        text.replace(version, "\"version\":1.0"),
        text.replace(version, "\"version\":1e0"),
        text.replace(version, "\"version\":NaN"),
        text.replace(version, "\"version\":1,\"x\":\"\\ud800\""),
        text.replace(
            version,
            &format!("\"version\":1,\"x\":{}0{}", "[".repeat(10_000), "]".repeat(10_000)),
        ),
        text.replacen('{', "{\"signed\":{},", 1),
        format!("{text} {{}}"),
        format!("\u{feff}{text}"),
        "[".repeat(10_000),
        String::new(),
        "null".to_owned(),
        "{}".to_owned(),
        "{\"signed\":1,\"signatures\":[]}".to_owned(),
        "{\"signed\":{},\"signatures\":{}}".to_owned(),
        "{\"signed\":{},\"signatures\":[1]}".to_owned(),
    ] {
        let mut files = files.clone();
        files.timestamp = bad.clone().into_bytes();
        let code = code(&files.verify(&repo.pin()));
        assert_eq!(code, "MalformedMetadata", "{}", &bad[..bad.len().min(300)]);
    }
    let mut files = files.clone();
    files.timestamp.extend(b" \xff");
    assert_eq!(code(&files.verify(&repo.pin())), "MalformedMetadata");
}

#[test]
fn t2_files_over_their_limits() {
    let repo = sound();
    let pad = |bytes: &[u8], limit: u64| {
        let mut padded = bytes.to_vec();
        padded.resize(limit as usize + 1, b' ');
        padded
    };
    let mut files = repo.seal();
    let root = pad(files.root(), limits::ROOT_BYTES);
    files.roots.insert(1, root);
    assert_eq!(code(&files.verify(&repo.pin())), "LimitExceeded");
    let mut files = repo.seal();
    files.timestamp = pad(&files.timestamp, limits::TIMESTAMP_BYTES);
    assert_eq!(code(&files.verify(&repo.pin())), "LimitExceeded");
    files.timestamp.pop();
    files.verify(&repo.pin()).unwrap();
    // A listed length over the limit is refused before anything is fetched.
    let set = |file: &'static str, length: u64| {
        move |signed: &mut Value| signed["meta"][file]["length"] = json!(length)
    };
    for length in [limits::TARGETS_BYTES + 1, u64::MAX] {
        let files = repo.seal_with(|_| {}, set("snapshot", length));
        assert_eq!(code(&files.verify(&repo.pin())), "LimitExceeded");
        let files = repo.seal_with(set("targets", length), |_| {});
        assert_eq!(code(&files.verify(&repo.pin())), "LimitExceeded");
        let files = repo.seal_with(set("targets/releases", length), |_| {});
        let repository = files.verify(&repo.pin()).unwrap();
        assert_eq!(code(&find_tag(&repository, "1.4", "new")), "LimitExceeded");
    }
}

#[test]
fn t5_every_file_expires() {
    let at = "2030-01-01T12:00:00Z";
    for role in &ROLES[1..] {
        let mut repo = sound();
        repo.set(role, "expires", json!(at));
        assert_eq!(outcome(&repo), "Expired", "{role}");
        let found = match repo.seal().verify(&repo.pin()) {
            Ok(repository) => denial(find_tag(&repository, "1.4", "new")),
            refusal => denial(refusal),
        };
        let role = (*role).to_owned();
        assert_eq!(found, Denial::Expired { role, expired: time(at), now: now() });
        // An offset and a fraction count.
        let mut repo = sound();
        repo.set("timestamp", "expires", json!("2030-01-01T13:00:00.000000001+01:00"));
        assert_eq!(outcome(&repo), "ok");
    }
}

#[test]
fn a_repository_tells_its_files_lengths() {
    let repo = sound();
    let (files, pin) = (repo.seal(), repo.pin());
    let roles = files.roles.values().map(Vec::len).sum::<usize>();
    let all = files.root().len() + files.timestamp.len() + files.snapshot.len() + roles;
    assert_eq!(files.verify(&pin).unwrap().bytes(), all as u64);
}

#[test]
fn t2_a_file_of_which_much_is_made_counts_for_more_than_its_length() {
    let mut repo = sound();
    let entry = json!({"hashes": {}, "length": 1});
    let entries: serde_json::Map<_, _> =
        (0..1_000).map(|n| (format!("{n:x}"), entry.clone())).collect();
    repo.set("targets/releases", "targets", entries.into());
    let files = repo.seal();
    let length = files.roles["targets/releases"].len() as u64;
    assert!(files.verify(&repo.pin()).unwrap().bytes() > length * 3 / 2);
}

#[test]
fn a_role_that_is_unavailable_harms_those_lookups_only_that_need_it() {
    let mut repo = sound();
    repo.delegated("targets/qa", &[""], &[("1.4", "new")]);
    let (files, pin) = (repo.seal(), repo.pin());
    let run = |missing: &str| {
        let mut update = Update::new(&pin, GUN, Memory::default(), now());
        update.root(files.root()).unwrap();
        update.timestamp(&files.timestamp).unwrap();
        assert!(update.snapshot_file().unwrap().matches(&files.snapshot));
        update.snapshot(&files.snapshot).unwrap();
        while let Some((role, file)) = update.wanted_roles().pop() {
            let bytes = &files.roles[&role];
            assert!(file.matches(bytes));
            let file = if role == missing {
                Err(Unavailable::DeadlineExceeded)
            } else {
                Ok(bytes.as_slice())
            };
            update.role(&role, file);
        }
        update.finish()
    };
    let unavailable: Refusal = Unavailable::DeadlineExceeded.into();
    assert_eq!(run("targets").unwrap_err(), unavailable);
    let repository = run("targets/releases").unwrap();
    assert!(!repository.is_complete());
    assert_eq!(find_tag(&repository, "1.4", "new").unwrap_err(), unavailable);
    assert_eq!(find_tag(&repository, "1.0", "old").unwrap_err(), unavailable);
    assert_eq!(find_digest(&repository, "old").unwrap_err(), unavailable);
    assert_eq!(find_digest(&repository, "unheard of").unwrap_err(), unavailable);
    let repository = run("targets/qa").unwrap();
    find_tag(&repository, "1.4", "new").unwrap();
    assert!(!repository.is_complete() && run("none").unwrap().is_complete());
}

#[test]
fn files_out_of_their_order_are_refused() {
    let repo = sound();
    let (files, pin) = (repo.seal(), repo.pin());
    let new = || Update::new(&pin, GUN, Memory::default(), now());
    let mut update = new();
    update.timestamp(&files.timestamp).unwrap_err();
    update.snapshot(&files.snapshot).unwrap_err();
    update.older_roots(files.roots.clone()).unwrap_err();
    update.role("targets", Ok(&files.roles["targets"]));
    assert!(update.snapshot_file().is_none() && update.wanted_roles().is_empty());
    assert_eq!(update.memory(), &Memory::default());
    new().finish().unwrap_err();
    update.root(files.root()).unwrap();
    update.root(files.root()).unwrap_err();
    update.snapshot(&files.snapshot).unwrap_err();
    update.timestamp(&files.timestamp).unwrap();
    update.timestamp(&files.timestamp).unwrap_err();
    update.finish().unwrap_err();
    // A wanted role that is never given.
    let mut update = new();
    update.root(files.root()).unwrap();
    update.timestamp(&files.timestamp).unwrap();
    update.snapshot(&files.snapshot).unwrap();
    update.role("targets", Ok(&files.roles["targets"]));
    let repository = update.finish().unwrap();
    assert_eq!(code(&find_tag(&repository, "1.4", "new")), "MalformedMetadata");
}
