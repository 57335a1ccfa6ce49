//! The chain of roots.

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use countersign_verify::tuf::{Answer, InitialRoot, Update};
use serde_json::json;

use crate::builder::{Repo, now};
use crate::shell::{code, tags};
use crate::signer::Signer;

fn sound() -> Repo {
    Repo::signing(&[("1.4", "new")])
}

fn outcome(repo: &Repo) -> &'static str {
    code(&repo.find("1.4", "new"))
}

#[test]
fn roots_are_followed_one_by_one() {
    let mut repo = sound();
    for version in 2..=5 {
        repo.root_keys = vec![Signer::default(), Signer::default()];
        repo.root_threshold = 2;
        repo.timestamp_key = Signer::default();
        repo.targets_key = Signer::default();
        assert_eq!(repo.rotate(), version);
    }
    let updated = repo.seal().run(tags("1.4"), &Memory::default());
    updated.find("new").unwrap();
    let memory = updated.memory.root.unwrap();
    assert_eq!(memory.version, 5);
    let asked: Vec<&str> = updated.asked.iter().map(String::as_str).collect();
    let roots = ["2.root.json", "3.root.json", "4.root.json", "5.root.json", "6.root.json"];
    let rest = ["timestamp.json", "1.snapshot.json", "1.targets.json"];
    assert_eq!(asked, [&roots[..], &rest[..]].concat());
}

#[test]
fn t12_a_root_two_versions_on_is_refused() {
    let mut repo = sound();
    repo.rotate();
    let mut root = repo.root(3);
    repo.roots.insert(2, root.clone());
    assert_eq!(outcome(&repo), "MalformedMetadata");
    // The same version again, or an older one, is no successor either.
    for version in [1, 0] {
        root.signed["version"] = json!(version);
        repo.roots.insert(2, root.clone());
        assert_eq!(outcome(&repo), "MalformedMetadata");
    }
}

#[test]
fn t12_both_thresholds_sign_a_new_root() {
    let mut repo = sound();
    let old: Vec<Signer> = (0..3).map(|_| Signer::default()).collect();
    let new: Vec<Signer> = (0..3).map(|_| Signer::default()).collect();
    (repo.root_keys, repo.root_threshold) = (old.clone(), 2);
    repo.roots.insert(1, repo.root(1));
    (repo.root_keys, repo.root_threshold) = (new.clone(), 2);
    let mut root = repo.root(2);
    let mut with = |signers: &[&Signer]| {
        root.signers = signers.iter().map(|key| (*key).clone()).collect();
        repo.roots.insert(2, root.clone());
        outcome(&repo)
    };
    assert_eq!(with(&[&old[0], &old[2], &new[1], &new[2]]), "ok");
    for signers in [
        vec![&old[0], &old[1], &old[2]],
        vec![&new[0], &new[1], &new[2]],
        vec![&old[0], &new[0], &new[1]],
        vec![&old[0], &old[1], &new[0]],
        vec![],
    ] {
        assert_eq!(with(&signers), "ThresholdNotMet", "{}", signers.len());
    }
}

#[test]
fn t5_only_the_last_root_s_expiry_counts() {
    let mut repo = sound();
    repo.set("root", "expires", json!("2020-01-01T00:00:00Z"));
    assert_eq!(outcome(&repo), "Expired");
    repo.rotate();
    repo.set("root", "expires", json!("2020-01-01T00:00:00Z"));
    repo.rotate();
    assert_eq!(outcome(&repo), "ok");
    // At its expiry a file is expired.
    repo.set("root", "expires", json!("2030-01-01T12:00:00Z"));
    let role = "root".to_owned();
    let expected = Denial::Expired { role, expired: now(), now: now() };
    assert_eq!(repo.find("1.4", "new"), Err(expected.into()));
    repo.set("root", "expires", json!("2030-01-01T12:00:01Z"));
    assert_eq!(outcome(&repo), "ok");
}

#[test]
fn t2_no_more_roots_than_the_limit_are_followed() {
    let mut repo = sound();
    for _ in 0..limits::ROOT_ROTATIONS {
        repo.rotate();
    }
    assert_eq!(outcome(&repo), "ok");
    repo.rotate();
    let what = "the number of root rotations in one update".to_owned();
    let expected = Denial::LimitExceeded { what, limit: limits::ROOT_ROTATIONS };
    assert_eq!(repo.find("1.4", "new"), Err(expected.into()));
}

#[test]
fn t4_a_root_of_the_highest_version_has_no_successor() {
    let mut repo = sound();
    let mut root = repo.root(u64::MAX);
    repo.roots = [(u64::MAX, root.clone())].into();
    assert_eq!(outcome(&repo), "ok");
    root.signed["version"] = json!(0);
    let initial = InitialRoot::read(&repo.seal().roots[&u64::MAX]).unwrap();
    let mut update = Update::new(&initial, Memory::default(), now());
    let refused = update.take("root", Answer::Bytes(&root.seal()));
    assert_eq!(code(&refused), "MalformedMetadata");
}

#[test]
fn t8_t18_a_remembered_root_is_a_floor_and_no_other_of_its_version_is_taken() {
    let first = sound();
    let mut repo = first.clone();
    repo.rotate();
    let memory = repo.seal().run(tags("1.4"), &Memory::default()).memory;
    assert_eq!(memory.root.as_ref().unwrap().version, 2);
    // An older initial root is fine.
    repo.seal().run(tags("1.4"), &memory).find("new").unwrap();
    // The newest is withheld.
    let updated = first.seal().run(tags("1.4"), &memory);
    let expected = Denial::Rollback { role: "root".to_owned(), found: 1, remembered: 2 };
    assert_eq!(updated.denial(), expected);
    assert_eq!(updated.memory, memory);
    // Another repository's second root, by the same root key.
    let mut other = first.clone();
    other.timestamp_key = Signer::default();
    other.rotate();
    other.seal().verify(tags("1.4")).unwrap();
    let seen = &memory.root.as_ref().unwrap().sha256;
    for repo in [&other, &{
        let mut further = other.clone();
        further.rotate();
        further
    }] {
        let denial = repo.seal().run(tags("1.4"), &memory).denial();
        assert_eq!(denial.code(), "MalformedMetadata");
        assert!(denial.to_string().contains(seen), "{denial}");
    }
    // Another initial root of a remembered version.
    let memory = first.seal().run(tags("1.4"), &Memory::default()).memory;
    let mut forked = first.clone();
    forked.set("root", "expires", json!("2038-01-01T00:00:00Z"));
    forked.rotate();
    let denial = forked.seal().run(tags("1.4"), &memory).denial();
    assert_eq!(denial.code(), "MalformedMetadata");
}

#[test]
fn memory_is_never_a_starting_point() {
    let first = sound();
    let mut second = first.clone();
    second.root_keys = vec![Signer::default()];
    second.roots.insert(2, second.root(2));
    let mut from_second = second.clone();
    from_second.roots.remove(&1);
    let memory = from_second.seal().run(tags("1.4"), &Memory::default()).memory;
    assert_eq!(memory.root.as_ref().unwrap().version, 2);
    assert_eq!(second.seal().run(tags("1.4"), &memory).denial().code(), "ThresholdNotMet");
}

#[test]
fn t1_an_initial_root_is_signed_as_it_says() {
    let mut repo = sound();
    repo.role("root").signers.clear();
    let refused = InitialRoot::read(&repo.roots[&1].seal()).map(drop);
    let role = "root".to_owned();
    assert_eq!(refused, Err(Denial::ThresholdNotMet { role, found: 0, wanted: 1 }));
    for html in [&b"<html>"[..], b"", b"{}", b"[]", b"null"] {
        let refused = InitialRoot::read(html).map(drop).unwrap_err();
        assert_eq!(refused.code(), "MalformedMetadata");
    }
    let timestamp = sound().seal().roles["timestamp"].clone();
    assert_eq!(InitialRoot::read(&timestamp).map(drop).unwrap_err().code(), "MalformedMetadata");
}

#[test]
fn a_root_that_cannot_be_had_is_not_the_last() {
    let repo = sound();
    let mut update = Update::new(&repo.seal().initial(), Memory::default(), now());
    let unavailable: Refusal = Unavailable::DeadlineExceeded.into();
    let answer = Answer::Unavailable(Unavailable::DeadlineExceeded);
    assert_eq!(update.take("root", answer), Err(unavailable.clone()));
    assert!(update.wanted().is_empty());
    // Nothing is taken after a failure.
    assert_eq!(update.take("root", Answer::Absent), Err(unavailable.clone()));
    assert_eq!(update.finish().map(drop), Err(unavailable));
}

#[test]
fn the_anchor_is_the_initial_root_s_hash() {
    let files = sound().seal();
    let hash = crate::builder::hex(&crate::builder::sha256(&files.roots[&1]));
    assert_eq!((files.initial().anchor(), files.initial().version()), (hash, 1));
}
