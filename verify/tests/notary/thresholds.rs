//! Thresholds count keys, not ids and not signatures.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use countersign_verify::limits;
use countersign_verify::outcome::Denial;
use serde_json::json;

use crate::builder::{File, GUN, Repo, code, denial, find_tag, meta, pin};
use crate::signer::{Cert, Kind, Signer};

/// Tag 1.4 in `targets/releases` of two keys and this threshold, signed by `signers`.
fn releases(listed: &[Signer], threshold: u64, signers: &[Signer]) -> Result<(), Denial> {
    let mut repo = Repo::new(GUN);
    repo.delegate("targets/releases", &[""], listed, threshold);
    repo.set_role("targets/releases", &[("1.4", "new")], signers);
    let repository = repo.seal().verify(&repo.pin()).unwrap();
    match find_tag(&repository, "1.4", "new") {
        Ok(proof) => {
            assert_eq!(proof.keys().len(), signers.len());
            Ok(())
        }
        Err(refusal) => Err(denial::<()>(Err(refusal))),
    }
}

fn too_few(found: usize, wanted: u64) -> Result<(), Denial> {
    Err(Denial::ThresholdNotMet { role: "targets/releases".to_owned(), found, wanted })
}

#[test]
fn t10_a_threshold_needs_as_many_keys() {
    let [a, b, c] = [Kind::P256, Kind::Ed25519, Kind::P384].map(Signer::new);
    let all = [a.clone(), b.clone(), c.clone()];
    assert_eq!(releases(&all, 2, &[a.clone(), c]), Ok(()));
    assert_eq!(releases(&all, 2, std::slice::from_ref(&b)), too_few(1, 2));
    assert_eq!(releases(&all, 2, &[]), too_few(0, 2));
    assert_eq!(releases(&all, 4, &all), too_few(3, 4));
    assert_eq!(releases(&all, u64::MAX, &all), too_few(3, u64::MAX));
}

#[test]
fn t10_the_same_signature_twice_counts_once() {
    let [a, b] = [Kind::P256, Kind::Ed25519].map(Signer::new);
    let twice = [a.clone(), a.clone()];
    assert_eq!(releases(&[a.clone(), b], 2, &twice), too_few(1, 2));
    // Listed twice as well.
    assert_eq!(releases(&twice, 2, &twice), too_few(1, 2));
}

#[test]
fn t10_two_key_ids_of_one_key_count_once() {
    let plain = Signer::new(Kind::P256);
    let certified = plain.certified(&Cert::named("release team"));
    let again = plain.certified(&Cert::named("release team, again"));
    let all = [plain, certified, again];
    assert_eq!(releases(&all, 2, &all), too_few(1, 2));
    let pss = Signer::new(Kind::RsaPss);
    let pkcs1 = pss.by_method("rsapkcs1v15");
    let certified = pkcs1.certified(&Cert::named("x"));
    assert_eq!(
        releases(&[pss.clone(), certified.clone()], 2, &[pss, pkcs1, certified]),
        too_few(1, 2)
    );
}

#[test]
fn t10_two_certificates_of_one_root_key_count_once() {
    let key = Signer::x509(Kind::P256, &Cert::named(GUN));
    let mut cert = Cert::named(GUN);
    cert.until = (2034, 1, 1);
    let again = key.certified(&cert);
    let mut repo = Repo::with_keys(key.clone(), [Kind::P256; 3].map(Signer::new));
    let both = [key.clone(), again];
    let root = repo.root(1, &both, 2);
    repo.roots.insert(1, root);
    let found = denial(repo.seal().verify(&pin(&[&key], 1)));
    let role = "root".to_owned();
    assert_eq!(found, Denial::ThresholdNotMet { role, found: 1, wanted: 2 });
}

#[test]
fn t10_a_pin_s_threshold_counts_keys_too() {
    let [a, b] = [0; 2].map(|_| Signer::x509(Kind::P256, &Cert::named(GUN)));
    let mut repo = Repo::with_keys(a.clone(), [Kind::P256; 3].map(Signer::new));
    assert_eq!(code(&repo.seal().verify(&pin(&[&a, &b], 2))), "RootNotPinned");
    assert_eq!(code(&repo.seal().verify(&pin(&[&a, &a], 2))), "RootNotPinned");
    let root = repo.root(1, &[a.clone(), b.clone()], 1);
    repo.roots.insert(1, root);
    repo.seal().verify(&pin(&[&a, &b], 2)).unwrap();
    assert_eq!(code(&repo.seal().verify(&pin(&[&a, &a], 2))), "RootNotPinned");
}

#[test]
fn t10_pinned_keys_alone_meet_the_root_s_threshold() {
    let [a, b] = [0; 2].map(|_| Signer::x509(Kind::P256, &Cert::named(GUN)));
    let mut repo = Repo::with_keys(a.clone(), [Kind::P256; 3].map(Signer::new));
    let root = repo.root(1, &[a.clone(), b.clone()], 2);
    repo.roots.insert(1, root);
    assert_eq!(code(&repo.seal().verify(&pin(&[&a], 1))), "RootNotPinned");
    repo.seal().verify(&pin(&[&a, &b], 1)).unwrap();
}

#[test]
fn a_threshold_below_one_is_malformed() {
    for threshold in [json!(0), json!(-1), json!("1"), json!(null), json!(1.5)] {
        for file in ["root", "targets"] {
            let mut repo = Repo::new(GUN);
            repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
            let signed = &mut repo.role(file).signed;
            let role = match file {
                "root" => &mut signed["roles"]["timestamp"],
                _ => &mut signed["delegations"]["roles"][0],
            };
            role["threshold"] = threshold.clone();
            let code = code(&repo.seal().verify(&repo.pin()));
            assert_eq!(code, "MalformedMetadata", "{threshold} in {file}");
        }
    }
}

#[test]
fn t10_one_valid_signature_among_bad_ones() {
    let mut repo = Repo::new(GUN);
    let key = repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let file = repo.role("targets/releases").clone();
    let other = Signer::new(Kind::P256);
    // A signature by another key under the trusted id comes first.
    let mut bytes: serde_json::Value = serde_json::from_slice(&file.seal()).unwrap();
    let good = bytes["signatures"][0].clone();
    let forged = BASE64_STANDARD.encode(other.sign(b"something else"));
    let bad = json!({"keyid": key.id(), "method": "ecdsa", "sig": forged});
    let cases = [
        (json!([bad, good]), "ok"),
        (json!([bad, bad]), "ThresholdNotMet"),
        (json!([]), "ThresholdNotMet"),
    ];
    for (signatures, expected) in cases {
        bytes["signatures"] = signatures;
        let role = serde_json::to_vec(&bytes).unwrap();
        let listed = meta(&role);
        let mut files =
            repo.seal_with(|snapshot| snapshot["meta"]["targets/releases"] = listed, |_| {});
        files.roles.insert("targets/releases".to_owned(), role);
        let repository = files.verify(&repo.pin()).unwrap();
        assert_eq!(code(&find_tag(&repository, "1.4", "new")), expected);
    }
}

#[test]
fn t2_more_signatures_than_the_limit() {
    let mut repo = Repo::new(GUN);
    let key = repo.timestamp_key.clone();
    repo.timestamp = File { signers: vec![key.clone(); limits::SIGNATURES], ..repo.timestamp };
    repo.seal().verify(&repo.pin()).unwrap();
    repo.timestamp.signers.push(key);
    let denial = denial(repo.seal().verify(&repo.pin()));
    let text = "the number of signatures in timestamp is over the limit of 64";
    assert_eq!((denial.code(), denial.to_string().as_str()), ("LimitExceeded", text));
}

#[test]
fn t2_more_keys_than_the_limit() {
    let mut repo = Repo::new(GUN);
    for number in 0..=limits::KEYS {
        let public = BASE64_STANDARD.encode(format!("{number}"));
        let key = json!({"keytype": "x", "keyval": {"private": null, "public": public}});
        repo.role("targets").signed["delegations"]["keys"][format!("{number}")] = key;
    }
    assert_eq!(code(&repo.seal().verify(&repo.pin())), "LimitExceeded");
}
