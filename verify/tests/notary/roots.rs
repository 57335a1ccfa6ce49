//! Pins, root certificates, and the chain of roots.

use std::collections::BTreeMap;

use countersign_verify::image::Pattern;
use countersign_verify::limits;
use countersign_verify::notary::{Memory, Pin, PinnedKeys, Pins, RootStep, Update, untrusted_root};
use countersign_verify::outcome::Denial;
use serde_json::json;

use crate::builder::{Files, GUN, Repo, code, denial, now, pin, pin_of, time};
use crate::signer::{Cert, Kind, Signer};

const OTHER: &str = "registry.example.com/payments/web";

fn root_key() -> Signer {
    Signer::x509(Kind::P256, &Cert::named(GUN))
}

/// Roots 1 to 3, each by a key of its own and signed by its predecessor's too.
fn rotated() -> (Repo, [Signer; 3]) {
    let keys = [0; 3].map(|_| root_key());
    let mut repo = Repo::with_keys(keys[0].clone(), [Kind::P256; 3].map(Signer::new));
    for version in 2..=3 {
        let mut root = repo.root(version, &[keys[version as usize - 1].clone()], 1);
        root.signers.push(keys[version as usize - 2].clone());
        repo.roots.insert(version, root);
    }
    (repo, keys)
}

#[test]
fn the_walk_starts_at_the_highest_root_signed_by_pinned_keys() {
    let (repo, keys) = rotated();
    let files = repo.seal();
    for (index, key) in keys.iter().enumerate() {
        let repository = files.verify(&pin(&[key], 1)).unwrap();
        assert_eq!(repository.warnings().is_empty(), index == 2, "{:?}", repository.warnings());
    }
    let warnings = files.verify(&pin(&[&keys[0]], 1)).unwrap().warnings().to_vec();
    let fingerprint = keys[2].fingerprint().to_string();
    assert!(warnings[0].contains("\"payments\"") && warnings[0].contains(&fingerprint));
    // Where the newest is signed by pinned keys, no older one is asked for.
    let newest = Files { roots: BTreeMap::from([(3, files.root().to_vec())]), ..files };
    newest.verify(&pin(&[&keys[2]], 1)).unwrap();
    assert_eq!(code(&newest.verify(&pin(&[&keys[1]], 1))), "RootNotPinned");
}

#[test]
fn a_root_missing_in_the_middle_breaks_the_chain() {
    let (repo, keys) = rotated();
    let mut files = repo.seal();
    files.roots.remove(&2);
    assert_eq!(code(&files.verify(&pin(&[&keys[0]], 1))), "RootNotPinned");
    // One below the start is not needed.
    let mut files = repo.seal();
    files.roots.remove(&1);
    files.verify(&pin(&[&keys[1]], 1)).unwrap();
}

#[test]
fn t12_root_n_to_n_plus_2() {
    let (mut repo, keys) = rotated();
    // Root 3 is signed by root 1's key, and not by root 2's.
    repo.role("root").signers = vec![keys[2].clone(), keys[0].clone()];
    assert_eq!(code(&repo.seal().verify(&pin(&[&keys[1]], 1))), "ThresholdNotMet");
    assert_eq!(code(&repo.seal().verify(&pin(&[&keys[2]], 1))), "ok");
    // Root 1's key lists as no root key of root 3, so it does not start there either.
    let denial = denial(repo.seal().verify(&pin(&[&keys[0]], 1)));
    assert!(denial.to_string().starts_with("root 3, by the keys of root 2,"), "{denial}");
}

#[test]
fn t12_a_root_signed_by_only_the_old_or_only_the_new_keys() {
    for version in [2, 3] {
        for keep in [0, 1] {
            let (mut repo, keys) = rotated();
            let signer = repo.roots[&version].signers[keep].clone();
            repo.roots.get_mut(&version).unwrap().signers = vec![signer];
            let code = code(&repo.seal().verify(&pin(&[&keys[0]], 1)));
            assert_eq!(code, "ThresholdNotMet", "root {version}, {keep}");
        }
    }
}

#[test]
fn t12_a_root_below_either_threshold() {
    let [a, b, c, d] = [0; 4].map(|_| root_key());
    let mut repo = Repo::with_keys(a.clone(), [Kind::P256; 3].map(Signer::new));
    let first = repo.root(1, &[a.clone(), b.clone()], 2);
    repo.roots.insert(1, first);
    let mut second = repo.root(2, &[c.clone(), d.clone()], 2);
    let pin = pin(&[&a, &b], 2);
    let all = [&a, &b, &c, &d];
    for missing in 0..=4 {
        second.signers = all
            .iter()
            .enumerate()
            .filter(|(i, _)| *i != missing)
            .map(|(_, k)| (*k).clone())
            .collect();
        repo.roots.insert(2, second.clone());
        let expected = if missing == 4 { "ok" } else { "ThresholdNotMet" };
        assert_eq!(code(&repo.seal().verify(&pin)), expected, "without {missing}");
    }
}

#[test]
fn t12_a_root_whose_version_is_not_its_file_s() {
    let (repo, keys) = rotated();
    let mut files = repo.seal();
    files.roots.insert(2, files.roots[&1].clone());
    let denial = denial(files.verify(&pin(&[&keys[0]], 1)));
    assert!(denial.to_string().contains("2.root.json is of version 1"), "{denial}");
}

#[test]
fn t12_a_chain_to_pinned_keys_that_a_pin_s_threshold_does_not_cover() {
    // Root 1's one key is pinned, but the pin wants two.
    let (repo, keys) = rotated();
    assert_eq!(code(&repo.seal().verify(&pin(&[&keys[0], &root_key()], 2))), "RootNotPinned");
    assert_eq!(code(&repo.seal().verify(&pin(&[&keys[0], &keys[1]], 2))), "RootNotPinned");
}

#[test]
fn t5_an_expired_intermediate_root_is_allowed_and_an_expired_final_one_is_not() {
    let (mut repo, keys) = rotated();
    for version in [1, 2] {
        repo.roots.get_mut(&version).unwrap().signed["expires"] = json!("2029-02-01T00:00:00Z");
    }
    let pin = pin(&[&keys[0]], 1);
    repo.seal().verify(&pin).unwrap();
    repo.set("root", "expires", json!("2030-01-01T12:00:00Z"));
    let updated = repo.seal().update(&pin, GUN, &Memory::default(), now());
    let expired = time("2030-01-01T12:00:00Z");
    let role = "root".to_owned();
    assert_eq!(denial(updated.repository), Denial::Expired { role, expired, now: now() });
    // It was verified all the same, and is remembered.
    assert_eq!(updated.memory.root.unwrap().version, 3);
}

#[test]
fn t5_expired_certificates_of_earlier_roots_are_allowed() {
    let old = Signer::x509(Kind::P256, &Cert { until: (2029, 2, 1), ..Cert::named(GUN) });
    let new = root_key();
    let mut repo = Repo::with_keys(old.clone(), [Kind::P256; 3].map(Signer::new));
    assert_eq!(code(&repo.seal().verify(&pin(&[&old], 1))), "Expired");
    let mut second = repo.root(2, std::slice::from_ref(&new), 1);
    second.signers.push(old.clone());
    repo.roots.insert(2, second);
    repo.seal().verify(&pin(&[&old], 1)).unwrap();
    // A final root of both keys rests on the one that is valid.
    let second = repo.root(2, &[new.clone(), old.clone()], 1);
    repo.roots.insert(2, second);
    repo.seal().verify(&pin(&[&new], 1)).unwrap();
    let second = repo.root(2, &[new, old.clone()], 2);
    repo.roots.insert(2, second);
    assert_eq!(code(&repo.seal().verify(&pin(&[&old], 1))), "Expired");
}

#[test]
fn a_repository_expires_with_the_certificates_that_its_root_rests_on() {
    let until = |day| Cert { until: (2030, 1, day), ..Cert::named(GUN) };
    let keys = [10, 20, 30].map(|day| Signer::x509(Kind::P256, &until(day)));
    let mut repo = Repo::with_keys(keys[0].clone(), [Kind::P256; 3].map(Signer::new));
    let root = repo.root(1, &keys, 2);
    repo.roots.insert(1, root);
    let expires = |pin: &Pin| repo.seal().verify(pin).unwrap().expires();
    let all = [&keys[0], &keys[1], &keys[2]];
    assert_eq!(expires(&pin(&all, 1)), time("2030-01-20T00:00:00Z"));
    assert_eq!(expires(&pin(&all, 3)), time("2030-01-10T00:00:00Z"));
}

#[test]
fn root_key_ids_are_pinned_as_listed() {
    let (repo, keys) = rotated();
    let pin = |ids: &[&Signer], threshold| {
        let ids = ids.iter().map(|key| key.id()).collect();
        pin_of(PinnedKeys::RootKeyIds { ids, threshold })
    };
    for key in &keys {
        repo.seal().verify(&pin(&[key], 1)).unwrap();
    }
    assert_eq!(code(&repo.seal().verify(&pin(&[&root_key()], 1))), "RootNotPinned");
    assert_eq!(code(&repo.seal().verify(&pin(&[&keys[0], &keys[1]], 2))), "RootNotPinned");
    // The same key by another certificate has another id.
    let again = keys[2].certified(&Cert { until: (2034, 1, 1), ..Cert::named(GUN) });
    assert_eq!(code(&repo.seal().verify(&pin(&[&again], 1))), "RootNotPinned");
}

#[test]
fn t4_t12_older_roots_are_asked_for_in_bounded_batches() {
    let (repo, keys) = rotated();
    let pin = pin(&[&keys[0]], 1);
    let root = |version: u64| repo.root(version, &[keys[2].clone()], 1).seal();
    let mut update = Update::new(&pin, GUN, Memory::default(), now());
    let mut step = update.root(&root(u64::MAX)).unwrap();
    let (mut asked, mut batches) = (0, Vec::new());
    let denial = loop {
        let RootStep::Needs(versions) = step else { panic!("trusted") };
        assert_eq!(*versions.end(), u64::MAX - 1 - asked);
        batches.push(versions.clone().count() as u64);
        asked += batches[batches.len() - 1];
        let files = versions.map(|version| (version, root(version))).collect();
        match update.older_roots(files) {
            Ok(next) => step = next,
            Err(denial) => break denial,
        }
    };
    assert_eq!((asked, denial.code()), (limits::ROOT_ROTATIONS, "LimitExceeded"));
    // No more are held at a time, however many rotations there are.
    assert_eq!(batches, [limits::ROOT_BATCH; 32]);
}

#[test]
fn pins_are_found_by_the_most_specific_pattern() {
    let pin = |name: &str, patterns: &[&str]| Pin {
        name: name.to_owned(),
        repositories: patterns.iter().map(|it| Pattern::parse(it).unwrap()).collect(),
        keys: PinnedKeys::CertificateAuthorities(Vec::new()),
    };
    let pins = Pins(vec![
        pin("all", &["registry.example.com/**"]),
        pin("teams", &["registry.example.com/team-*/**"]),
        pin("payments", &["registry.example.com/payments/**", "registry.example.com/x/**"]),
        pin("again", &["registry.example.com/payments/**"]),
        pin("api", &[GUN]),
    ]);
    let found = |repository: &str| pins.find(repository).map(|pin| pin.name.clone());
    assert_eq!(found(GUN).unwrap(), "api");
    assert_eq!(found(OTHER).unwrap(), "payments");
    assert_eq!(found("registry.example.com/web").unwrap(), "all");
    assert_eq!(found("registry.example.com/team-a/web").unwrap(), "teams");
    let denial = found("evil.example/registry.example.com/payments/api").unwrap_err();
    assert!(matches!(denial, Denial::RootNotPinned { pin: None, .. }), "{denial}");
}

#[test]
fn an_anchor_names_keys_and_threshold_in_any_order() {
    let keys = |keys: &[&[u8]], threshold| {
        let keys = keys.iter().map(|key| key.to_vec()).collect();
        pin_of(PinnedKeys::PublicKeys { keys, threshold }).anchor()
    };
    assert_eq!(keys(&[b"a", b"b"], 1), keys(&[b"b", b"a", b"a"], 1));
    assert_ne!(keys(&[b"a", b"b"], 1), keys(&[b"a", b"b"], 2));
    assert_ne!(keys(&[b"a", b"b"], 1), keys(&[b"a"], 1));
    let authorities = pin_of(PinnedKeys::CertificateAuthorities(vec![b"a".to_vec()])).anchor();
    assert_ne!(keys(&[b"a"], 1), authorities);
    assert_eq!(authorities.len(), 64);
}

#[test]
fn a_root_s_keys_are_listed_for_whoever_is_to_pin_them() {
    let repo = Repo::new(GUN);
    let listed = untrusted_root(repo.seal().root()).unwrap();
    let [key] = listed.keys.as_slice() else { panic!("one key") };
    assert_eq!(
        (key.fingerprint, &key.public_key),
        (repo.root_key.fingerprint(), &repo.root_key.spki())
    );
    assert_eq!(key.not_after, time("2035-01-01T00:00:00Z"));
    assert_eq!((listed.version, listed.threshold), (1, 1));
}
