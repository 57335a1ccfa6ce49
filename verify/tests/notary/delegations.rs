//! Delegations: names, shape, limits.

use countersign_verify::limits;
use countersign_verify::notary::{Memory, Repository, Update, is_targets_role};
use countersign_verify::outcome::Denial;
use serde_json::{Value, json};

use crate::builder::{GUN, Repo, code, find_digest, find_tag, now};
use crate::signer::{Kind, Signer};

fn verified(repo: &Repo) -> Repository {
    repo.seal().verify(&repo.pin()).unwrap()
}

#[test]
fn t13_delegations_that_are_no_children_make_the_file_malformed() {
    for name in [
        "targets",
        "targets/a/b",
        "targets/",
        "targets//a",
        "targets/releases/",
        "targets/../a",
        "targets/%2e%2e",
        "targets/a\u{0}",
        "targets/A",
        "targets/a.b",
        "/targets/a",
        "targets/a/../../root",
        "root",
        "other/a",
        "",
        &format!("targets/{}", "x".repeat(limits::ROLE_NAME_BYTES)),
    ] {
        let mut repo = Repo::new(GUN);
        repo.targets(&[("1.4", "new")]);
        repo.delegated("targets/releases", &[""], &[]);
        repo.role("targets").signed["delegations"]["roles"][0]["name"] = json!(name);
        assert_eq!(code(&repo.seal().verify(&repo.pin())), "MalformedMetadata", "{name:?}");
        assert!(name == "targets/a/b" || name == "targets" || !is_targets_role(name), "{name:?}");
    }
    // Cyclic: a role that delegates to itself or to its parent.
    for name in ["targets/a", "targets"] {
        let mut repo = Repo::new(GUN);
        repo.targets(&[("1.4", "new")]);
        repo.delegated("targets/a", &[""], &[]);
        repo.delegated("targets/a/b", &[""], &[]);
        repo.role("targets/a").signed["delegations"]["roles"][0]["name"] = json!(name);
        let repository = verified(&repo);
        let role = repository.roles().find(|role| role.name == "targets/a").unwrap();
        assert_eq!(role.state.unwrap_err().code(), "MalformedMetadata");
        find_tag(&repository, "1.4", "new").unwrap();
    }
}

#[test]
fn t16_no_name_outside_the_repository_is_ever_asked_for() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[
        ("1.4", "new"),
        ("../../etc/passwd", "new"),
        ("%2e%2e/x", "new"),
        ("/x", "new"),
    ]);
    let files = repo.seal_with(
        |snapshot| {
            let listed = snapshot["meta"]["targets"].clone();
            for name in ["../root", "targets/../x", "targets/%2e%2e", "targets/a\u{0}", "/x"] {
                snapshot["meta"][name] = listed.clone();
            }
        },
        |_| {},
    );
    let repository = files.verify(&repo.pin()).unwrap();
    let names: Vec<_> = repository.roles().map(|role| role.name).collect();
    assert_eq!(names, ["root", "timestamp", "snapshot", "targets"]);
}

#[test]
fn t13_one_delegation_listed_twice_is_malformed() {
    let mut repo = Repo::new(GUN);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let roles = &mut repo.role("targets").signed["delegations"]["roles"];
    let again = roles[0].clone();
    roles.as_array_mut().unwrap().push(again);
    assert_eq!(code(&repo.seal().verify(&repo.pin())), "MalformedMetadata");
}

#[test]
fn t13_delegations_deeper_than_the_limit() {
    let mut repo = Repo::new(GUN);
    let mut name = "targets/releases".to_owned();
    repo.targets(&[("1.4", "new")]);
    repo.delegated(&name, &["1."], &[("1.5", "new")]);
    for _ in 0..limits::DELEGATION_DEPTH {
        name.push_str("/x");
        repo.delegated(&name, &["1."], &[]);
    }
    let repository = verified(&repo);
    assert_eq!(code(&find_tag(&repository, "1.4", "new")), "LimitExceeded");
    find_tag(&repository, "1.5", "new").unwrap();
    let good = repository.roles().filter(|role| role.state.is_ok()).count();
    assert_eq!(good, 4 + limits::DELEGATION_DEPTH);
}

#[test]
fn t13_more_delegations_than_the_limit() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "new")]);
    let key = Signer::new(Kind::P256);
    for number in 0..=limits::DELEGATIONS {
        let name = format!("targets/r{number}");
        repo.delegate(&name, &[""], std::slice::from_ref(&key), 1);
        repo.set_role(&name, &[], std::slice::from_ref(&key));
    }
    let repository = verified(&repo);
    find_tag(&repository, "1.4", "new").unwrap();
    let good = repository.roles().filter(|role| role.state.is_ok()).count();
    assert_eq!(good, 4 + limits::DELEGATIONS);
    let bad = repository.roles().find(|role| role.state.is_err()).unwrap();
    assert_eq!(bad.state.unwrap_err().code(), "LimitExceeded");
}

#[test]
fn t2_the_sum_of_a_repository_s_listed_files_is_bounded_before_any_is_fetched() {
    let most = limits::TARGETS_BYTES;
    let table: [(&[&str], &[i64], &[&str]); 4] = [
        (&["targets/a", "targets/b"], &[0, 0], &["targets/a", "targets/b"]),
        (&["targets/a", "targets/b"], &[0, 1], &["targets/a"]),
        (&["targets/a", "targets/b"], &[1, -1], &["targets/b"]),
        (&["targets/a", "targets/releases"], &[0, 1], &["targets/releases"]),
    ];
    for (names, over, expected) in table {
        let mut repo = Repo::new(GUN);
        for name in names {
            repo.delegated(name, &[""], &[]);
        }
        let files = repo.seal_with(
            |snapshot| {
                let meta = &mut snapshot["meta"];
                let targets = meta["targets"]["length"].as_u64().unwrap();
                // The first is as long as a file may be, the second as long as what is left.
                let lengths = [most, limits::NOTARY_REPOSITORY_BYTES - most - targets];
                for ((name, length), over) in names.iter().zip(lengths).zip(over) {
                    meta[*name]["length"] = json!(length.strict_add_signed(*over));
                }
            },
            |_| {},
        );
        let pin = repo.pin();
        let mut update = Update::new(&pin, GUN, Memory::default(), now());
        update.root(files.root()).unwrap();
        update.timestamp(&files.timestamp).unwrap();
        update.snapshot(&files.snapshot).unwrap();
        update.role("targets", Ok(&files.roles["targets"]));
        let wanted: Vec<_> = update.wanted_roles().into_iter().map(|(name, _)| name).collect();
        assert_eq!(wanted, expected, "{names:?} {over:?}");
    }
}

#[test]
fn t2_a_role_that_is_too_much_for_its_repository_is_refused_and_others_answer() {
    let mut repo = Repo::new(GUN);
    for name in ["targets/a", "targets/b", "targets/releases"] {
        repo.delegated(name, &[""], &[("1.4", "new")]);
    }
    let longest = |snapshot: &mut Value| {
        for name in ["targets/a", "targets/b"] {
            snapshot["meta"][name]["length"] = json!(limits::TARGETS_BYTES);
        }
    };
    let repository = repo.seal_with(longest, |_| {}).verify(&repo.pin()).unwrap();
    find_tag(&repository, "1.4", "new").unwrap();
    let role = repository.roles().find(|role| role.name == "targets/b").unwrap();
    let what = "the sum of a repository's targets files, in bytes, at targets/b".to_owned();
    let limit = limits::NOTARY_REPOSITORY_BYTES;
    assert_eq!(role.state, Err(Denial::LimitExceeded { what, limit }.into()));
}

#[test]
fn go_s_null_lists_are_empty_ones() {
    let mut repo = Repo::new(GUN);
    repo.set("targets", "delegations", json!({"keys": null, "roles": null}));
    verified(&repo);
    repo.set("targets", "delegations", Value::Null);
    repo.set("targets", "targets", Value::Null);
    verified(&repo);
}

#[test]
fn t11_another_repository_s_delegation_by_the_same_key_is_not_the_listed_file() {
    let mut repo = Repo::new(GUN);
    let key = repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let mut other = Repo::new(GUN);
    other.delegate("targets/releases", &[""], std::slice::from_ref(&key), 1);
    other.set_role("targets/releases", &[("1.4", "evil")], &[key]);
    let mut files = repo.seal();
    files
        .roles
        .insert("targets/releases".to_owned(), other.seal().roles["targets/releases"].clone());
    let updated = files.update(&repo.pin(), GUN, &Memory::default(), now());
    let repository = updated.repository.unwrap();
    assert_eq!(code(&find_tag(&repository, "1.4", "evil")), "MalformedMetadata");
    assert!(!updated.memory.roles.contains_key("targets/releases"));
}

#[test]
fn t2_t13_lists_longer_than_their_limits() {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.4", "new")]);
    let key = Signer::new(Kind::P256);
    let paths = vec!["1."; limits::DELEGATION_PATHS];
    repo.delegate("targets/releases", &paths, std::slice::from_ref(&key), 1);
    for number in 1..limits::DELEGATIONS_LISTED {
        repo.delegate(&format!("targets/r{number}"), &[], std::slice::from_ref(&key), 1);
    }
    let repository = verified(&repo);
    find_tag(&repository, "1.4", "new").unwrap();
    let mut longer = repo.clone();
    longer.delegate("targets/more", &[], std::slice::from_ref(&key), 1);
    assert_eq!(code(&longer.seal().verify(&repo.pin())), "LimitExceeded");
    let paths = &mut repo.role("targets").signed["delegations"]["roles"][0]["paths"];
    paths.as_array_mut().unwrap().push(json!("2."));
    assert_eq!(code(&repo.seal().verify(&repo.pin())), "LimitExceeded");
}

#[test]
fn t13_releases_is_loaded_first_where_there_are_too_many() {
    let mut repo = Repo::new(GUN);
    let key = Signer::new(Kind::P256);
    for number in 0..limits::DELEGATIONS {
        let name = format!("targets/r{number}");
        repo.delegate(&name, &[""], std::slice::from_ref(&key), 1);
        repo.set_role(&name, &[], std::slice::from_ref(&key));
    }
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    find_tag(&verified(&repo), "1.4", "new").unwrap();
}

#[test]
fn t2_a_digest_of_very_many_shadowed_tags() {
    let names: Vec<String> = (0..=limits::DIGEST_TAGS).map(|number| format!("v{number}")).collect();
    let tags = |word: &'static str| -> Vec<(&str, &str)> {
        names.iter().map(|name| (name.as_str(), word)).collect()
    };
    let mut repo = Repo::new(GUN);
    repo.targets(&tags("old"));
    find_digest(&verified(&repo), "old").unwrap();
    repo.delegated("targets/releases", &[""], &tags("new"));
    assert_eq!(code(&find_digest(&verified(&repo), "old")), "LimitExceeded");
    find_digest(&verified(&repo), "new").unwrap();
}
