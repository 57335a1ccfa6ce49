//! Lookups that require roles: all of them, each by its own entries, nothing else.

use countersign_verify::notary::{Lookup, Memory, Repository, Wanted};
use countersign_verify::outcome::{Denial, Proof, Refusal};
use serde_json::json;

use crate::builder::{GUN, Repo, code, denial, digest, now, time};
use crate::signer::{Kind, Signer};

/// `targets/qa` and `targets/security/team`, both of which have signed tag 1.4.
fn signed() -> Repo {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "new"), ("1.5", "next")]);
    repo.delegated("targets/qa", &["1."], &[("1.4", "new"), ("1.3", "mixed"), ("1.2", "shadowed")]);
    repo.delegated("targets/security", &[""], &[("1.5", "next")]);
    let tags = [("1.4", "new"), ("0.1", "mixed"), ("1.2", "other")];
    repo.delegated("targets/security/team", &[""], &tags);
    repo
}

const BOTH: [&str; 2] = ["targets/qa", "targets/security/team"];

fn lookup(roles: &[&str]) -> Lookup {
    Lookup::RequireRoles(roles.iter().map(|role| (*role).to_owned()).collect())
}

fn tag(repository: &Repository, roles: &[&str], tag: &str, word: &str) -> Result<Proof, Refusal> {
    let digest = digest(word);
    repository.find(&lookup(roles), Wanted::Tag { tag, digest: &digest, size: None }, now())
}

fn by_digest(repository: &Repository, roles: &[&str], word: &str) -> Result<Proof, Refusal> {
    repository.find(&lookup(roles), Wanted::Digest { digest: &digest(word) }, now())
}

fn verified(repo: &Repo) -> Repository {
    repo.seal().verify(&repo.pin()).unwrap()
}

#[test]
fn every_required_role_has_signed() {
    let mut repo = signed();
    repo.set("targets/security", "expires", json!("2030-01-03T00:00:00Z"));
    let repository = verified(&repo);
    for proof in [tag(&repository, &BOTH, "1.4", "new"), by_digest(&repository, &BOTH, "new")] {
        let proof = proof.unwrap();
        assert_eq!(proof.role(), "targets/qa, targets/security/team");
        assert_eq!((proof.name(), proof.keys().len()), ("1.4", 2));
        // The role that delegates is relied on too.
        assert_eq!(proof.expires(), time("2030-01-03T00:00:00Z"));
    }
    assert_eq!(by_digest(&repository, &BOTH, "mixed").unwrap().name(), "0.1, 1.3");
    tag(&repository, &["targets"], "1.5", "next").unwrap();
}

#[test]
fn one_that_has_not_signed_denies_and_nothing_falls_back() {
    let repository = verified(&signed());
    let unsigned = |wanted: &str, role: &str| Denial::Unsigned {
        wanted: wanted.to_owned(),
        looked_in: vec![role.to_owned()],
    };
    assert_eq!(
        denial(tag(&repository, &BOTH, "1.5", "next")),
        unsigned("tag \"1.5\"", "targets/qa")
    );
    let wanted = format!("digest {}", digest("next"));
    assert_eq!(denial(by_digest(&repository, &BOTH, "next")), unsigned(&wanted, "targets/qa"));
    assert_eq!(code(&tag(&repository, &BOTH, "1.4", "next")), "DigestMismatch");
    assert_eq!(code(&tag(&repository, &BOTH, "1.2", "shadowed")), "DigestMismatch");
    assert_eq!(code(&by_digest(&repository, &BOTH, "shadowed")), "Unsigned");
    // The ancestor's entry is not the role's own, nor the other way round.
    assert_eq!(code(&tag(&repository, &["targets/security"], "1.4", "new")), "Unsigned");
    assert_eq!(code(&tag(&repository, &["targets/security/team"], "1.5", "next")), "Unsigned");
}

#[test]
fn t13_required_roles_hold_to_their_paths() {
    let mut repo = signed();
    repo.role("targets").signed["delegations"]["roles"][0]["paths"] = json!(["1.3", "2."]);
    let repository = verified(&repo);
    let role = "targets/qa".to_owned();
    let wanted = "tag \"1.4\"".to_owned();
    let expected = Denial::NotDelegated { role, wanted };
    assert_eq!(denial(tag(&repository, &BOTH, "1.4", "new")), expected);
    assert_eq!(code(&by_digest(&repository, &BOTH, "new")), "Unsigned");
    by_digest(&repository, &BOTH, "mixed").unwrap();
}

#[test]
fn roles_that_are_not_delegated_to() {
    let repository = verified(&signed());
    for role in [
        "targets/nobody",
        "targets/qa/x",
        "targets/security/team/x/y",
        "root",
        "snapshot",
        "timestamp",
        "targets/",
        "targets//qa",
        "targetsx",
        "",
        "/",
        "targets/qa/",
        "é/qa",
    ] {
        assert_eq!(
            code(&tag(&repository, &["targets/qa", role], "1.4", "new")),
            "NotDelegated",
            "{role:?}"
        );
        assert_eq!(code(&by_digest(&repository, &[role], "new")), "NotDelegated", "{role:?}");
    }
}

#[test]
fn no_role_at_all_proves_nothing() {
    let repository = verified(&signed());
    assert_eq!(code(&tag(&repository, &[], "1.4", "new")), "Unsigned");
    assert_eq!(code(&by_digest(&repository, &[], "new")), "Unsigned");
}

#[test]
fn t5_t20_every_role_of_the_chain_has_to_be_good() {
    for role in ["targets/qa", "targets/security", "targets/security/team"] {
        let mut repo = signed();
        repo.set(role, "expires", json!("2029-01-01T00:00:00Z"));
        let repository = verified(&repo);
        assert_eq!(code(&tag(&repository, &BOTH, "1.4", "new")), "Expired");
        assert_eq!(tag(&repository, &BOTH[..1], "1.4", "new").is_ok(), role != "targets/qa");
    }
    // Dropped from the snapshot: never published, or gone.
    let repo = signed();
    let memory = repo.seal().update(&repo.pin(), GUN, &Memory::default(), now()).memory;
    for role in ["targets/qa", "targets/security", "targets/security/team"] {
        let files = repo.seal_with(
            |snapshot| drop(snapshot["meta"].as_object_mut().unwrap().remove(role)),
            |_| {},
        );
        let repository = files.verify(&repo.pin()).unwrap();
        let expected = if role == "targets/security" { "NotDelegated" } else { "Unsigned" };
        assert_eq!(code(&tag(&repository, &BOTH, "1.4", "new")), expected, "{role}");
        let repository = files.update(&repo.pin(), GUN, &memory, now()).repository.unwrap();
        let gone = Denial::Rollback { role: role.to_owned(), found: 0, remembered: 1 };
        assert_eq!(denial(tag(&repository, &BOTH, "1.4", "new")), gone);
        assert_eq!(denial(by_digest(&repository, &BOTH, "new")), gone);
    }
}

#[test]
fn t3_a_required_role_that_is_not_delegated_to_any_more() {
    let repo = signed();
    let memory = repo.seal().update(&repo.pin(), GUN, &Memory::default(), now()).memory;
    let mut without = repo.clone();
    let roles = &mut without.role("targets").signed["delegations"]["roles"];
    roles.as_array_mut().unwrap().remove(0);
    without.roles.remove("targets/qa");
    let repository = without.seal().update(&repo.pin(), GUN, &memory, now()).repository.unwrap();
    assert_eq!(code(&tag(&repository, &BOTH, "1.4", "new")), "NotDelegated");
}

#[test]
fn releases_may_be_required_and_then_has_no_exception() {
    let mut repo = signed();
    repo.delegate("targets/releases", &[""], &[Signer::new(Kind::P256)], 1);
    let repository = verified(&repo);
    assert_eq!(code(&tag(&repository, &["targets/releases"], "1.4", "new")), "Unsigned");
}

#[test]
fn t10_roles_of_one_key_prove_one_signer() {
    let mut repo = Repo::new(GUN);
    let key = Signer::new(Kind::P256);
    for role in ["targets/qa", "targets/security"] {
        repo.delegate(role, &[""], std::slice::from_ref(&key), 1);
        repo.set_role(role, &[("1.4", "new")], std::slice::from_ref(&key));
    }
    let proof = tag(&verified(&repo), &["targets/qa", "targets/security"], "1.4", "new").unwrap();
    assert_eq!(proof.keys().len(), 1);
}
