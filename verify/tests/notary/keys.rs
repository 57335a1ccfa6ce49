//! Key types, methods and values.

use serde_json::json;

use crate::builder::{GUN, Repo, code, denial, find_tag, pin, sha256};
use crate::signer::{Cert, KINDS, Kind, Signer};
use countersign_verify::notary::public_key_fingerprint;
use countersign_verify::outcome::Denial;

/// A repository whose tag 1.4 is signed in `targets/releases`, by `key` if its signature counts.
fn signed_by(key: Signer) -> Repo {
    let mut repo = Repo::new(GUN);
    repo.delegate("targets/releases", &[""], std::slice::from_ref(&key), 1);
    repo.set_role("targets/releases", &[("1.4", "new")], &[key]);
    repo
}

fn outcome(repo: &Repo) -> &'static str {
    let repository = repo.seal().verify(&repo.pin()).unwrap();
    code(&find_tag(&repository, "1.4", "new"))
}

#[test]
fn every_plain_key_type_signs() {
    for kind in KINDS {
        assert_eq!(outcome(&signed_by(Signer::new(kind))), "ok", "{kind:?}");
    }
}

#[test]
fn every_x509_key_type_signs_roots_and_delegations() {
    for kind in &KINDS[1..] {
        let key = Signer::x509(*kind, &Cert::named(GUN));
        assert_eq!(outcome(&signed_by(key.clone())), "ok", "{kind:?}");
        let mut repo = Repo::with_keys(key, [*kind; 3].map(Signer::new));
        repo.targets(&[("1.4", "new")]);
        assert_eq!(outcome(&repo), "ok", "{kind:?}");
    }
}

#[test]
fn methods_are_read_in_any_case() {
    let mut key = Signer::new(Kind::P256);
    key.method = "ECDSA".to_owned();
    assert_eq!(outcome(&signed_by(key)), "ok");
}

#[test]
fn t14_a_method_that_does_not_fit_the_key_does_not_count() {
    for kind in KINDS {
        let key = Signer::new(kind);
        for method in ["eddsa", "ecdsa", "rsapss", "rsapkcs1v15"] {
            let fits = key.method == method;
            let repo = signed_by(key.by_method(method));
            // An RSA signer signs by whatever method it names; both are RSA's own.
            let fits = fits || (key.key_type == "rsa" && method.starts_with("rsa"));
            let expected = if fits { "ok" } else { "ThresholdNotMet" };
            assert_eq!(outcome(&repo), expected, "{kind:?} by {method}");
        }
    }
}

#[test]
fn t14_unknown_methods_are_ignored_rather_than_counted() {
    for method in ["", "none", "rsa-pycrypto", "ecdsa-sha2-nistp256", "hmac"] {
        let mut repo = signed_by(Signer::new(Kind::P256));
        let mut unknown = repo.role("targets/releases").signers[0].clone();
        unknown.method = method.to_owned();
        repo.role("targets/releases").signers = vec![unknown.clone()];
        assert_eq!(outcome(&repo), "ThresholdNotMet", "{method:?}");
        // Beside a good one it does no harm.
        let good = unknown.by_method("ecdsa");
        repo.role("targets/releases").signers = vec![unknown, good];
        assert_eq!(outcome(&repo), "ok", "{method:?}");
    }
}

#[test]
fn t14_a_key_type_that_does_not_fit_the_value_does_not_count() {
    for kind in KINDS {
        for key_type in ["ed25519", "ecdsa", "rsa", "ecdsa-x509", "rsa-x509", "dsa", ""] {
            let key = Signer::new(kind);
            if key.key_type == key_type {
                continue;
            }
            let repo = signed_by(key.of_type(key_type));
            assert_eq!(outcome(&repo), "ThresholdNotMet", "{kind:?} as {key_type}");
        }
    }
}

#[test]
fn t14_a_certificate_of_the_other_family_does_not_count() {
    let rsa = Signer::x509(Kind::RsaPss, &Cert::named("x"));
    let repo = signed_by(rsa.of_type("ecdsa-x509"));
    assert_eq!(outcome(&repo), "ThresholdNotMet");
    let ecdsa = Signer::x509(Kind::P256, &Cert::named("x"));
    let repo = signed_by(ecdsa.of_type("rsa-x509"));
    assert_eq!(outcome(&repo), "ThresholdNotMet");
}

#[test]
fn t14_a_key_under_another_id_makes_its_file_malformed() {
    for file in ["root", "targets"] {
        let mut repo = signed_by(Signer::new(Kind::P256));
        let key = Signer::new(Kind::P256).json();
        let signed = &mut repo.role(file).signed;
        let table =
            if file == "root" { &mut signed["keys"] } else { &mut signed["delegations"]["keys"] };
        table["00".repeat(32)] = key;
        let denial = denial(repo.seal().verify(&repo.pin()));
        assert_eq!(denial.code(), "MalformedMetadata");
        assert!(denial.to_string().starts_with(file), "{denial}");
    }
}

#[test]
fn t14_a_key_swapped_under_a_trusted_id_makes_its_file_malformed() {
    let mut repo = signed_by(Signer::new(Kind::P256));
    let evil = Signer::new(Kind::P256);
    let id = repo.role("targets/releases").signers[0].id();
    repo.role("targets").signed["delegations"]["keys"][id] = evil.json();
    assert_eq!(code(&repo.seal().verify(&repo.pin())), "MalformedMetadata");
}

#[test]
fn a_key_id_covers_the_key_alone() {
    let mut repo = signed_by(Signer::new(Kind::P256));
    let id = repo.role("targets/releases").signers[0].id();
    let key = &mut repo.role("targets").signed["delegations"]["keys"][id];
    key["comment"] = json!("the release team's");
    key["keyval"]["private"] = json!("");
    assert_eq!(outcome(&repo), "ok");
}

#[test]
fn a_key_that_no_role_can_list_is_malformed() {
    let mut repo = signed_by(Signer::new(Kind::P256));
    repo.role("targets").signed["delegations"]["keys"] = json!({});
    assert_eq!(code(&repo.seal().verify(&repo.pin())), "MalformedMetadata");
}

#[test]
fn one_key_has_one_encoding_and_one_fingerprint() {
    let key = Signer::new(Kind::P256);
    let spki = key.spki();
    assert_eq!(public_key_fingerprint(&spki).unwrap().0, sha256(&spki));
    assert_eq!(public_key_fingerprint(&spki).unwrap(), key.fingerprint());
    // The same point, compressed.
    let point = &spki[26..];
    let mut compressed = spki[..26].to_vec();
    compressed[1] -= 32;
    compressed[24] -= 32;
    compressed.push(2 + (point[64] & 1));
    compressed.extend(&point[1..33]);
    public_key_fingerprint(&compressed).unwrap_err();
    // A point that is a byte too short, and one by a form that is neither.
    let mut short = spki[..90].to_vec();
    short[1] -= 1;
    short[24] -= 1;
    let mut hybrid = spki.clone();
    hybrid[26] = 6 + (point[64] & 1);
    let trailing = [spki.as_slice(), b"\0"].concat();
    for odd in [&short[..], &hybrid, &trailing, &spki[..90], b"", &[0x30, 0x80]] {
        public_key_fingerprint(odd).unwrap_err();
    }
    public_key_fingerprint(&Signer::new(Kind::RsaPss).spki()).unwrap();
}

#[test]
fn t10_a_compressed_point_is_no_second_key() {
    let key = Signer::new(Kind::P256);
    let spki = key.spki();
    let mut compressed = spki[..26].to_vec();
    compressed[1] -= 32;
    compressed[24] -= 32;
    compressed.push(2 + (spki[90] & 1));
    compressed.extend(&spki[27..59]);
    let other = key.listed_as(compressed);
    let mut repo = Repo::new(GUN);
    repo.delegate("targets/releases", &[""], &[key.clone(), other.clone()], 2);
    repo.set_role("targets/releases", &[("1.4", "new")], &[key, other]);
    assert_eq!(outcome(&repo), "ThresholdNotMet");
}

#[test]
fn t1_metadata_by_a_key_that_no_role_names() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let mut repo = signed_by(Signer::new(Kind::P256));
        repo.role(role).signers = vec![Signer::x509(Kind::P256, &Cert::named(GUN))];
        let denial = denial(repo.seal().verify(&repo.pin()));
        assert!(matches!(&denial, Denial::ThresholdNotMet { found: 0, wanted: 1, .. }), "{denial}");
        assert!(denial.to_string().starts_with(role), "{denial}");
    }
    let mut repo = signed_by(Signer::new(Kind::P256));
    repo.role("targets/releases").signers = vec![Signer::new(Kind::P256)];
    assert_eq!(outcome(&repo), "ThresholdNotMet");
}

#[test]
fn t1_metadata_by_another_role_s_key() {
    for role in ["timestamp", "snapshot", "targets"] {
        let mut repo = signed_by(Signer::new(Kind::P256));
        repo.role(role).signers = vec![repo.root_key.clone()];
        assert_eq!(code(&repo.seal().verify(&repo.pin())), "ThresholdNotMet", "{role}");
    }
}

#[test]
fn a_pin_of_a_key_that_is_not_in_the_root_trusts_nothing() {
    let repo = signed_by(Signer::new(Kind::P256));
    let other = Signer::new(Kind::P256);
    let denial = denial(repo.seal().verify(&pin(&[&other], 1)));
    let found = vec![repo.root_key.fingerprint()];
    let (repository, pin) = (GUN.to_owned(), Some("payments".to_owned()));
    assert_eq!(denial, Denial::RootNotPinned { repository, pin, found, more: 0 });
}

#[test]
fn an_rsa_key_without_its_null_parameter_is_no_key() {
    let spki = Signer::new(Kind::RsaPss).spki();
    // SEQUENCE (4), SEQUENCE (2), the OID (11), NULL (2), BIT STRING.
    assert_eq!(spki[17..19], [5, 0]);
    let mut odd = [&spki[..17], &spki[19..]].concat();
    odd[3] -= 2;
    odd[5] -= 2;
    public_key_fingerprint(&odd).unwrap_err();
}
