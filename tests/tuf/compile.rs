//! What is said of sources and authorities that are written.

use countersign::api::{
    Compiled, Document, Resources, SecretData, SourceKind, TrustPolicySpec, TrustSourceSpec,
    compile,
};
use countersign_verify::policy::{Lookup, Rule};
use countersign_verify::tuf::{Accept, Template};
use serde_json::{Value, json};

use super::*;

fn source_spec() -> Value {
    json!({"tuf": {
        "metadataURLs": ["https://tuf.example.com/metadata/", "file:///mnt/mirror"],
        "rootRef": {"configMap": "corp-tuf", "key": "root.json"},
    }})
}

fn policy_spec() -> Value {
    json!({
        "match": {"images": {"include": ["registry.example.com/payments/**"]}},
        "verify": {"authorities": [{
            "name": "archive",
            "sourceRef": {"name": "corp-tuf"},
            "tuf": {"target": "{registry}/{repository}/{tag}", "acceptRoles": ["*"]},
        }]},
    })
}

/// `value` with the field at `path` set to `to`; null removes it.
fn with(mut value: Value, path: &str, to: Value) -> Value {
    let (parent, key) = path.rsplit_once('/').expect("a path");
    let parent = value.pointer_mut(parent).expect("a parent");
    match to {
        Value::Null => drop(parent.as_object_mut().expect("an object").remove(key)),
        to => parent[key] = to,
    }
    value
}

fn root() -> Vec<u8> {
    Repo::new().seal().roots[&1].clone()
}

fn resources(policy: Value, source: Value) -> Resources {
    let data = [("root.json".to_owned(), root()), ("page".to_owned(), b"<html>".to_vec())];
    Resources {
        policies: vec![Document::<TrustPolicySpec>::new("payments", None, policy)],
        sources: vec![Document::<TrustSourceSpec>::new("corp-tuf", None, source)],
        config_maps: [("corp-tuf".to_owned(), data.clone().into())].into(),
        secrets: [("corp-tuf".to_owned(), SecretData::of_use(data.into_iter()))].into(),
        ..Resources::default()
    }
}

fn problems(compiled: &Compiled) -> Vec<String> {
    compiled.problems.iter().map(ToString::to_string).collect()
}

#[test]
fn a_source_and_its_authority_compile() {
    let policy = with(
        policy_spec(),
        "/verify/authorities/0/tuf/digestTarget",
        json!("{registry}/{repository}/{digest}"),
    );
    let resources = resources(policy, source_spec());
    assert_eq!(resources.named(), [("ConfigMap", "corp-tuf")].into());
    let compiled = compile(&resources, now());
    assert_eq!(problems(&compiled), [""; 0]);
    let source = &compiled.sources["corp-tuf"];
    let SourceKind::Tuf { mirrors, initial, max_delegations } = &source.kind else {
        panic!("{:?}", source.kind)
    };
    assert_eq!(mirrors[1].as_str(), "file:///mnt/mirror");
    assert_eq!(initial.as_ref().expect("read").version(), 1);
    assert_eq!((*max_delegations, source.host().as_str()), (32, "tuf.example.com"));
    let Rule::Verify { authorities, .. } = &compiled.policies[0].rule else { panic!() };
    assert_eq!(authorities[0].usable, Ok(()));
    let Lookup::Tuf(lookup) = &authorities[0].lookup else { panic!() };
    let target = Template::for_tags("{registry}/{repository}/{tag}").expect("a template");
    assert_eq!((&lookup.target, &lookup.accept), (&target, &Accept::Any(vec!["*".to_owned()])));
    assert!(lookup.digest_target.is_some());
}

#[test]
fn a_secrets_root_is_as_good_and_another_root_is_another_source() {
    let named = json!({"secret": "corp-tuf", "key": "root.json"});
    let mut resources = resources(policy_spec(), with(source_spec(), "/tuf/rootRef", named));
    assert_eq!(resources.named(), [("Secret", "corp-tuf")].into());
    let before = compile(&resources, now());
    assert_eq!(problems(&before), [""; 0]);
    let same = compile(&resources, now()).sources["corp-tuf"].fingerprint;
    assert_eq!(before.sources["corp-tuf"].fingerprint, same);
    let secret = resources.secrets.get_mut("corp-tuf").expect("there");
    secret.0.insert("root.json".to_owned(), root());
    assert_ne!(compile(&resources, now()).sources["corp-tuf"].fingerprint, same);
}

#[test]
fn k5_what_is_wrong_with_a_source_is_said() {
    let place = "it has to be in Countersign's namespace, or among the files";
    let urls = "spec.tuf.metadataURLs";
    let root = "spec.tuf.rootRef";
    for (path, to, wanted) in [
        ("metadataURLs", json!([]), format!("{urls}: it is empty; at least one item is required")),
        (
            "metadataURLs",
            json!(["http://tuf.example.com/"]),
            format!("{urls}[0]: plain http is for loopback hosts only; write https://"),
        ),
        (
            "metadataURLs",
            json!(["https://a.example/", "https://a.example/"]),
            format!("{urls}[1]: it is listed twice; remove one"),
        ),
        (
            "metadataURLs",
            json!(["file://elsewhere/mnt"]),
            format!("{urls}[0]: it is not file:/// and the absolute path of a mounted folder"),
        ),
        (
            "metadataURLs",
            json!(["ftp://tuf.example.com/"]),
            format!("{urls}[0]: it has to begin with https://"),
        ),
        (
            "rootRef",
            json!({"key": "root.json"}),
            format!("{root}: exactly one of configMap and secret is required"),
        ),
        (
            "rootRef",
            json!({"configMap": "a", "secret": "b", "key": "root.json"}),
            format!("{root}: exactly one of configMap and secret is required"),
        ),
        (
            "rootRef",
            json!({"configMap": "other", "key": "root.json"}),
            format!("{root}: ConfigMap \"other\" does not exist; {place}"),
        ),
        (
            "rootRef",
            json!({"configMap": "corp-tuf", "key": "1.root.json"}),
            format!("{root}: ConfigMap \"corp-tuf\" has no key \"1.root.json\""),
        ),
        (
            "rootRef",
            json!({"secret": "corp-tuf", "key": "page"}),
            format!("{root}.key: the key of a Secret has to end in .json"),
        ),
        (
            "maxDelegations",
            json!(1025),
            "spec.tuf.maxDelegations: 1025 is not within 1 and 1024".to_owned(),
        ),
        (
            "maxDelegations",
            json!(0),
            "spec.tuf.maxDelegations: 0 is not within 1 and 1024".to_owned(),
        ),
    ] {
        let mut resources =
            resources(policy_spec(), with(source_spec(), &format!("/tuf/{path}"), to));
        resources.policies.clear();
        let found = problems(&compile(&resources, now()));
        assert_eq!(found, [format!("TrustSource \"corp-tuf\": {wanted}")]);
    }
    let page = json!({"configMap": "corp-tuf", "key": "page"});
    let mut resources = resources(policy_spec(), with(source_spec(), "/tuf/rootRef", page));
    resources.policies.clear();
    let found = problems(&compile(&resources, now()));
    for wanted in [
        "key \"page\" of ConfigMap \"corp-tuf\" is not an initial root",
        "HTML",
        "put the root.json there",
    ] {
        assert!(found[0].contains(wanted), "{found:?}");
    }
}

#[test]
fn k5_what_is_wrong_with_an_authority_is_said() {
    let field = "spec.verify.authorities[name=archive].tuf";
    let one_host = "write it, or let spec.match.images.include name one literal";
    for (path, to, wanted) in [
        (
            "acceptRoles",
            Value::Null,
            format!("{field}: one of acceptRoles and requireRoles is required"),
        ),
        (
            "acceptRoles",
            json!([]),
            format!("{field}.acceptRoles: it is empty; at least one item is required"),
        ),
        (
            "requireRoles",
            json!(["qa"]),
            format!("{field}: acceptRoles and requireRoles exclude each other"),
        ),
        (
            "acceptRoles",
            json!(["snapshot"]),
            format!("{field}.acceptRoles[0]: \"snapshot\" is not a role that signs targets"),
        ),
        (
            "acceptRoles",
            json!(["a", "a"]),
            format!("{field}.acceptRoles[1]: \"a\" is listed twice"),
        ),
        (
            "target",
            json!("{registry}/{repository}"),
            format!("{field}.target: it has to have {{tag}} once"),
        ),
        (
            "target",
            json!("{registry}/{repository}-{tag}"),
            format!("{field}.target: \"{{repository}}-{{tag}}\" is not"),
        ),
        (
            "target",
            json!("{registry}/{tag}"),
            format!(
                "{field}.target: without {{repository}} images of two repositories have one name: {one_host} repository"
            ),
        ),
        (
            "digestTarget",
            json!("{digest}"),
            format!("{field}.digestTarget: without {{repository}}"),
        ),
    ] {
        let path = format!("/verify/authorities/0/tuf/{path}");
        let found =
            problems(&compile(&resources(with(policy_spec(), &path, to), source_spec()), now()));
        assert!(found[0].contains(&wanted), "{wanted}: {found:?}");
    }
    let all = with(policy_spec(), "/verify/authorities/0/tuf/acceptRoles", Value::Null);
    let all = with(all, "/verify/authorities/0/tuf/requireRoles", json!(["*"]));
    let found = problems(&compile(&resources(all, source_spec()), now()));
    assert!(found[0].contains("\"*\" is for acceptRoles"), "{found:?}");
}

#[test]
fn t19_a_template_leaves_out_only_what_the_policy_names_literally() {
    for (include, target, wanted) in [
        (json!(["registry.example.com/payments/**"]), "{repository}/{tag}", true),
        (json!(["registry.example.com/a", "registry.example.com/b"]), "{repository}/{tag}", true),
        (json!(["registry.example.com/**", "other.example.com/**"]), "{repository}/{tag}", false),
        (json!(["*/payments/**"]), "{repository}/{tag}", false),
        (json!(["registry.example.com/payments/api"]), "{tag}", true),
        (json!(["registry.example.com/payments/*"]), "{tag}", false),
        (json!(["registry.example.com/a", "registry.example.com/b"]), "{tag}", false),
    ] {
        let policy = with(policy_spec(), "/match/images/include", include.clone());
        let policy = with(policy, "/verify/authorities/0/tuf/target", json!(target));
        let compiled = compile(&resources(policy, source_spec()), now());
        let found = problems(&compiled);
        assert_eq!(found.is_empty(), wanted, "{include} {target}: {found:?}");
        let is_rule = matches!(compiled.policies[0].rule, Rule::Verify { .. });
        assert_eq!(is_rule, wanted, "what does not compile refuses");
    }
}

#[test]
fn an_authority_has_to_be_in_its_sources_dialect() {
    let policy = with(policy_spec(), "/verify/authorities/0/tuf", Value::Null);
    let policy = with(policy, "/verify/authorities/0/notary", json!({"lookup": "Docker"}));
    let compiled = compile(&resources(policy, source_spec()), now());
    let found = problems(&compiled);
    assert!(found[0].contains("TrustSource \"corp-tuf\" is of kind tuf"), "{found:?}");
    let Rule::Verify { authorities, .. } = &compiled.policies[0].rule else { panic!() };
    assert_eq!(authorities[0].usable.clone().expect_err("refused").code(), "InvalidPolicy");
}

#[test]
fn authorities_differ_by_source_target_and_roles() {
    let authority = |name: &str, tag: &str, roles: &[&str]| {
        json!({"name": name, "sourceRef": {"name": "corp-tuf"}, "tuf": {
            "target": format!("{{registry}}/{{repository}}/{tag}"), "acceptRoles": roles,
        }})
    };
    for (second, wanted) in [
        (authority("b", "{tag}", &["qa"]), false),
        (authority("b", "v1/{tag}", &["qa"]), true),
        (authority("b", "{tag}", &["qa", "dev"]), true),
    ] {
        let both = json!([authority("a", "{tag}", &["qa"]), second]);
        let policy = with(policy_spec(), "/verify/authorities", both);
        let policy = with(policy, "/verify/minAuthorities", json!(1));
        let found = problems(&compile(&resources(policy, source_spec()), now()));
        assert_eq!(found.is_empty(), wanted, "{found:?}");
        assert!(wanted || found[0].contains("the same source, target and roles as \"a\""));
    }
}

#[test]
fn k9_each_mirror_gets_the_credentials_that_are_for_it() {
    let mut source = with(
        source_spec(),
        "/tuf/metadataURLs",
        json!(["https://tuf.example.com/", "https://mirror.example.com/"]),
    );
    source["connection"] = json!({"credentialsSecretRef": {"name": "login"}});
    let mut resources = resources(policy_spec(), source);
    let login = ["username", "password"].map(|key| (key.to_owned(), b"x".to_vec()));
    let host = ("host".to_owned(), b"mirror.example.com".to_vec());
    let secret = SecretData::of_use(login.into_iter().chain([host]));
    resources.secrets.insert("login".to_owned(), secret);
    let compiled = compile(&resources, now());
    assert_eq!(problems(&compiled), [""; 0]);
    let source = &compiled.sources["corp-tuf"];
    let has = |index: usize| source.connection.credentials(&source.urls()[index]).is_some();
    assert_eq!((has(0), has(1)), (false, true));
}

#[test]
fn k14_a_root_that_cannot_be_read_leaves_the_source_unavailable() {
    let mut resources = resources(policy_spec(), source_spec());
    resources.config_maps.clear();
    let unread = (("ConfigMap", "corp-tuf".to_owned()), "you may not read it".to_owned());
    resources.unread = [unread].into();
    let compiled = compile(&resources, now());
    assert_eq!(problems(&compiled), [""; 0]);
    let source = &compiled.sources["corp-tuf"];
    assert_eq!(source.connection.unread.as_deref(), Some("you may not read it"));
    assert!(matches!(source.kind, SourceKind::Tuf { initial: None, .. }));
}
