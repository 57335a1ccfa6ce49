//! Countersign's resources, as a real API server takes them.

use countersign_e2e::Outcome;
use countersign_e2e::api_server::{ApiServer, Shared};
use countersign_e2e::countersign::command;
use countersign_e2e::install;
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policy, Source};
use serde_json::{Value, json};

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8QJae0XQA6orLMm9e0+Tp0XNxp3L\nfXBNkmfzdrxLc48ksXeTMNIv4seVtxsDeHl7Lipwg4d6z8Ul55ZRlVJkcA==\n-----END PUBLIC KEY-----\n";

#[test]
fn the_api_server_takes_the_definitions_and_checks_resources_by_them() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let api_server = ApiServer::start(folder.path(), &authority)?;
    let definitions = command(&["crds"])?.success()?.stdout;
    api_server.kubectl_with(&["create", "-f", "-"], &definitions)?.success()?;
    let all = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    api_server.kubectl(&all)?.success()?;

    let apply = |yaml: &str| api_server.kubectl_with(&["apply", "-f", "-"], yaml);
    let source = Source::new("corp-notary", "https://notary.example.com", "").pin(
        "payments",
        "registry.example.com/payments/**",
        KEY,
    );
    let policy = Policy::new("payments", "registry.example.com/payments/**", "corp-notary");
    apply(&source.yaml())?.success()?;
    apply(&policy.yaml())?.success()?;
    api_server.kubectl(&["get", "tp,tsrc"])?.success()?;

    for (yaml, instead) in [
        // Exactly one of verify and allowUnverified; one of notary and tuf.
        (policy.yaml(), ("  verify:", "  allowUnverified:\n    reason: none\n  verify:")),
        (policy.yaml(), ("action: Deny", "action: Maybe")),
        (
            policy.yaml(),
            ("      include: [\"registry.example.com/payments/**\"]\n", "      include: []\n"),
        ),
        (source.yaml(), ("    url: https://notary.example.com\n", "")),
        (source.yaml(), ("refreshAfterSeconds: 1", "refreshAfterSeconds: 999999")),
        (source.yaml(), ("      publicKeys:", "      rootKeyIDs: [\"00\"]\n      publicKeys:")),
    ] {
        let broken = yaml.replace(instead.0, instead.1);
        assert_ne!(broken, yaml, "{}", instead.0);
        let finished = apply(&broken)?;
        assert_ne!(finished.code, Some(0), "taken: {broken}\n{finished}");
    }
    Ok(())
}

type Change = fn(&mut Value);

fn hash(digit: char) -> String {
    digit.to_string().repeat(64)
}

fn role(name: &str, version: i64, keys: char) -> Value {
    json!({"name": name, "version": version, "keys": hash(keys)})
}

fn root(version: char) -> Value {
    json!({"version": version.to_digit(10), "sha256": hash(version)})
}

/// A checkpoint with root 2, and every role at version 5.
fn checkpoint() -> Value {
    let names = ["timestamp", "targets", "targets/a", "targets/a/b"];
    json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": "TrustCheckpoint",
        "metadata": {"name": "rules"},
        "spec": {
            "source": "corp-notary", "repository": "registry.example.com/app",
            "anchor": hash('a'), "root": root('2'), "roles": names.map(|name| role(name, 5, '1')),
        },
    })
}

/// Changes that the API server refuses, and what it says.
const REFUSED: [(&str, Change); 17] = [
    ("immutable", |spec| spec["source"] = json!("other")),
    ("immutable", |spec| spec["repository"] = json!("registry.example.com/other")),
    ("immutable", |spec| spec["anchor"] = hash('b').into()),
    ("root only rises", |spec| spec["root"] = root('1')),
    ("root only rises", |spec| spec["root"]["sha256"] = hash('3').into()),
    ("a version falls only", |spec| spec["roles"][0] = role("timestamp", 4, '1')),
    // Other keys, and no newer root or role that could list them.
    ("together with a newer root", |spec| spec["roles"][0] = role("timestamp", 4, '9')),
    ("together with a newer root", |spec| spec["roles"][2] = role("targets/a", 4, '9')),
    // A newer root, and the same keys.
    ("the role's keys change", |spec| {
        spec["root"] = root('3');
        spec["roles"][0] = role("timestamp", 4, '1');
    }),
    ("no role is taken away", |spec| spec["roles"] = json!([])),
    ("Duplicate", |spec| spec["roles"][1] = role("timestamp", 6, '1')),
    ("spec.anchor", |spec| spec["anchor"] = json!("A")),
    ("spec.root", |spec| spec["root"] = json!("garbage")),
    ("spec.root.version", |spec| spec["root"]["version"] = json!("2")),
    ("version", |spec| spec["roles"][0]["version"] = json!(-1)),
    ("keys", |spec| spec["roles"][0]["keys"] = json!("none")),
    ("Too many", |spec| {
        let many = (0..129).map(|number| role(&format!("targets/{number}"), 1, '1'));
        spec["roles"] = many.collect();
    }),
];

/// Changes that it takes, each on top of the one before.
const TAKEN: [Change; 5] = [
    |spec| spec["roles"][0] = role("timestamp", i64::MAX, '1'),
    // Rotations: of a role by a newer root, of delegated ones by a newer delegating one.
    |spec| {
        spec["root"] = root('3');
        spec["roles"][0] = role("timestamp", 0, '9');
    },
    |spec| {
        spec["roles"][1] = role("targets", 6, '1');
        spec["roles"][2] = role("targets/a", 0, '9');
    },
    |spec| {
        spec["roles"][2] = role("targets/a", 1, '9');
        spec["roles"][3] = role("targets/a/b", 0, '9');
    },
    |spec| {
        let old = spec["roles"].as_array().cloned().unwrap_or_default();
        let more = (0..124).map(|number| role(&format!("targets/{number}"), 1, '1'));
        spec["roles"] = old.into_iter().chain(more).collect();
    },
];

#[test]
fn t21_the_api_server_refuses_lower_versions_and_garbage() -> Outcome<()> {
    let shared = Shared::get()?;
    let api_server = &shared.api_server;
    install::definitions(api_server)?;
    let replace =
        |object: &Value| api_server.kubectl_with(&["replace", "-f", "-"], &object.to_string());
    let before = checkpoint();
    api_server.apply(&before)?.success()?;
    let table = api_server.kubectl(&["get", "tcp", "rules"])?.success()?.stdout;
    for part in ["SOURCE", "REPOSITORY", "ROOT", "AGE", "corp-notary", "registry.example.com/app"] {
        assert!(table.contains(part), "{table}");
    }
    for (said, change) in REFUSED {
        let mut object = before.clone();
        change(&mut object["spec"]);
        let finished = replace(&object)?;
        assert_ne!(finished.code, Some(0), "taken: {object}");
        assert!(finished.stderr.contains(said), "{said}: {finished}");
    }
    let mut object = before;
    for change in TAKEN {
        change(&mut object["spec"]);
        let finished = replace(&object)?;
        assert_eq!(finished.code, Some(0), "{object}\n{finished}");
    }
    api_server.kubectl(&["delete", "tcp", "rules"])?.success().map(drop)
}
