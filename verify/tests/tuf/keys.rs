//! Key types, schemes, values, and thresholds over them.

use countersign_verify::limits;
use countersign_verify::outcome::Denial;
use serde_json::json;

use crate::builder::{Repo, hex};
use crate::shell::denial;
use crate::signer::{KINDS, Kind, Signer};

/// Tag 1.4 in a role of these keys and this threshold, signed by `signers`.
fn signed(listed: &[Signer], threshold: u64, signers: &[Signer]) -> Result<usize, Denial> {
    let mut repo = Repo::new();
    let rule = json!({"paths": ["registry.example.com/payments/*/*"]});
    repo.delegate("targets", "a", rule, listed, threshold);
    repo.set_role("a", &[("1.4", "new")], signers);
    match repo.find("1.4", "new") {
        Ok(proof) => Ok(proof.keys().len()),
        refused => Err(denial(refused)),
    }
}

fn one(key: &Signer) -> &'static str {
    let key = std::slice::from_ref(key);
    signed(key, 1, key).map_or_else(|denial| denial.code(), |_| "ok")
}

fn too_few(found: usize, wanted: u64) -> Result<usize, Denial> {
    Err(Denial::ThresholdNotMet { role: "a".to_owned(), found, wanted })
}

#[test]
fn every_key_type_signs_every_role() {
    for kind in KINDS {
        let key = Signer::new(kind);
        assert_eq!(one(&key), "ok", "{kind:?}");
        let mut repo = Repo::signing(&[("1.4", "new")]);
        repo.root_keys = vec![Signer::new(kind)];
        (repo.timestamp_key, repo.snapshot_key) = (Signer::new(kind), Signer::new(kind));
        repo.targets_key = key;
        repo.roots.insert(1, repo.root(1));
        repo.timestamp.signers = vec![repo.timestamp_key.clone()];
        repo.snapshot.signers = vec![repo.snapshot_key.clone()];
        repo.targets(&[("1.4", "new")]);
        repo.find("1.4", "new").unwrap();
    }
    for scheme in ["rsassa-pss-sha256", "rsassa-pss-sha384", "rsassa-pss-sha512"] {
        assert_eq!(one(&Signer::new(Kind::Rsa).by_scheme(scheme)), "ok", "{scheme}");
    }
}

#[test]
fn keys_are_read_as_older_tools_write_them() {
    let p256 = Signer::new(Kind::P256);
    assert_eq!(one(&p256.of_type("ecdsa-sha2-nistp256")), "ok");
    // The point alone, in hex.
    let point = p256.spki().split_off(26);
    let in_hex = p256.listed_as(json!(hex(&point)));
    assert_eq!(one(&in_hex), "ok");
    assert_eq!(one(&Signer::new(Kind::P384).of_type("ecdsa-sha2-nistp384")), "ok");
    // Either way it is one key.
    let both = [p256.clone(), in_hex.known_as("another id")];
    assert_eq!(signed(&both, 2, &both), too_few(1, 2));
}

#[test]
fn t14_type_scheme_and_value_have_to_agree() {
    let types = ["ed25519", "ecdsa", "rsa", "ecdsa-sha2-nistp256", "sigstore-oidc", ""];
    let schemes =
        ["ed25519", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384", "rsassa-pss-sha256", "none", ""];
    for kind in KINDS {
        let key = Signer::new(kind);
        for (key_type, scheme) in types.iter().flat_map(|it| schemes.map(|scheme| (*it, scheme))) {
            let legacy = key_type == key.scheme && scheme == key.scheme;
            let fits = legacy || (key_type == key.key_type && scheme == key.scheme);
            let expected = if fits { "ok" } else { "ThresholdNotMet" };
            let listed = key.of_type(key_type).by_scheme(scheme);
            assert_eq!(one(&listed), expected, "{kind:?} {key_type} {scheme}");
        }
    }
}

#[test]
fn t14_values_that_are_no_keys_are_ignored() {
    let key = Signer::new(Kind::Ed25519);
    let public = hex(&key.spki());
    for value in [
        json!(""),
        json!(public[2..]),
        json!(format!("{public}00")),
        json!(format!(" {public}")),
        json!(key.pem()),
        json!(null),
        json!(1),
        json!("xx"),
    ] {
        assert_eq!(one(&key.listed_as(value.clone())), "ThresholdNotMet", "{value}");
    }
    let p256 = Signer::new(Kind::P256);
    for value in
        [json!(Signer::new(Kind::P256).pem()), json!(p256.pem().replace("PUBLIC", "PRIVATE"))]
    {
        assert_eq!(one(&p256.listed_as(value)), "ThresholdNotMet");
    }
    // Other keys are enough.
    let unknown = Signer::default().of_type("sigstore-oidc").by_scheme("Fulcio");
    let mut repo = Repo::signing(&[("1.4", "new")]);
    let root = repo.role("root");
    root.signed["keys"][&unknown.id] = json!({"keytype": "sigstore-oidc", "scheme": "Fulcio", "keyval": {"identity": "a@b", "issuer": "c"}});
    let ids = root.signed["roles"]["root"]["keyids"].as_array_mut().unwrap();
    ids.push(json!(unknown.id));
    repo.find("1.4", "new").unwrap();
}

#[test]
fn t10_a_threshold_needs_as_many_keys() {
    let [a, b, c] = [Kind::P256, Kind::Ed25519, Kind::P384].map(Signer::new);
    let all = [a.clone(), b.clone(), c.clone()];
    assert_eq!(signed(&all, 2, &[a.clone(), c]), Ok(2));
    assert_eq!(signed(&all, 2, std::slice::from_ref(&b)), too_few(1, 2));
    assert_eq!(signed(&all, 2, &[]), too_few(0, 2));
    assert_eq!(signed(&all, 4, &all), too_few(3, 4));
    assert_eq!(signed(&all, u64::MAX, &all), too_few(3, u64::MAX));
    assert_eq!(signed(&all, 0, &all).unwrap_err().code(), "MalformedMetadata");
    // A foreign signature counts nothing, and harms nothing.
    let foreign = Signer::default();
    assert_eq!(signed(&all, 1, &[foreign.clone(), a.clone()]), Ok(1));
    assert_eq!(signed(std::slice::from_ref(&a), 1, &[foreign.known_as(&a.id)]), too_few(0, 1));
}

#[test]
fn t10_one_key_under_two_ids_counts_once() {
    let a = Signer::default();
    let both = [a.clone(), a.known_as("another")];
    assert_eq!(signed(&both, 2, &both), too_few(1, 2));
    assert_eq!(signed(&both, 1, &both), Ok(1));
}

#[test]
fn t10_the_same_signature_or_key_twice_is_refused() {
    let a = Signer::default();
    let twice = [a.clone(), a.clone()];
    let malformed = |result: Result<usize, Denial>| {
        assert_eq!(result.unwrap_err().code(), "MalformedMetadata");
    };
    malformed(signed(&[a.clone(), Signer::default()], 2, &twice));
    malformed(signed(&twice, 2, &[a]));
}

#[test]
fn ids_without_a_key_and_places_without_a_signature_count_nothing() {
    let mut repo = Repo::signing(&[("1.4", "new")]);
    let ids = &mut repo.role("root").signed["roles"]["targets"]["keyids"];
    ids.as_array_mut().unwrap().push(json!("nobody"));
    let mut files = repo.seal();
    for sig in ["", "zz", "00", "é"] {
        let mut timestamp: serde_json::Value =
            serde_json::from_slice(&files.roles["timestamp"]).unwrap();
        let signatures = timestamp["signatures"].as_array_mut().unwrap();
        signatures.retain(|it| it["keyid"] != "empty");
        signatures.push(json!({"keyid": "empty", "sig": sig}));
        files.roles.insert("timestamp".to_owned(), serde_json::to_vec(&timestamp).unwrap());
        files.verify(crate::shell::tags("1.4")).unwrap();
    }
}

#[test]
fn t2_keys_and_signatures_are_bounded() {
    let a = Signer::default();
    let many = |count: usize| -> Vec<Signer> {
        let others = (1..count).map(|number| a.known_as(&format!("{number}")));
        std::iter::once(a.clone()).chain(others).collect()
    };
    let listed = many(limits::SIGNATURES + 1);
    let signed_by = |signers: &[Signer]| signed(&listed, 1, signers).map_err(|it| it.code());
    assert_eq!(signed_by(&listed[..limits::SIGNATURES]), Ok(1));
    assert_eq!(signed_by(&listed), Err("LimitExceeded"));
    let listed = many(limits::KEYS + 1);
    let signers = std::slice::from_ref(&a);
    assert_eq!(signed(&listed[..limits::KEYS], 1, signers), Ok(1));
    assert_eq!(signed(&listed, 1, signers).unwrap_err().code(), "LimitExceeded");
}
