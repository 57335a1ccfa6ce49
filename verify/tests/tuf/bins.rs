//! Hashed bins: by hash prefixes, and succinct ones.

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use serde_json::json;

use crate::builder::{NAME, Repo, hex, path, role_keys, sha256};
use crate::shell::{code, denial, digests, tags};
use crate::signer::Signer;

fn hash(tag: &str) -> String {
    hex(&sha256(path(tag).as_bytes()))
}

/// Sixteen bins, of one hex digit each.
fn prefixed(tag: &str) -> (Repo, String) {
    let mut repo = Repo::new();
    let key = Signer::default();
    let mut own = String::new();
    for digit in "0123456789abcdef".chars() {
        let role = format!("bin-{digit}");
        let rule = json!({"path_hash_prefixes": [digit], "terminating": true});
        repo.delegate("targets", &role, rule, std::slice::from_ref(&key), 1);
        let is_own = hash(tag).starts_with(digit);
        let signed: &[_] = if is_own { &[(tag, "new")] } else { &[] };
        if is_own {
            own.clone_from(&role);
        }
        repo.set_role(&role, signed, std::slice::from_ref(&key));
    }
    (repo, own)
}

/// 2^bits succinct bins, of which only those that sign something are there.
fn succinct(bits: u32, prefix: &str, tag: &str) -> (Repo, String, Signer) {
    let mut repo = Repo::new();
    let key = Signer::default();
    let mut bins = role_keys(std::slice::from_ref(&key), 1);
    bins["bit_length"] = json!(bits);
    bins["name_prefix"] = json!(prefix);
    repo.set(
        "targets",
        "delegations",
        json!({"keys": {&key.id: key.json()}, "succinct_roles": bins}),
    );
    let number = u64::from_str_radix(&hash(tag)[..8], 16).unwrap() >> (32 - bits);
    let digits = format!("{:x}", (1u64 << bits) - 1).len();
    let role = format!("{prefix}-{number:0digits$x}");
    repo.set_role(&role, &[(tag, "new")], std::slice::from_ref(&key));
    (repo, role, key)
}

#[test]
fn t13_a_name_is_in_the_bin_of_its_hash_only() {
    let (repo, own) = prefixed("1.4");
    let updated = repo.seal().run(tags("1.4"), &Memory::default());
    assert_eq!(updated.find("new").unwrap().role(), own);
    // One bin is fetched.
    assert_eq!(updated.asked.iter().filter(|path| path.contains("bin-")).count(), 1);
    // In another bin it is not signed.
    let mut moved = repo.clone();
    let key = repo.roles[&own].signers.clone();
    let other = if own == "bin-0" { "bin-1" } else { "bin-0" };
    moved.set_role(&own, &[], &key);
    moved.set_role(other, &[("1.4", "new")], &key);
    assert_eq!(code(&moved.find("1.4", "new")), "Unsigned");
}

#[test]
fn hash_prefixes_may_be_of_any_length() {
    for (length, expected) in [(0, "ok"), (1, "ok"), (3, "ok"), (64, "ok")] {
        let mut repo = Repo::new();
        repo.delegated("targets", "bin", &[], &[("1.4", "new")]);
        let roles = &mut repo.role("targets").signed["delegations"]["roles"][0];
        roles.as_object_mut().unwrap().remove("paths");
        roles["path_hash_prefixes"] = json!(["zz", &hash("1.4")[..length]]);
        assert_eq!(code(&repo.find("1.4", "new")), expected, "{length}");
    }
}

#[test]
fn succinct_bins_are_found_by_their_number() {
    for bits in [1, 3, 4, 5, 8, 14, 31, 32] {
        let (repo, role, _) = succinct(bits, "bins", "1.4");
        let updated = repo.seal().run(tags("1.4"), &Memory::default());
        assert_eq!(updated.find("new").unwrap().role(), role);
        assert_eq!(updated.asked.last().unwrap(), &format!("1.{role}.json"));
    }
}

#[test]
fn t13_succinct_bins_are_held_to_their_keys_and_are_the_only_ones() {
    let (mut repo, role, key) = succinct(8, "bins", "1.4");
    repo.role(&role).signers = vec![Signer::default()];
    assert_eq!(code(&repo.find("1.4", "new")), "ThresholdNotMet");
    repo.role(&role).signers = vec![key];
    repo.find("1.4", "new").unwrap();
    repo.roles.remove(&role);
    assert_eq!(code(&repo.find("1.4", "new")), "MalformedMetadata");
    for (member, value) in [
        ("bit_length", json!(0)),
        ("bit_length", json!(33)),
        ("bit_length", json!("8")),
        ("bit_length", json!(1u64 << 40)),
        ("name_prefix", json!(1)),
        ("name_prefix", json!("a\0")),
        ("threshold", json!(0)),
    ] {
        let (mut repo, ..) = succinct(8, "bins", "1.4");
        repo.role("targets").signed["delegations"]["succinct_roles"][member] = value.clone();
        assert_eq!(code(&repo.find("1.4", "new")), "MalformedMetadata", "{member} {value}");
    }
    assert_eq!(limits::SUCCINCT_BITS, 32);
}

#[test]
fn bins_are_carried_over_and_asked_for_alone() {
    let (repo, role, _) = succinct(8, "bins", "1.4");
    let files = repo.seal();
    let first = files.run(tags("1.4"), &Memory::default());
    let repository = first.repository.unwrap();
    let again = || {
        let memory = first.memory.clone();
        countersign_verify::tuf::Update::new(&files.initial(), memory, crate::builder::now())
            .after(&repository)
    };
    // By another lookup's update.
    let updated =
        files.drive(again(), crate::shell::question(&format!("{NAME}:9"), crate::shell::any()));
    let kept = crate::shell::find(updated.repository.as_ref().unwrap(), &tags("1.4"), "new");
    assert_eq!(kept.unwrap().role(), role);
    // Where targets has changed as well.
    let mut newer = repo.clone();
    for role in ["targets", "snapshot", "timestamp"] {
        newer.set(role, "version", json!(2));
    }
    let updated = newer.seal().drive(again(), tags("1.4"));
    updated.find("new").unwrap();
    assert!(updated.asked.iter().all(|path| !path.contains("bins")), "{:?}", updated.asked);
}

#[test]
fn t19_a_digest_in_a_bin_is_found_by_its_own_name_only() {
    let (repo, ..) = prefixed("1.4");
    // Bins are never enumerated.
    let updated = repo.seal().run(digests("new"), &Memory::default());
    assert_eq!(code(&updated.find("new")), "Unsigned");
    assert!(updated.asked.iter().all(|path| !path.contains("bin-")));
    let denied = denial(updated.find("new")).to_string();
    assert!(denied.contains("digest sha256:"), "{denied}");
}
