//! Which target stands for an image, and whose signature counts.

use std::sync::Arc;

use countersign_verify::image::{Digest, Reference};
use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Proof, Refusal};
use countersign_verify::tuf::{Accept, Image, Lookup, Repository, Template, Update};
use serde_json::json;

use crate::builder::{NAME, Repo, digest, hex, manifest, now, sha512};
use crate::shell::{Question, any, code, denial, digests, lookup, question, roles, tags};

const ALL: &str = "registry.example.com/payments/*/*";

fn ask(repo: &Repo, question: Question, word: &str) -> Result<Proof, Refusal> {
    repo.seal().run(question, &Memory::default()).find(word)
}

fn in_roles(text: &str, accept: Accept) -> Question {
    question(&format!("{NAME}{text}"), accept)
}

fn unsigned(wanted: &str, looked_in: &[&str]) -> Denial {
    Denial::Unsigned { wanted: wanted.to_owned(), looked_in: roles(looked_in) }
}

/// `old` in targets, `new` in the delegated role "team".
fn team() -> Repo {
    let mut repo = Repo::signing(&[("1.0", "old")]);
    repo.delegated("targets", "team", &[ALL], &[("1.4", "new"), ("1.0", "new")]);
    repo
}

#[test]
fn a_tag_is_signed_for_the_digest_that_answers_for_it() {
    let repo = team();
    assert_eq!(repo.find("1.4", "new").unwrap().digest(), &digest("new"));
    let (role, name) = ("team".to_owned(), "1.4".to_owned());
    let (signed, found) = (digest("new").to_string(), digest("old").to_string());
    let expected = Denial::DigestMismatch { role, name, signed, found };
    assert_eq!(denial(repo.find("1.4", "old")), expected);
    assert_eq!(denial(repo.find("2.0", "new")), unsigned("tag \"2.0\"", &["targets", "team"]));
}

#[test]
fn the_signed_length_counts_where_the_size_is_known() {
    let mut repo = team();
    let name = format!("{NAME}/1.4");
    repo.role("team").signed["targets"][&name]["length"] = json!(5);
    assert_eq!(code(&repo.find("1.4", "new")), "DigestMismatch");
    let updated = repo.seal().run(tags("1.4"), &Memory::default());
    let (digest, question) = (digest("new"), tags("1.4"));
    let image =
        Image { reference: &question.reference, digest: &digest, size: None, manifest: None };
    updated.repository.unwrap().find(&question.lookup, image, now()).unwrap();
}

#[test]
fn any_of_the_accepted_roles_is_enough_and_no_other_is() {
    let repo = team();
    let accept = |names: &[&str]| ask(&repo, in_roles(":1.4", Accept::Any(roles(names))), "new");
    accept(&["team"]).unwrap();
    accept(&["other", "team"]).unwrap();
    accept(&["*"]).unwrap();
    for names in [&["targets"][..], &["other"], &[], &["te*"]] {
        let (wanted, role) = ("tag \"1.4\"".to_owned(), "team".to_owned());
        assert_eq!(denial(accept(names)), Denial::UntrustedSigner { wanted, role });
    }
    // What answers decides: an accepted role behind it is no way out.
    let team_only = in_roles(":1.0", Accept::Any(roles(&["team"])));
    assert_eq!(code(&ask(&repo, team_only, "new")), "UntrustedSigner");
}

#[test]
fn all_of_the_required_roles_have_signed() {
    let mut repo = Repo::signing(&[]);
    for role in ["qa", "security"] {
        repo.delegated("targets", role, &[ALL], &[("1.4", "new")]);
    }
    let require =
        |repo: &Repo, names: &[&str]| ask(repo, in_roles(":1.4", Accept::All(roles(names))), "new");
    let proof = require(&repo, &["qa", "security"]).unwrap();
    assert_eq!((proof.keys().len(), proof.role()), (2, "qa, security"));
    require(&repo, &["security"]).unwrap();
    let wanted = "tag \"1.4\"".to_owned();
    let not_delegated = Denial::NotDelegated { role: "legal".to_owned(), wanted: wanted.clone() };
    assert_eq!(denial(require(&repo, &["qa", "legal"])), not_delegated);
    assert_eq!(denial(require(&repo, &["qa", "targets"])), unsigned(&wanted, &["targets"]));
    assert_eq!(code(&require(&repo, &[])), "Unsigned");
    let key = repo.roles["security"].signers.clone();
    repo.set_role("security", &[("1.4", "old")], &key);
    assert_eq!(code(&require(&repo, &["qa", "security"])), "DigestMismatch");
    repo.set_role("security", &[], &key);
    assert_eq!(denial(require(&repo, &["qa", "security"])), unsigned(&wanted, &["security"]));
    repo.set_delegation("targets", "paths", json!(["other/*"]));
    assert_eq!(code(&require(&repo, &["qa", "security"])), "NotDelegated");
    // A role that is not on the way to a required one harms nobody.
    repo.set_role("security", &[("1.4", "new")], &[]);
    require(&repo, &["qa"]).unwrap();
}

#[test]
fn a_digest_is_signed_under_some_name_of_its_repository() {
    let repo = team();
    for word in ["new", "old"] {
        let proof = ask(&repo, digests(word), word).unwrap();
        let name = if word == "new" { "1.4" } else { "1.0" };
        assert_eq!(proof.name(), format!("{NAME}/{name}"));
    }
    let wanted = format!("digest {}", digest("other"));
    assert_eq!(denial(ask(&repo, digests("other"), "other")), unsigned(&wanted, &["any role"]));
    // With tag and digest, the digest counts.
    let both = question(&format!("{NAME}:2.0@{}", digest("new")), any());
    ask(&repo, both, "new").unwrap();
}

#[test]
fn t19_a_digest_under_another_team_s_path_or_shadowed_is_not_signed() {
    // In a role that is not accepted.
    let mut repo = Repo::new();
    repo.delegated("targets", "team", &[ALL], &[("1.4", "new")]);
    let accept = |text: String, names: &[&str]| {
        code(&ask(&repo, in_roles(&text, Accept::Any(roles(names))), "new"))
    };
    assert_eq!(accept(format!("@{}", digest("new")), &["targets"]), "UntrustedSigner");
    // Under another repository's name.
    let mut repo = Repo::new();
    let other = "registry.example.com/payments/other/1.4";
    repo.delegated(
        "targets",
        "team",
        &[ALL],
        &[(other, "new"), ("a/b/c/d/e", "new"), ("x/1.4", "new")],
    );
    assert_eq!(code(&ask(&repo, digests("new"), "new")), "Unsigned");
    // Outside the role's own paths.
    let mut repo = Repo::new();
    let paths = ["registry.example.com/payments/api/2.*"];
    repo.delegated("targets", "team", &paths, &[("1.4", "new")]);
    assert_eq!(code(&ask(&repo, digests("new"), "new")), "Unsigned");
    // Shadowed by a role before it.
    let mut repo = Repo::new();
    repo.delegated("targets", "first", &[ALL], &[("1.4", "old")]);
    repo.delegated("targets", "second", &[ALL], &[("1.4", "new")]);
    assert_eq!(code(&ask(&repo, digests("new"), "new")), "DigestMismatch");
    ask(&repo, digests("old"), "old").unwrap();
    // Behind a terminating role.
    let mut repo = Repo::new();
    repo.delegated("targets", "first", &[ALL], &[]);
    repo.set_delegation("targets", "terminating", json!(true));
    repo.delegated("targets", "second", &[ALL], &[("1.4", "new")]);
    assert_eq!(code(&ask(&repo, digests("new"), "new")), "Unsigned");
    // A tag's component is a tag, and one component.
    let mut repo = Repo::new();
    let names = [format!("{NAME}/.hidden"), format!("{NAME}/a/b"), format!("{NAME}/")];
    let names: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "new")).collect();
    repo.targets(&names);
    assert_eq!(code(&ask(&repo, digests("new"), "new")), "Unsigned");
}

#[test]
fn a_role_that_may_have_signed_a_digest_and_is_bad_is_the_cause() {
    let mut repo = team();
    repo.role("team").signers.clear();
    assert_eq!(code(&ask(&repo, digests("new"), "new")), "ThresholdNotMet");
    // It harms no digest that is signed without it.
    ask(&repo, digests("old"), "old").unwrap();
}

#[test]
fn t2_the_names_of_one_digest_are_bounded() {
    let many = |count: usize| {
        let tags: Vec<String> = (0..count).map(|number| format!("t{number}")).collect();
        let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (tag.as_str(), "new")).collect();
        let mut repo = Repo::new();
        repo.delegated("targets", "team", &[ALL], &tags);
        code(&ask(&repo, in_roles(&format!("@{}", digest("new")), Accept::Any(vec![])), "new"))
    };
    assert_eq!(many(limits::DIGEST_TAGS), "UntrustedSigner");
    assert_eq!(many(limits::DIGEST_TAGS + 1), "LimitExceeded");
}

fn with_digests(accept: Accept) -> Arc<Lookup> {
    let digest_target = Template::for_digests("by-digest/{registry}/{repository}/{digest}").ok();
    Arc::new(Lookup { digest_target, ..lookup(accept) })
}

#[test]
fn digests_may_have_a_target_of_their_own() {
    let mut repo = Repo::new();
    let name = format!("by-digest/{NAME}/{}", digest("new"));
    let other = format!("by-digest/{NAME}/{}", digest("other"));
    repo.delegated("targets", "bin", &[], &[(&name, "new"), (&other, "new")]);
    let roles = &mut repo.role("targets").signed["delegations"]["roles"][0];
    roles.as_object_mut().unwrap().remove("paths");
    roles["path_hash_prefixes"] = json!([""]);
    let find = |word: &str| {
        let question = Question { lookup: with_digests(any()), ..digests(word) };
        ask(&repo, question, word)
    };
    assert_eq!(find("new").unwrap().name(), name);
    // The name does not make it so.
    assert_eq!(code(&find("other")), "DigestMismatch");
    assert_eq!(code(&find("unheard")), "Unsigned");
}

#[test]
fn a_target_with_sha512_only_is_verified_over_the_manifest() {
    let mut repo = Repo::signing(&[("1.4", "new")]);
    let name = format!("{NAME}/1.4");
    let hashes = json!({"sha512": hex(&sha512(&manifest("new")))});
    repo.role("targets").signed["targets"][&name]["hashes"] = hashes;
    let repository: Repository = repo.seal().verify(tags("1.4")).unwrap();
    let find = |question: &Question, word: &str, manifest: Option<&[u8]>| {
        let digest = digest(word);
        let image = Image { reference: &question.reference, digest: &digest, size: None, manifest };
        let needs = repository.needs_manifest(&question.lookup, image, now());
        (needs, code(&repository.find(&question.lookup, image, now())))
    };
    let (new, old) = (manifest("new"), manifest("old"));
    for question in [tags("1.4"), digests("new")] {
        assert_eq!(find(&question, "new", None), (true, "Unsigned"));
        assert_eq!(find(&question, "new", Some(&new)), (false, "ok"));
        // A manifest that is not the digest's is none.
        assert_eq!(find(&question, "new", Some(&old)), (true, "Unsigned"));
    }
    assert_eq!(find(&tags("1.4"), "old", Some(&old)), (false, "DigestMismatch"));
    // A sha512 digest is compared with it.
    let digest = Digest::parse(&format!("sha512:{}", hex(&sha512(&new)))).unwrap();
    let tag = tags("1.4");
    let image = Image { reference: &tag.reference, digest: &digest, size: None, manifest: None };
    repository.find(&tag.lookup, image, now()).unwrap();
    // Every hash that is listed counts where the manifest is known.
    let hashes = json!({"sha256": hex(&crate::builder::sha256(&new)), "sha512": "0".repeat(128)});
    repo.role("targets").signed["targets"][&name]["hashes"] = hashes;
    let repository = repo.seal().verify(tags("1.4")).unwrap();
    let digest = crate::builder::digest("new");
    let image =
        Image { reference: &tag.reference, digest: &digest, size: None, manifest: Some(&new) };
    assert_eq!(code(&repository.find(&tag.lookup, image, now())), "DigestMismatch");
    // One that is known by its sha256 needs no manifest, whatever else there is.
    let mut mixed = repo.clone();
    mixed.role("targets").signed["targets"][format!("{NAME}/2.0")] =
        json!({"length": new.len(), "hashes": {"sha256": hex(&crate::builder::sha256(&new))}});
    ask(&mixed, digests("new"), "new").unwrap();
    // Without any hash that is known, nothing is signed.
    repo.role("targets").signed["targets"][&name]["hashes"] = json!({"md5": "00"});
    let repository = repo.seal().verify(tags("1.4")).unwrap();
    assert_eq!(code(&repository.find(&tag.lookup, image, now())), "Unsigned");
    assert!(!repository.needs_manifest(&tag.lookup, image, now()));
}

#[test]
fn whether_a_tag_is_signed_at_all_can_be_asked() {
    let repo = team();
    let repository = repo.seal().verify(tags("1.4")).unwrap();
    let asks = |tag: &str, accept: Accept| {
        let reference = Reference::parse(&format!("{NAME}:{tag}")).unwrap();
        code(&repository.signs_tag(&lookup(accept), &reference, now()))
    };
    assert_eq!(asks("1.4", any()), "ok");
    assert_eq!(asks("1.5", any()), "Unsigned");
    assert_eq!(asks("1.4", Accept::Any(roles(&["targets"]))), "UntrustedSigner");
}

#[test]
fn templates_have_whole_components() {
    for text in [
        "{registry}/{repository}/{tag}",
        "{repository}/{tag}",
        "images/{tag}",
        "{tag}",
        "{tag}/{repository}/manifest.json",
    ] {
        Template::for_tags(text).unwrap();
        Template::for_digests(&text.replace("tag", "digest")).unwrap();
        assert!(Template::for_digests(text).is_err());
    }
    for text in [
        "",
        "x",
        "{registry}/{repository}",
        "v{tag}",
        "{tag}.json",
        "{tag}/{tag}",
        "{tag}/{digest}",
        "{registry}/{registry}/{tag}",
        "{repository}/{repository}/{tag}",
        "/{tag}",
        "{tag}/",
        "a//{tag}",
        "../{tag}",
        "./{tag}",
        "{name}/{tag}",
        "a\0/{tag}",
        "a\\b/{tag}",
        "{tag",
        "}/{tag}",
    ] {
        assert!(Template::for_tags(text).is_err(), "{text}");
    }
    let template = Template::for_tags("{registry}/{tag}").unwrap();
    assert!(template.names_registry() && !template.names_repository());
    let template = Template::for_tags("{repository}/{tag}").unwrap();
    assert!(!template.names_registry() && template.names_repository());
}

#[test]
fn roles_are_loaded_for_a_digest_that_is_known_later() {
    let repo = team();
    let files = repo.seal();
    // The tag's own update does not load what the digest's needs, where that is more.
    let mut repo = repo.clone();
    repo.targets(&[("1.0", "old"), ("9.9", "x")]);
    let tag = question(&format!("{NAME}:1.0"), any());
    let repository = files.run(tag, &Memory::default()).repository.unwrap();
    let asked = digests("new");
    let mut update = Update::within(&repository, now());
    update.want(&asked.lookup, &asked.reference, Some(&digest("new")));
    assert_eq!(update.wanted().len(), 1);
    files.drive(update, asked).find("new").unwrap();
}
