//! Docker's lookup: the subtree of `targets/releases`, then `targets`.

use countersign_verify::notary::{Lookup, Repository, Wanted};
use countersign_verify::outcome::{Denial, Refusal};
use serde_json::json;

use crate::builder::{
    GUN, Repo, code, denial, digest, digest512, find_digest, find_tag, manifest, now, time,
};
use crate::signer::{Kind, Signer};

fn verified(repo: &Repo) -> Repository {
    repo.seal().verify(&repo.pin()).unwrap()
}

fn unsigned(wanted: &str, looked_in: &[&str]) -> Denial {
    let looked_in = looked_in.iter().map(|role| (*role).to_owned()).collect();
    Denial::Unsigned { wanted: wanted.to_owned(), looked_in }
}

fn untrusted(wanted: &str, role: &str) -> Denial {
    Denial::UntrustedSigner { wanted: wanted.to_owned(), role: role.to_owned() }
}

#[test]
fn releases_shadows_targets() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "old"), ("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let repository = verified(&repo);
    assert_eq!(find_tag(&repository, "1.4", "new").unwrap().role(), "targets/releases");
    let mismatch = denial(find_tag(&repository, "1.4", "old"));
    let (role, name) = ("targets/releases".to_owned(), "1.4".to_owned());
    let (signed, found) = (digest("new").to_string(), digest("old").to_string());
    assert_eq!(mismatch, Denial::DigestMismatch { role, name, signed, found });
    find_tag(&repository, "1.0", "old").unwrap();
    let expected = unsigned("tag \"2.0\"", &["targets/releases", "targets"]);
    assert_eq!(denial(find_tag(&repository, "2.0", "old")), expected);
}

#[test]
fn the_signed_length_counts_where_the_size_is_known() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "new")]);
    let repository = verified(&repo);
    let digest = digest("new");
    let find = |size| {
        let wanted = Wanted::Tag { tag: "1.4", digest: &digest, size };
        repository.find(&Lookup::Docker, wanted, now())
    };
    let length = manifest("new").len() as u64;
    find(None).unwrap();
    find(Some(length)).unwrap();
    assert_eq!(code(&find(Some(length + 1))), "DigestMismatch");
    assert_eq!(code(&find(Some(0))), "DigestMismatch");
}

#[test]
fn t3_t13_entries_outside_a_role_s_paths_are_not_its_own() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "old")]);
    repo.delegated("targets/releases", &["2.", "3.1"], &[("1.4", "new"), ("2.0", "new")]);
    let repository = verified(&repo);
    find_tag(&repository, "2.0", "new").unwrap();
    find_tag(&repository, "1.4", "old").unwrap();
    assert_eq!(code(&find_tag(&repository, "1.4", "new")), "DigestMismatch");
    find_digest(&repository, "new").unwrap();
    // No path is none, not all.
    let mut repo = Repo::new(GUN);
    repo.delegated("targets/releases", &[], &[("1.4", "new")]);
    assert_eq!(code(&find_digest(&verified(&repo), "new")), "Unsigned");
}

#[test]
fn t13_a_child_s_paths_hold_under_its_parent_s_only() {
    let mut repo = Repo::new(GUN);
    repo.delegated("targets/a", &["1."], &[]);
    repo.delegated(
        "targets/a/b",
        &["", "1.4", "2."],
        &[("1.4", "new"), ("2.0", "new"), ("1.5", "new")],
    );
    let repository = verified(&repo);
    let roles = Lookup::RequireRoles(vec!["targets/a/b".to_owned()]);
    let digest = digest("new");
    let find =
        |tag| repository.find(&roles, Wanted::Tag { tag, digest: &digest, size: None }, now());
    find("1.4").unwrap();
    for tag in ["2.0", "1.5"] {
        assert_eq!(code(&find(tag)), "NotDelegated", "{tag}");
    }
}

#[test]
fn a_hit_in_a_child_of_releases_is_not_trusted_and_not_passed_over() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "new")]);
    repo.delegated("targets/releases", &[""], &[("1.0", "old")]);
    repo.delegated("targets/releases/beta", &[""], &[("1.4", "new"), ("1.0", "new")]);
    let repository = verified(&repo);
    let expected = untrusted("tag \"1.4\"", "targets/releases/beta");
    assert_eq!(denial(find_tag(&repository, "1.4", "new")), expected);
    // Before its children, the role itself.
    find_tag(&repository, "1.0", "old").unwrap();
    let expected = untrusted("digest ", "targets/releases/beta");
    assert_eq!(denial(find_digest(&repository, "new")).code(), expected.code());
}

#[test]
fn t19_a_digest_under_another_team_s_delegation_is_not_trusted() {
    let mut repo = Repo::new(GUN);
    repo.delegated("targets/alice", &[""], &[("1.4", "new")]);
    let repository = verified(&repo);
    assert_eq!(
        denial(find_tag(&repository, "1.4", "new")),
        untrusted("tag \"1.4\"", "targets/alice")
    );
    let wanted = format!("digest {}", digest("new"));
    assert_eq!(denial(find_digest(&repository, "new")), untrusted(&wanted, "targets/alice"));
    // Another digest under that tag is nobody's.
    assert_eq!(denial(find_tag(&repository, "1.4", "old")), unsigned("tag \"1.4\"", &["targets"]));
}

#[test]
fn t19_a_digest_that_a_newer_role_shadows_is_not_signed_any_more() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "old"), ("1.3", "older")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let repository = verified(&repo);
    let wanted = format!("digest {}", digest("old"));
    let expected = unsigned(&wanted, &["targets/releases", "targets"]);
    assert_eq!(denial(find_digest(&repository, "old")), expected);
    assert_eq!(find_digest(&repository, "older").unwrap().role(), "targets");
    assert_eq!(find_digest(&repository, "new").unwrap().role(), "targets/releases");
    // Another tag of it still counts.
    repo.targets(&[("1.4", "old"), ("1.2", "old")]);
    assert_eq!(find_digest(&verified(&repo), "old").unwrap().name(), "1.2");
}

#[test]
fn t19_an_entry_that_is_no_tag_does_not_sign_a_digest() {
    for name in ["a/b", "", "-x", ".x", "a b", "é", "a\u{0}", &"x".repeat(129)] {
        let mut repo = Repo::new(GUN);
        repo.targets(&[(name, "new")]);
        assert_eq!(code(&find_digest(&verified(&repo), "new")), "Unsigned", "{name:?}");
    }
    let mut repo = Repo::new(GUN);
    repo.targets(&[("_v1.0-rc.1", "new")]);
    find_digest(&verified(&repo), "new").unwrap();
}

#[test]
fn a_sha512_digest_needs_a_signed_sha512() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "new")]);
    let by_sha512 = |repository: &Repository, word: &str| {
        let digest = digest512(word);
        let tag = Wanted::Tag { tag: "1.4", digest: &digest, size: None };
        let by_tag = code(&repository.find(&Lookup::Docker, tag, now()));
        let wanted = Wanted::Digest { digest: &digest };
        (by_tag, code(&repository.find(&Lookup::Docker, wanted, now())))
    };
    assert_eq!(by_sha512(&verified(&repo), "new"), ("Unsigned", "Unsigned"));
    let sha512 = crate::builder::meta(&manifest("new"))["hashes"]["sha512"].clone();
    repo.role("targets").signed["targets"]["1.4"]["hashes"]["sha512"] = sha512;
    assert_eq!(by_sha512(&verified(&repo), "new"), ("ok", "ok"));
    assert_eq!(by_sha512(&verified(&repo), "old"), ("DigestMismatch", "Unsigned"));
    // An entry without sha256 shadows, and signs no sha256.
    let hashes = repo.role("targets").signed["targets"]["1.4"]["hashes"].as_object_mut().unwrap();
    hashes.remove("sha256");
    let repository = verified(&repo);
    assert_eq!(code(&find_tag(&repository, "1.4", "new")), "Unsigned");
    assert_eq!(code(&find_digest(&repository, "new")), "Unsigned");
}

#[test]
fn t5_a_bad_role_on_the_path_denies_and_off_the_path_does_not() {
    type Break = fn(&mut Repo);
    let breaks: [(&str, Break); 4] = [
        ("Expired", |repo| repo.set("targets/releases", "expires", json!("2029-01-01T00:00:00Z"))),
        ("ThresholdNotMet", |repo| repo.role("targets/releases").signers = Vec::new()),
        ("MalformedMetadata", |repo| repo.set("targets/releases", "_type", json!("x"))),
        ("MalformedMetadata", |repo| repo.set("targets/releases", "targets", json!({"1": {}}))),
    ];
    for (expected, break_it) in breaks {
        let mut repo = Repo::new(GUN);
        repo.targets(&[("1.4", "old"), ("0.9", "older")]);
        repo.delegated("targets/releases", &["1."], &[("1.4", "new")]);
        break_it(&mut repo);
        let repository = verified(&repo);
        assert_eq!(code(&find_tag(&repository, "1.4", "old")), expected);
        assert_eq!(code(&find_tag(&repository, "1.9", "old")), expected);
        assert_eq!(code(&find_digest(&repository, "old")), expected);
        assert_eq!(code(&find_digest(&repository, "nobody's")), expected);
        find_tag(&repository, "0.9", "older").unwrap();
        find_digest(&repository, "older").unwrap();
        let shown = repository.roles().find(|role| role.name == "targets/releases").unwrap();
        assert_eq!(shown.state.unwrap_err().code(), expected);
    }
}

#[test]
fn a_bad_child_of_releases_denies_what_it_could_shadow() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.5", "new")]);
    repo.delegated("targets/releases/beta", &["1."], &[]);
    repo.role("targets/releases/beta").signers = Vec::new();
    let repository = verified(&repo);
    assert_eq!(code(&find_tag(&repository, "1.4", "old")), "ThresholdNotMet");
    find_tag(&repository, "1.5", "new").unwrap();
    assert_eq!(code(&find_digest(&repository, "old")), "ThresholdNotMet");
    // Delegated to and never published: no exception for it.
    repo.roles.remove("targets/releases/beta");
    assert_eq!(code(&find_tag(&verified(&repo), "1.4", "old")), "MalformedMetadata");
}

#[test]
fn releases_that_was_never_published_is_passed_over() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "old")]);
    repo.delegate("targets/releases", &[""], &[Signer::new(Kind::P256)], 1);
    let repository = verified(&repo);
    find_tag(&repository, "1.4", "old").unwrap();
    find_digest(&repository, "old").unwrap();
    assert!(repository.roles().any(|role| role.name == "targets/releases" && role.state.is_err()));
}

#[test]
fn t17_every_expiry_is_checked_again_at_each_lookup() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &["1."], &[("1.4", "new")]);
    repo.delegated("targets/qa", &[""], &[]);
    repo.set("root", "expires", json!("2030-01-09T00:00:00Z"));
    repo.set("timestamp", "expires", json!("2030-01-08T00:00:00Z"));
    repo.set("snapshot", "expires", json!("2030-01-07T00:00:00Z"));
    repo.set("targets", "expires", json!("2030-01-06T00:00:00Z"));
    repo.set("targets/releases", "expires", json!("2030-01-05T00:00:00Z"));
    repo.set("targets/qa", "expires", json!("2030-01-04T00:00:00Z"));
    let repository = verified(&repo);
    let (new, old) = (digest("new"), digest("old"));
    let find = |digest, at: &str| -> Result<_, Refusal> {
        repository.find(&Lookup::Docker, Wanted::Digest { digest }, time(at))
    };
    let proof = find(&new, "2030-01-04T23:59:59Z").unwrap();
    assert_eq!(proof.expires(), time("2030-01-05T00:00:00Z"));
    for (at, role) in [
        ("2030-01-05T00:00:00Z", "targets/releases"),
        ("2030-01-06T00:00:00Z", "targets"),
        ("2030-01-07T00:00:00Z", "snapshot"),
        ("2030-01-08T00:00:00Z", "timestamp"),
        ("2030-01-09T00:00:00Z", "root"),
    ] {
        for digest in [&new, &old] {
            let denial = denial(find(digest, at));
            assert!(
                matches!(&denial, Denial::Expired { role: found, .. } if found == role),
                "{denial}"
            );
            assert!(denial.to_string().contains("clock"), "{denial}");
        }
    }
    assert_eq!(repository.expires(), time("2030-01-06T00:00:00Z"));
}

#[test]
fn whether_a_tag_is_signed_at_all() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    repo.delegated("targets/qa", &[""], &[("1.5", "new")]);
    let repository = verified(&repo);
    let signs = |tag, time| code(&repository.signs_tag(&Lookup::Docker, tag, time));
    for (tag, expected) in [("1.0", "ok"), ("1.4", "ok"), ("1.5", "Unsigned"), ("2.0", "Unsigned")]
    {
        assert_eq!(signs(tag, now()), expected, "{tag}");
    }
    assert_eq!(signs("1.4", time("2040-01-01T00:00:00Z")), "Expired");
}
