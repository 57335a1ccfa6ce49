//! The order of roles, their paths, and bad ones on the way or not.

use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::Denial;
use countersign_verify::tuf::Update;
use serde_json::json;

use crate::builder::{Repo, now};
use crate::shell::{code, denial, question, tags};
use crate::signer::Signer;

const ALL: &str = "registry.example.com/payments/*/*";

/// Which role answers for tag 1.4.
fn answering(repo: &Repo) -> String {
    repo.find("1.4", "new")
        .map_or_else(|refusal| refusal.code().to_owned(), |it| it.role().to_owned())
}

#[test]
fn roles_answer_pre_order() {
    let mut repo = Repo::new();
    repo.delegated("targets", "a", &[ALL], &[]);
    repo.delegated("targets", "b", &[ALL], &[("1.4", "new")]);
    repo.delegated("a", "a1", &[ALL], &[]);
    repo.delegated("a", "a2", &[ALL], &[("1.4", "new")]);
    let updated = repo.seal().run(tags("1.4"), &Memory::default());
    assert_eq!(updated.find("new").unwrap().role(), "a2");
    // Only what is on the way was fetched.
    assert_eq!(updated.asked[3..], ["1.targets.json", "1.a.json", "1.a1.json", "1.a2.json"]);
    repo.set_role("a1", &[("1.4", "old")], &repo.roles["a1"].signers.clone());
    assert_eq!(answering(&repo), "DigestMismatch");
    repo.set_role("a", &[("1.4", "new")], &repo.roles["a"].signers.clone());
    assert_eq!(answering(&repo), "a");
    repo.targets(&[("1.4", "new")]);
    assert_eq!(answering(&repo), "targets");
}

#[test]
fn t13_a_terminating_role_ends_the_search() {
    let mut repo = Repo::new();
    repo.delegated("targets", "a", &[ALL], &[]);
    repo.delegated("a", "a1", &[ALL], &[]);
    repo.delegated("targets", "b", &[ALL], &[("1.4", "new")]);
    assert_eq!(answering(&repo), "b");
    let mut inner = repo.clone();
    inner.set_delegation("a", "terminating", json!(true));
    let looked_in = ["targets", "a", "a1"].map(str::to_owned).to_vec();
    let expected = Denial::Unsigned { wanted: "tag \"1.4\"".to_owned(), looked_in };
    assert_eq!(denial(inner.find("1.4", "new")), expected);
    // One whose paths do not cover the name ends nothing.
    inner.set_delegation("a", "paths", json!(["other/*"]));
    assert_eq!(answering(&inner), "b");
    // What is below a terminating role is still searched.
    let mut outer = repo.clone();
    let key = outer.delegated("a1", "deep", &[ALL], &[("1.4", "new")]);
    outer.set_delegation("a", "terminating", json!(true));
    assert_eq!(answering(&outer), "deep");
    outer.set_role("deep", &[], &[key]);
    assert_eq!(answering(&outer), "Unsigned");
}

#[test]
fn t13_cycles_end() {
    let mut repo = Repo::new();
    let a = repo.delegated("targets", "a", &[ALL], &[]);
    let b = repo.delegated("a", "b", &[ALL], &[]);
    repo.delegate("b", "a", json!({"paths": [ALL]}), &[a], 1);
    repo.delegate("b", "b", json!({"paths": [ALL]}), &[b], 1);
    repo.delegated("b", "c", &[ALL], &[("1.4", "new")]);
    assert_eq!(answering(&repo), "c");
    assert_eq!(code(&repo.find("1.5", "new")), "Unsigned");
}

#[test]
fn t13_no_more_delegations_than_the_limit_are_visited() {
    let chain = |length: usize| {
        let mut repo = Repo::new();
        let mut parent = "targets".to_owned();
        for number in 1..=length {
            let role = format!("r{number}");
            let signed: &[_] = if number == length { &[("1.4", "new")] } else { &[] };
            repo.delegated(&parent, &role, &[ALL], signed);
            parent = role;
        }
        repo
    };
    assert_eq!(answering(&chain(limits::DELEGATIONS)), "r32");
    let what = "the number of delegations visited for one name".to_owned();
    let expected = Denial::LimitExceeded { what, limit: limits::DELEGATIONS as u64 };
    assert_eq!(denial(chain(limits::DELEGATIONS + 1).find("1.4", "new")), expected);
    // It can be configured.
    let files = chain(4).seal();
    let run = |max| {
        let update = Update::new(&files.initial(), Memory::default(), now());
        code(&files.drive(update.with_max_delegations(max), tags("1.4")).find("new"))
    };
    assert_eq!([run(4), run(3), run(0)], ["ok", "LimitExceeded", "LimitExceeded"]);
}

#[test]
fn t3_t13_a_role_signs_within_its_paths_only() {
    for (paths, expected) in [
        (json!([ALL]), "a"),
        (json!(["registry.example.com/payments/api/1.?"]), "a"),
        (json!(["other/*", "registry.example.com/payments/api/1.4"]), "a"),
        (json!(["*"]), "Unsigned"),
        (json!(["**"]), "Unsigned"),
        (json!(["registry.example.com/*"]), "Unsigned"),
        (json!(["registry.example.com/payments/api/"]), "Unsigned"),
        (json!(["registry.example.com/payments/api/1.5"]), "Unsigned"),
        (json!([]), "Unsigned"),
        (json!(["[", ""]), "Unsigned"),
    ] {
        let mut repo = Repo::new();
        repo.delegated("targets", "a", &[], &[("1.4", "new")]);
        repo.set_delegation("targets", "paths", paths.clone());
        assert_eq!(answering(&repo), expected, "{paths}");
    }
    // A child of a role outside whose paths it lies is never reached.
    let mut repo = Repo::new();
    repo.delegated("targets", "a", &["registry.example.com/payments/api/2.*"], &[]);
    repo.delegated("a", "b", &[ALL], &[("1.4", "new")]);
    assert_eq!(answering(&repo), "Unsigned");
}

#[test]
fn a_bad_role_denies_on_the_way_and_harms_nobody_else() {
    let mut repo = Repo::new();
    repo.delegated("targets", "other", &["other.example/*/*/*"], &[]);
    repo.delegated("targets", "good", &[ALL], &[("1.4", "new")]);
    repo.delegated("targets", "late", &[ALL], &[]);
    for role in ["other", "late"] {
        repo.role(role).signers = vec![Signer::default()];
    }
    assert_eq!(answering(&repo), "good");
    assert_eq!(code(&repo.find("1.5", "new")), "ThresholdNotMet");
    let question = question("other.example/a/b:1", crate::shell::any());
    let updated = repo.seal().run(question, &Memory::default());
    assert_eq!(code(&updated.find("new")), "ThresholdNotMet");
}

#[test]
fn a_role_that_two_delegate_to_is_held_to_each_one_s_keys() {
    let mut repo = Repo::new();
    repo.delegated("targets", "a", &["registry.example.com/payments/api/1.*"], &[]);
    let key = repo.delegated("a", "shared", &[ALL], &[("1.4", "new"), ("2.0", "new")]);
    // `b` names another key for it.
    repo.delegated("targets", "b", &["registry.example.com/payments/api/2.*"], &[]);
    repo.delegate("b", "shared", json!({"paths": [ALL]}), &[Signer::default()], 1);
    let files = repo.seal();
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    let both = [tags("1.4"), tags("2.0")];
    for question in &both {
        update.want(&question.lookup, &question.reference, None);
    }
    let updated = files.drive(update, both[0].clone());
    let repository = updated.repository.as_ref().unwrap();
    assert_eq!(updated.find("new").unwrap().keys().iter().next(), Some(&key.fingerprint()));
    assert_eq!(code(&crate::shell::find(repository, &both[1], "new")), "ThresholdNotMet");
    assert_eq!(updated.asked.iter().filter(|path| path.contains("shared")).count(), 1);
}

#[test]
fn t16_unusual_role_names_lead_nowhere_else() {
    for (role, path) in [
        ("../delegated", "1...%2Fdelegated.json"),
        ("/delegated", "1.%2Fdelegated.json"),
        ("a%2e%2e/b", "1.a%252e%252e%2Fb.json"),
        ("?", "1.%3F.json"),
        ("#é", "1.%23%C3%A9.json"),
        ("..", "1....json"),
        ("C:\\x", "1.C%3A%5Cx.json"),
    ] {
        let mut repo = Repo::new();
        repo.delegated("targets", role, &[ALL], &[("1.4", "new")]);
        let updated = repo.seal().run(tags("1.4"), &Memory::default());
        assert_eq!(updated.find("new").unwrap().role(), role);
        assert_eq!(updated.asked.last().unwrap(), path);
        // It is remembered, and missed, by its name.
        let gone = |it: &mut serde_json::Value| {
            it["meta"].as_object_mut().unwrap().remove(&format!("{role}.json"));
        };
        let denial = repo.seal_with(gone, |_| {}).run(tags("1.4"), &updated.memory).denial();
        let expected = Denial::Rollback { role: role.to_owned(), found: 0, remembered: 1 };
        assert_eq!(denial, expected);
    }
    let long = "x".repeat(limits::ROLE_NAME_BYTES + 1);
    for role in ["", "a\0b", "a\nb", "root", "timestamp", "snapshot", "targets", &long] {
        let mut repo = Repo::signing(&[("1.4", "new")]);
        repo.delegate("targets", role, json!({"paths": [ALL]}), &[Signer::default()], 1);
        assert_eq!(answering(&repo), "MalformedMetadata", "{role:?}");
    }
}

#[test]
fn malformed_delegations_refuse_their_file() {
    let broken = |edit: fn(&mut serde_json::Value)| {
        let mut repo = Repo::signing(&[("1.4", "new")]);
        repo.delegated("targets", "a", &[ALL], &[]);
        edit(&mut repo.role("targets").signed["delegations"]);
        answering(&repo)
    };
    assert_eq!(broken(|_| {}), "targets");
    for edit in [
        (|it| it["roles"][0]["path_hash_prefixes"] = json!(["00"])) as fn(&mut serde_json::Value),
        |it| it["roles"][0]["terminating"] = json!("no"),
        |it| it["roles"][0]["paths"] = json!("*"),
        |it| it["roles"][0]["paths"] = json!([1]),
        |it| it["roles"][0]["threshold"] = json!(0),
        |it| it["roles"][0]["threshold"] = json!("1"),
        |it| it["roles"] = json!({}),
        |it| it["keys"] = json!([]),
        |it| {
            let role = it["roles"][0].clone();
            it["roles"].as_array_mut().unwrap().push(role);
        },
        |it| it["roles"][0]["paths"] = json!(vec!["x"; limits::TUF_DELEGATION_PATHS + 1]),
        |it| it["succinct_roles"] = json!({}),
    ] {
        let found = broken(edit);
        assert!(found == "MalformedMetadata" || found == "LimitExceeded", "{found}");
    }
}
