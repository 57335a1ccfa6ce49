//! Refusals of files with long texts in them.

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::Denial;
use countersign_verify::tuf::{InitialRoot, Update, unknown_keys};
use serde_json::{Value, json};

use crate::builder::{Files, Repo, now};
use crate::long::{SHORT, changes, is_short, long_texts, signed_by, with_twice};
use crate::shell::{code, denial, tags};
use crate::signer::Signer;

const PATHS: &str = "registry.example.com/payments/*/*";

/// Two roots, and delegations of every kind.
fn sound() -> Repo {
    let mut repo = Repo::signing(&[("1.0", "old")]);
    let key = Signer::default();
    repo.delegate(
        "targets",
        "bin",
        json!({"path_hash_prefixes": ["0"]}),
        std::slice::from_ref(&key),
        1,
    );
    repo.delegated("targets", "team", &[PATHS], &[("1.4", "new")]);
    repo.roles.get_mut("team").unwrap().signed["delegations"] = json!({
        "keys": {&key.id: key.json()},
        "succinct_roles": {
            "keyids": [&key.id], "threshold": 1, "bit_length": 4, "name_prefix": "bins",
        },
    });
    repo.rotate();
    repo
}

/// Every refusal that these files lead to, and every other text that they are told by.
fn check(files: &Files) -> usize {
    files.roles.values().flat_map(|file| unknown_keys(file)).for_each(|key| is_short(&key));
    let updated = files.run(tags("1.4"), &Memory::default());
    let roles = updated.repository.iter().flat_map(|repository| repository.roles());
    roles.filter_map(|role| role.state.err()).for_each(|refusal| is_short(&refusal));
    updated.find("new").err().iter().inspect(|refusal| is_short(*refusal)).count()
}

#[test]
fn o8_refusals_are_short_whatever_a_server_says() {
    let sound = sound();
    assert_eq!(code(&sound.find("1.4", "new")), "ok");
    let mut refused = 0;
    for text in long_texts() {
        for role in ["root", "targets", "team"] {
            for signed in changes(&sound.clone().role(role).signed, &text) {
                let mut repo = sound.clone();
                repo.role(role).signed = signed;
                refused += check(&repo.seal());
            }
        }
        let listed = |role: &str| -> Value {
            let file: Value = serde_json::from_slice(&sound.seal().roles[role]).unwrap();
            file["signed"].clone()
        };
        for changed in changes(&listed("snapshot"), &text) {
            refused += check(&sound.seal_with(|snapshot| *snapshot = changed, |_| {}));
        }
        for changed in changes(&listed("timestamp"), &text) {
            refused += check(&sound.seal_with(|_| {}, |timestamp| *timestamp = changed));
        }
        for change in [with_twice, signed_by] {
            let mut files = sound.seal();
            let root = change(&files.roots[&1], &text);
            is_short(&InitialRoot::read(&root).unwrap_err());
            let timestamp = change(&files.roles["timestamp"], &text);
            files.roles.insert("timestamp".to_owned(), timestamp);
            refused += check(&files);
        }
    }
    assert!(refused > 200, "{refused}");
}

#[test]
fn o8_a_long_name_that_is_no_more_in_the_snapshot_is_told_short() {
    for text in long_texts() {
        let mut repo = sound();
        let listed = |snapshot: &mut Value| {
            snapshot["meta"][format!("{text}.json")] = json!({"version": 1});
        };
        let first = repo.seal_with(listed, |_| {});
        let before = first.verify(tags("1.4")).unwrap();
        for role in ["snapshot", "timestamp"] {
            repo.set(role, "version", json!(2));
        }
        let second = repo.seal();
        let update = Update::new(&second.initial(), Memory::default(), now()).after(&before);
        let rollback = denial(second.drive(update, tags("1.4")).repository);
        assert!(matches!(rollback, Denial::Rollback { found: 0, .. }), "{}", rollback.code());
        is_short(&rollback);
    }
}

#[test]
fn o8_of_the_roles_that_were_looked_in_a_few_are_told() {
    let mut repo = Repo::new();
    for number in 0..limits::DELEGATIONS {
        let name = format!("{number:02}{}", "\u{e000}".repeat(84));
        repo.delegated("targets", &name, &[PATHS], &[]);
    }
    let unsigned = denial(repo.find("1.4", "new"));
    let Denial::Unsigned { looked_in, .. } = &unsigned else { panic!("{unsigned}") };
    assert_eq!(looked_in.len(), limits::LISTED + 1);
    assert_eq!((&*looked_in[0], &*looked_in[limits::LISTED]), ("targets", "25 more"));
    assert!(unsigned.to_string().len() <= SHORT, "{unsigned}");
}
