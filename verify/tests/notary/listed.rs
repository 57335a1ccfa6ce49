//! What timestamp and snapshot list of the other files.

use countersign_verify::notary::Memory;
use countersign_verify::outcome::Denial;
use serde_json::{Value, json};

use crate::builder::{GUN, code, denial, find_tag, meta, now, root_changed};
use crate::signer::{Kind, Signer};
use crate::update::sound;

#[test]
fn t7_files_that_are_not_the_listed_ones() {
    let repo = sound();
    // Another version of each, soundly signed, beside the first's lists.
    for role in ["snapshot", "targets", "targets/releases"] {
        let mut other = repo.clone();
        other.set(role, "version", json!(2));
        let (mut files, other) = (repo.seal(), other.seal());
        match role {
            "snapshot" => files.snapshot = other.snapshot,
            _ => files.roles = other.roles,
        }
        let denial = match files.verify(&repo.pin()) {
            Ok(repository) => denial(find_tag(&repository, "1.4", "new")),
            refusal => denial(refusal),
        };
        assert_eq!(denial.code(), "MalformedMetadata");
        assert!(denial.to_string().starts_with(role), "{denial}");
    }
}

#[test]
fn t7_every_listed_hash_and_length_counts() {
    let repo = sound();
    let other = meta(b"something else");
    // A root that is not the listed one is told as a change of the root.
    assert_eq!(root_changed().code(), "MalformedMetadata");
    for file in ["root", "snapshot", "targets", "targets/releases"] {
        for member in ["length", "sha256", "sha512"] {
            let edit = |signed: &mut Value| {
                let listed = &mut signed["meta"][file];
                match member {
                    "length" => listed["length"] = json!(listed["length"].as_u64().unwrap() + 1),
                    hash => listed["hashes"][hash] = other["hashes"][hash].clone(),
                }
            };
            let files = match file {
                "snapshot" => repo.seal_with(|_| {}, edit),
                _ => repo.seal_with(edit, |_| {}),
            };
            let code = match files.verify(&repo.pin()) {
                Ok(repository) => code(&find_tag(&repository, "1.4", "new")),
                refusal => code(&refusal),
            };
            assert_eq!(code, "MalformedMetadata", "{member} of {file}");
        }
    }
}

#[test]
fn t7_sha256_has_to_be_listed_and_sha512_may_be() {
    let repo = sound();
    let drop_hash = |hash: &'static str| {
        move |signed: &mut Value| {
            let hashes = &mut signed["meta"]["targets"]["hashes"];
            hashes.as_object_mut().unwrap().remove(hash);
        }
    };
    repo.seal_with(drop_hash("sha512"), |_| {}).verify(&repo.pin()).unwrap();
    let files = repo.seal_with(drop_hash("sha256"), |_| {});
    assert_eq!(code(&files.verify(&repo.pin())), "MalformedMetadata");
}

#[test]
fn t7_targets_that_the_snapshot_does_not_list() {
    let repo = sound();
    for (role, reason) in
        [("root", "it does not list the root"), ("targets", "it does not list targets")]
    {
        let files = repo.seal_with(
            |snapshot| drop(snapshot["meta"].as_object_mut().unwrap().remove(role)),
            |_| {},
        );
        let (file, reason) = ("snapshot".to_owned(), reason.to_owned());
        let expected = Denial::MalformedMetadata { file, reason };
        assert_eq!(denial(files.verify(&repo.pin())), expected);
    }
    let files = repo.seal_with(|_| {}, |timestamp| timestamp["meta"] = json!({}));
    assert_eq!(code(&files.verify(&repo.pin())), "MalformedMetadata");
}

#[test]
fn t7_a_root_that_the_snapshot_does_not_list_asks_for_a_newer_one() {
    let repo = sound();
    let mut newer = repo.clone();
    let mut root = newer.root(2, &[newer.root_key.clone()], 1);
    // The snapshot's key has been changed as well.
    let key = Signer::new(Kind::P256);
    newer.snapshot_key = key.clone();
    newer.snapshot.signers = vec![key];
    root.signed = newer.root(2, &[newer.root_key.clone()], 1).signed;
    newer.roots.insert(2, root);
    let mut files = newer.seal();
    files.verify(&repo.pin()).unwrap();
    files.roots = repo.seal().roots;
    let updated = files.update(&repo.pin(), GUN, &Memory::default(), now());
    assert_eq!(updated.repository.unwrap_err(), root_changed());
    assert!(!updated.memory.roles.contains_key("snapshot"));
}
