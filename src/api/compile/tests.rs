#![allow(clippy::unwrap_used)]

mod policies;
mod scopes;
mod sources;

use countersign_verify::image::Reference;
use countersign_verify::policy::{Namespace, Policy};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
use serde_json::{Value, json};

use super::*;
use crate::api::{SecretData, TrustPolicySpec, TrustSourceSpec};

/// The time at which all tests compile.
fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn public_key() -> String {
    KeyPair::generate().unwrap().public_key_pem()
}

fn certificate(is_ca: bool, from_year: i32, to_year: i32) -> String {
    let mut params = CertificateParams::new(vec!["notary.example.com".to_owned()]).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    params.not_before = rcgen::date_time_ymd(from_year, 1, 1);
    params.not_after = rcgen::date_time_ymd(to_year, 1, 1);
    params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
}

fn policy_spec() -> Value {
    json!({
        "match": {"images": {"include": ["registry.example.com/payments/**"]}},
        "verify": {"authorities": [{
            "name": "release-team",
            "sourceRef": {"name": "corp-notary"},
            "notary": {"lookup": "Docker"},
        }]},
    })
}

fn source_spec() -> Value {
    json!({"notary": {
        "url": "https://notary.example.com",
        "pins": [{
            "name": "payments",
            "repositories": ["registry.example.com/payments/**"],
            "publicKeys": [public_key()],
        }],
    }})
}

fn resources(policy: Value, source: Value) -> Resources {
    Resources {
        policies: vec![Document::<TrustPolicySpec>::new("payments", None, policy)],
        sources: vec![Document::<TrustSourceSpec>::new("corp-notary", None, source)],
        ..Resources::default()
    }
}

/// `value` with the field at `path`, as `/match/images`, set to `to`; null removes it.
fn with(mut value: Value, path: &str, to: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap_or_else(|| panic!("no {path}"));
    match (parent, to) {
        (Value::Array(items), to) => items[key.parse::<usize>().unwrap()] = to,
        (parent, Value::Null) => drop(parent.as_object_mut().unwrap().remove(key).unwrap()),
        (parent, to) => drop(parent.as_object_mut().unwrap().insert(key.to_owned(), to)),
    }
    value
}

/// The only problem, as a person reads it.
fn problem(compiled: &Compiled) -> String {
    let texts: Vec<String> = compiled.problems.iter().map(Problem::to_string).collect();
    assert_eq!(texts.len(), 1, "{texts:#?}");
    texts[0].clone()
}

fn compile_policy(spec: Value) -> Compiled {
    compile(&resources(spec, source_spec()), now())
}

fn matches(policy: &Policy, image: &str, namespace: &str) -> bool {
    let labels = BTreeMap::new();
    let namespace = Namespace { name: Some(namespace), labels: Some(&labels) };
    policy.matches(&Reference::parse(image).unwrap(), namespace) == Some(true)
}
