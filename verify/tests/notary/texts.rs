//! Refusals of files with long texts in them.

use countersign_verify::limits;
use countersign_verify::notary::{Lookup, Memory, Wanted, untrusted_root};
use countersign_verify::outcome::Denial;
use serde_json::Value;

use crate::builder::{Files, GUN, Repo, code, denial, digest, find_digest, find_tag, now, pin};
use crate::long::{changes, is_short, long_texts, signed_by, with_twice};
use crate::signer::{Cert, Kind, Signer};

fn sound() -> Repo {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    repo.delegated("targets/releases/team", &["1."], &[]);
    repo
}

/// Every refusal that these files lead to.
fn check(files: &Files, repo: &Repo) -> usize {
    if let Err(refusal) = untrusted_root(files.root()) {
        is_short(&refusal);
    }
    let repository = match files.update(&repo.pin(), GUN, &Memory::default(), now()).repository {
        Ok(repository) => repository,
        Err(refusal) => {
            is_short(&refusal);
            return 1;
        }
    };
    repository.roles().filter_map(|role| role.state.err()).for_each(|refusal| is_short(&refusal));
    let digest = digest("new");
    let wanted = Wanted::Tag { tag: "1.4", digest: &digest, size: None };
    let required = Lookup::RequireRoles(vec!["targets/releases/team".to_owned()]);
    let found = [
        find_tag(&repository, "1.4", "new"),
        find_tag(&repository, "9", "new"),
        find_digest(&repository, "new"),
        repository.find(&required, wanted, now()),
    ];
    found.into_iter().filter_map(Result::err).inspect(is_short).count()
}

#[test]
fn o8_refusals_are_short_whatever_a_server_says() {
    let sound = sound();
    assert_eq!(check(&sound.seal(), &sound), 2);
    let mut refused = 0;
    for text in long_texts() {
        for role in ["root", "targets", "targets/releases", "targets/releases/team"] {
            for signed in changes(&sound.clone().role(role).signed, &text) {
                let mut repo = sound.clone();
                repo.role(role).signed = signed;
                refused += check(&repo.seal(), &repo);
            }
        }
        let files = sound.seal();
        let listed = |file: &[u8]| -> Value {
            let file: Value = serde_json::from_slice(file).unwrap();
            file["signed"].clone()
        };
        for changed in changes(&listed(&files.snapshot), &text) {
            refused += check(&sound.seal_with(|snapshot| *snapshot = changed, |_| {}), &sound);
        }
        for changed in changes(&listed(&files.timestamp), &text) {
            refused += check(&sound.seal_with(|_| {}, |timestamp| *timestamp = changed), &sound);
        }
        for change in [with_twice, signed_by] {
            let root = change(files.root(), &text);
            let timestamp = change(&files.timestamp, &text);
            refused += check(&Files { roots: [(1, root)].into(), ..files.clone() }, &sound);
            refused += check(&Files { timestamp, ..files.clone() }, &sound);
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn o8_a_certificate_s_long_name_is_told_short() {
    for text in long_texts() {
        let root = Signer::x509(Kind::P256, &Cert::named(&text));
        let repo = Repo::with_keys(root, [Kind::P256; 3].map(Signer::new));
        let denial = denial(repo.seal().verify(&repo.pin()));
        assert_eq!(denial.code(), "MalformedMetadata");
        is_short(&denial);
    }
}

#[test]
fn o8_of_many_root_keys_a_few_are_told() {
    let pinned = Signer::x509(Kind::P256, &Cert::named(GUN));
    let mut repo = Repo::with_keys(pinned.clone(), [Kind::P256; 3].map(Signer::new));
    let mut keys = vec![Signer::x509(Kind::P256, &Cert::named(GUN))];
    keys.extend((1..100).map(|_| Signer::new(Kind::Ed25519)));
    let mut root = repo.root(2, &keys, 1);
    root.signers = vec![keys[0].clone(), pinned.clone()];
    repo.roots.insert(2, root);
    let files = repo.seal();
    // The pin leads to the second root, whose keys are to be pinned too.
    let repository = files.verify(&pin(&[&pinned], 1)).unwrap();
    repository.warnings().iter().for_each(is_short);
    assert!(repository.warnings()[0].ends_with(", 92 more"), "{:?}", repository.warnings());
    let refusal = files.verify(&pin(&[&Signer::new(Kind::P256)], 1));
    assert_eq!(code(&refusal), "RootNotPinned");
    let refusal = denial(refusal);
    is_short(&refusal);
    let Denial::RootNotPinned { found, more, .. } = refusal else { panic!("{refusal}") };
    assert_eq!((found.len(), more), (limits::LISTED, 92));
}
