//! JSON and members that are not as they should be.

use countersign_verify::memory::Memory;
use serde_json::{Value, json};

use crate::builder::{Files, Repo};
use crate::shell::{code, tags};

type Edit = fn(String) -> String;

const ROLES: [&str; 4] = ["root", "timestamp", "snapshot", "targets"];

fn sound() -> Repo {
    let mut repo = Repo::signing(&[("1.4", "new")]);
    // So that text can be changed without another file's noticing.
    repo.hashes = false;
    repo
}

fn outcome(files: &Files) -> &'static str {
    code(&files.run_or_refuse())
}

impl Files {
    /// [`Files::run`], where the initial root may be bad.
    fn run_or_refuse(&self) -> Result<(), countersign_verify::outcome::Refusal> {
        countersign_verify::tuf::InitialRoot::read(&self.roots[&1])?;
        self.run(tags("1.4"), &Memory::default()).find("new").map(drop)
    }

    fn text(&mut self, role: &str, edit: impl FnOnce(String) -> String) {
        let file = match role {
            "root" => self.roots.get_mut(&1).unwrap(),
            _ => self.roles.get_mut(role).unwrap(),
        };
        *file = edit(String::from_utf8(file.clone()).unwrap()).into_bytes();
    }
}

fn with(role: &str, member: &str, value: &Value) -> &'static str {
    let mut repo = sound();
    repo.set(role, member, value.clone());
    outcome(&repo.seal())
}

#[test]
fn unknown_members_are_tolerated_and_signed() {
    for role in ROLES {
        let value = json!({"deep": [{"x": [null, true, -1, "\u{0}\n\"\\/é😀"]}]});
        assert_eq!(with(role, "x-unknown", &value), "ok");
        // They are kept in what is signed.
        let mut repo = sound();
        repo.set(role, "x-unknown", json!("one"));
        let mut files = repo.seal();
        files.text(role, |text| text.replace("\"one\"", "\"two\""));
        assert_eq!(outcome(&files), "ThresholdNotMet", "{role}");
        // Outside of it they say nothing.
        let mut files = sound().seal();
        files.text(role, |text| text.replacen('{', "{\"unknown\":1,", 1));
        assert_eq!(outcome(&files), "ok");
    }
}

#[test]
fn t2_what_nobody_has_signed_is_not_read_beyond_its_signatures() {
    for (role, member) in [("timestamp", "meta"), ("snapshot", "meta"), ("targets", "targets")] {
        let mut files = sound().seal();
        files.text(role, |text| text.replacen(&format!("\"{member}\":{{"), "\"other\":{", 1));
        assert_eq!(outcome(&files), "ThresholdNotMet", "{role}");
    }
}

#[test]
fn t15_wrong_members_are_refused() {
    for role in ROLES {
        for (member, value) in [
            ("_type", json!("Root")),
            ("_type", json!(if role == "root" { "targets" } else { "root" })),
            ("_type", json!(null)),
            ("_type", json!(1)),
            ("spec_version", json!("2.0.0")),
            ("spec_version", json!("0.9")),
            ("spec_version", json!("1.x")),
            ("spec_version", json!("")),
            ("spec_version", json!("10.0")),
            ("spec_version", json!(1)),
            ("spec_version", json!(null)),
            ("version", json!("1")),
            ("version", json!(0)),
            ("version", json!(-1)),
            ("version", json!(null)),
            ("expires", json!("2039-01-01")),
            ("expires", json!(4102444800u64)),
            ("expires", json!("never")),
            ("expires", json!(null)),
        ] {
            assert_eq!(with(role, member, &value), "MalformedMetadata", "{role} {member} {value}");
        }
        assert_eq!(with(role, "spec_version", &json!("1.0")), "ok");
        assert_eq!(with(role, "expires", &json!("2030-01-02T00:00:00.5+01:00")), "ok");
    }
    for (role, member) in [
        ("timestamp", "meta"),
        ("snapshot", "meta"),
        ("targets", "targets"),
        ("root", "keys"),
        ("root", "roles"),
    ] {
        for value in [json!(null), json!([]), json!("x"), json!(1)] {
            let mut repo = sound();
            repo.set(role, member, value.clone());
            let edit = |it: &mut Value| {
                if it["_type"] == role {
                    it[member] = value.clone()
                }
            };
            let files = repo.seal_with(edit, edit);
            assert_eq!(outcome(&files), "MalformedMetadata", "{role} {member} {value}");
        }
    }
    assert_eq!(with("root", "consistent_snapshot", &json!("true")), "MalformedMetadata");
    assert_eq!(with("targets", "delegations", &json!(1)), "MalformedMetadata");
    for target in [
        json!({}),
        json!({"length": 1}),
        json!({"length": "1", "hashes": {}}),
        json!({"length": -1, "hashes": {}}),
        json!({"length": 1, "hashes": {"sha256": "00"}}),
        json!({"length": 1, "hashes": {"sha256": 1}}),
    ] {
        assert_eq!(with("targets", "targets", &json!({"x": target})), "MalformedMetadata");
    }
}

#[test]
fn t15_text_that_two_readers_could_read_in_two_ways_is_refused() {
    for role in ROLES {
        let edits: [(&str, Edit); 11] = [
            ("twice", |text| text.replacen("\"version\":1", "\"version\":1,\"version\":1", 1)),
            ("twice, escaped", |text| {
                text.replacen("\"version\":1", "\"version\":1,\"\\u0076ersion\":2", 1)
            }),
            ("signed twice", |text| text.replacen("\"signed\":", "\"signed\":{},\"signed\":", 1)),
            ("a fraction", |text| text.replacen("\"version\":1", "\"version\":1.0", 1)),
            ("an exponent", |text| text.replacen("\"version\":1", "\"version\":1e0", 1)),
            ("NaN", |text| text.replacen("\"version\":1", "\"version\":NaN", 1)),
            ("beyond 64 bits", |text| {
                text.replacen("\"version\":1", "\"version\":18446744073709551617", 1)
            }),
            ("a lone surrogate", |text| text.replacen("1.0.31", "1.0.\\ud800", 1)),
            ("a tail", |text| text + "{}"),
            ("a byte order mark", |text| format!("\u{feff}{text}")),
            ("7,000 levels", |text| {
                let nested = format!("{}{}", "[".repeat(7_000), "]".repeat(7_000));
                text.replacen("\"version\":1", &format!("\"version\":1,\"x\":{nested}"), 1)
            }),
        ];
        for (what, edit) in edits {
            let mut files = sound().seal();
            files.text(role, edit);
            assert_eq!(outcome(&files), "MalformedMetadata", "{role}: {what}");
        }
        for bytes in [
            &b""[..],
            b"null",
            b"[]",
            b"{}",
            b"<html></html>",
            b"{\"signed\":{}}",
            b"\xff\xfe",
            b"{\"signed\":[],\"signatures\":[]}",
        ] {
            let mut files = sound().seal();
            files.text(role, |_| String::new());
            match role {
                "root" => drop(files.roots.insert(1, bytes.to_vec())),
                _ => drop(files.roles.insert(role.to_owned(), bytes.to_vec())),
            }
            assert_eq!(outcome(&files), "MalformedMetadata", "{role}");
        }
    }
}

#[test]
fn white_space_and_order_outside_of_what_is_signed_say_nothing() {
    for role in ROLES {
        let mut files = sound().seal();
        files.text(role, |text| {
            let value: Value = serde_json::from_str(&text).unwrap();
            serde_json::to_string_pretty(&value).unwrap()
        });
        assert_eq!(outcome(&files), "ok");
    }
}

#[test]
fn a_root_names_all_four_roles() {
    for role in ROLES {
        let mut repo = sound();
        repo.role("root").signed["roles"].as_object_mut().unwrap().remove(role);
        assert_eq!(outcome(&repo.seal()), "MalformedMetadata");
    }
}

#[test]
fn the_snapshot_may_list_what_is_no_targets_file() {
    let edit = |snapshot: &mut Value| {
        snapshot["meta"]["root.json"] = json!({"version": 7});
        snapshot["meta"]["readme.txt"] = json!({"x": 1});
    };
    let updated = sound().seal_with(edit, |_| {}).run(tags("1.4"), &Memory::default());
    updated.find("new").unwrap();
    assert!(!updated.memory.roles.contains_key("root"));
}
