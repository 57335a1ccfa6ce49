use countersign_verify::notary;
use countersign_verify::policy::Lookup;
use countersign_verify::policy::{Action, Rule, Tags};

use super::*;

#[test]
fn a_minimal_policy_gets_the_strict_defaults() {
    let compiled = compile_policy(policy_spec());
    assert_eq!(compiled.problems, []);
    assert_eq!(compiled.registries, BTreeSet::from(["registry.example.com".to_owned()]));
    let policy = &compiled.policies[0];
    assert_eq!(
        (policy.action, policy.tags, policy.disclose),
        (Action::Deny, Tags::PinDigest, false)
    );
    assert!(matches(policy, "registry.example.com/payments/api", "any"));
    assert!(!matches(policy, "registry.example.com/other/api", "any"));
    let Rule::Verify { min_authorities: 1, authorities } = &policy.rule else {
        panic!("{:?}", policy.rule)
    };
    assert_eq!(authorities[0].lookup, Lookup::Notary(notary::Lookup::Docker));
    assert_eq!(authorities[0].usable, Ok(()));
}

#[test]
fn a_full_policy_compiles() {
    let spec = json!({
        "match": {
            "images": {
                "include": ["Registry.example.com/payments/**", "*.example.org/**"],
                "exclude": ["registry.example.com/payments/sandbox/**"],
            },
            "namespaceSelector": {
                "matchLabels": {"tier": "prod"},
                "matchExpressions": [
                    {"key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["a", "b"]},
                    {"key": "x", "operator": "DoesNotExist"},
                ],
            },
        },
        "action": "Warn",
        "tags": "RequireDigest",
        "verify": {
            "minAuthorities": 2,
            "authorities": [
                {"name": "a", "sourceRef": {"name": "corp-notary"}, "notary": {"lookup": "Docker"}},
                {"name": "b", "sourceRef": {"name": "corp-notary"},
                 "notary": {"requireRoles": ["targets/qa", "targets/security"]}},
            ],
        },
        "exceptions": [{
            "name": "inc-123",
            "images": ["registry.example.com/payments/api:1.4"],
            "namespaces": ["payments"],
            "expiresAt": "2026-12-01T00:00:00Z",
            "reason": "key ceremony",
        }],
        "disclose": true,
        "help": "https://wiki.example.com/signing",
    });
    let compiled = compile_policy(spec);
    assert_eq!(compiled.problems, []);
    assert_eq!(compiled.registries, BTreeSet::from(["registry.example.com".to_owned()]));
    let policy = &compiled.policies[0];
    assert_eq!(
        (policy.action, policy.tags, policy.disclose),
        (Action::Warn, Tags::RequireDigest, true)
    );
    assert_eq!(policy.namespaces.requirements.len(), 3);
    assert_eq!(policy.exceptions[0].expires, "2026-12-01T00:00:00Z".parse().unwrap());
    assert_eq!(policy.help.as_deref(), Some("https://wiki.example.com/signing"));
    let Rule::Verify { min_authorities: 2, authorities } = &policy.rule else {
        panic!("{:?}", policy.rule)
    };
    let roles = vec!["targets/qa".to_owned(), "targets/security".to_owned()];
    assert_eq!(authorities[1].lookup, Lookup::Notary(notary::Lookup::RequireRoles(roles)));
}

fn authority(name: &str) -> Value {
    json!({"name": name, "sourceRef": {"name": "corp-notary"}, "notary": {"lookup": "Docker"}})
}

fn exception() -> Value {
    json!({"name": "x", "images": ["r.example/a"], "namespaces": ["n"],
           "expiresAt": "2026-12-01T00:00:00Z", "reason": "r"})
}

#[test]
fn k5_what_is_wrong_with_a_policy_is_said_and_denies() {
    let two = json!([authority("a"), authority("b")]);
    let authorities = "/verify/authorities";
    let exceptions = |path: &str, to: Value| ("/exceptions", json!([with(exception(), path, to)]));
    let cases = [
        (("/verify", Value::Null), "spec: one of verify and allowUnverified is required"),
        (
            ("/allowUnverified", json!({"reason": "r"})),
            "spec: verify and allowUnverified exclude each other; remove one",
        ),
        (
            (authorities, json!([])),
            "spec.verify.authorities: it is empty; at least one item is required",
        ),
        (
            (authorities, two.clone()),
            "spec.verify.minAuthorities: it is required with more than one authority",
        ),
        (
            ("/verify", json!({"minAuthorities": 2, "authorities": [authority("a")]})),
            "spec.verify.minAuthorities: 2 can never be met: the number of authorities is 1",
        ),
        (
            ("/verify", json!({"minAuthorities": 0, "authorities": two})),
            "spec.verify.minAuthorities: it has to be at least 1",
        ),
        (
            ("/verify", json!({"minAuthorities": 1, "authorities": two})),
            "spec.verify.authorities[name=b]: it has the same source and roles as \"a\", so it proves nothing more; remove one",
        ),
        (
            (
                "/verify",
                json!({"minAuthorities": 1, "authorities": [authority("a"), authority("a")]}),
            ),
            "spec.verify.authorities: two items are named \"a\"; rename one",
        ),
        (
            ("/verify/authorities/0/name", json!("")),
            "spec.verify.authorities: name \"\" has to be 1 to 63 letters, digits, dots, dashes and underscores",
        ),
        (
            ("/verify/authorities/0/notary", Value::Null),
            "spec.verify.authorities[name=release-team]: one of notary and tuf is required",
        ),
        (
            ("/verify/authorities/0/tuf", json!({"target": "x"})),
            "spec.verify.authorities[name=release-team]: notary and tuf exclude each other; remove one",
        ),
        (
            ("/verify/authorities/0/notary", json!({})),
            "spec.verify.authorities[name=release-team].notary: one of lookup and requireRoles is required",
        ),
        (
            ("/verify/authorities/0/notary/requireRoles", json!(["targets"])),
            "spec.verify.authorities[name=release-team].notary: lookup and requireRoles exclude each other; remove one",
        ),
        (
            ("/verify/authorities/0/notary", json!({"requireRoles": []})),
            "spec.verify.authorities[name=release-team].notary.requireRoles: it is empty; at least one item is required",
        ),
        (
            ("/verify/authorities/0/notary", json!({"requireRoles": ["targets/../x"]})),
            "spec.verify.authorities[name=release-team].notary.requireRoles[0]: \"targets/../x\" is not a role: targets, or targets/ and a name of a-z, 0-9, -, _ and /",
        ),
        (
            ("/verify/authorities/0/notary", json!({"requireRoles": ["releases"]})),
            "spec.verify.authorities[name=release-team].notary.requireRoles[0]: \"releases\" is not a role: targets, or targets/ and a name of a-z, 0-9, -, _ and /",
        ),
        (
            ("/verify/authorities/0/notary", json!({"requireRoles": ["targets/a", "targets/a"]})),
            "spec.verify.authorities[name=release-team].notary.requireRoles[1]: \"targets/a\" is listed twice",
        ),
        (
            ("/help", json!("http://wiki.example.com")),
            "spec.help: it is no https URL; a URL has to begin with https://",
        ),
        (
            ("/help", json!("x".repeat(201))),
            "spec.help: it has 201 characters, at most 200 are allowed",
        ),
        (
            ("/help", json!("two\nlines")),
            "spec.help: it has line breaks or control characters; write one line",
        ),
        (
            exceptions("/images", json!([])),
            "spec.exceptions[name=x].images: it is empty; at least one item is required",
        ),
        (
            exceptions("/images", json!(["nginx"])),
            "spec.exceptions[name=x].images[0]: \"nginx\" is not a pattern: its first component is no registry; write docker.io/library/nginx",
        ),
        (
            exceptions("/namespaces", json!([])),
            "spec.exceptions[name=x].namespaces: it is empty; at least one item is required",
        ),
        (
            exceptions("/namespaces", json!(["*"])),
            "spec.exceptions[name=x].namespaces: \"*\" is not a namespace's name; list each one, without wildcards",
        ),
        (
            exceptions("/expiresAt", json!("tomorrow")),
            "spec.exceptions[name=x].expiresAt: \"tomorrow\" is not a time in RFC 3339, as 2026-12-01T00:00:00Z",
        ),
        (exceptions("/reason", json!(" ")), "spec.exceptions[name=x].reason: it is empty; say why"),
        (
            ("/exceptions", json!([exception(), exception()])),
            "spec.exceptions: two items are named \"x\"; rename one",
        ),
        (
            ("/verfy", json!({})),
            "spec.verfy: unknown field `verfy`, expected one of `match`, `action`, `tags`, `verify`, `allowUnverified`, `exceptions`, `disclose`, `help`",
        ),
        (
            ("/action", json!("deny")),
            "spec.action: unknown variant `deny`, expected one of `Deny`, `Warn`, `Audit`",
        ),
        (
            ("/verify/authorities/0/notary", json!({"lookup": "Docker", "role": "x"})),
            "spec.verify.authorities[0].notary.role: unknown field `role`, expected `lookup` or `requireRoles`",
        ),
    ];
    for ((path, to), expected) in cases {
        let compiled = compile_policy(with(policy_spec(), path, to));
        assert_eq!(problem(&compiled), format!("TrustPolicy \"payments\": {expected}"), "{path}");
        let policy = &compiled.policies[0];
        let Rule::Invalid(denial) = &policy.rule else { panic!("{path}: {:?}", policy.rule) };
        assert_eq!(denial.code(), "InvalidPolicy");
        assert_eq!(denial.to_string(), expected, "{path}");
        assert_eq!(policy.action, Action::Deny);
        assert!(policy.exceptions.is_empty(), "a hole in an unreadable policy is not trusted");
        assert!(matches(policy, "registry.example.com/payments/api", "any"));
        assert!(
            !matches(policy, "registry.example.com/other/api", "any"),
            "{path}: its scope is readable"
        );
    }
}

#[test]
fn k6_a_lost_field_cannot_widen_what_is_let_in_unverified() {
    let allow = json!({
        "match": {
            "images": {"include": ["registry.k8s.io/**"], "exclude": []},
            "namespaceSelector": {"matchLabels": {}},
        },
        "allowUnverified": {"reason": "mirrored"},
    });
    let compiled = compile_policy(allow.clone());
    assert_eq!(compiled.problems, []);
    assert!(
        matches!(&compiled.policies[0].rule, Rule::AllowUnverified { reason } if reason == "mirrored")
    );
    for (path, expected) in [
        (
            // What the API server leaves of a mistyped `matchLables`.
            "/match/namespaceSelector/matchLabels",
            "spec.match.namespaceSelector: allowUnverified needs its matchLabels or matchExpressions written out; write {matchLabels: {}} for every namespace",
        ),
        (
            "/match/images/exclude",
            "spec.match.images.exclude: allowUnverified needs it written out; write [] to exclude nothing",
        ),
        (
            "/match/namespaceSelector",
            "spec.match.namespaceSelector: allowUnverified needs its matchLabels or matchExpressions written out; write {matchLabels: {}} for every namespace",
        ),
    ] {
        let compiled = compile_policy(with(allow.clone(), path, Value::Null));
        assert_eq!(problem(&compiled), format!("TrustPolicy \"payments\": {expected}"));
        assert!(matches!(compiled.policies[0].rule, Rule::Invalid(_)));
    }
    let compiled = compile_policy(with(allow, "/allowUnverified/reason", json!("")));
    assert_eq!(
        problem(&compiled),
        "TrustPolicy \"payments\": spec.allowUnverified.reason: it is empty; say why"
    );
}

#[test]
fn k5_two_policies_of_one_name_both_deny() {
    let mut resources = resources(policy_spec(), source_spec());
    resources.policies.push(resources.policies[0].clone());
    let compiled = compile(&resources, now());
    assert_eq!(compiled.policies.len(), 2);
    assert_eq!(compiled.problems.len(), 2);
    for (policy, problem) in compiled.policies.iter().zip(&compiled.problems) {
        assert!(matches!(policy.rule, Rule::Invalid(_)));
        assert_eq!(
            problem.to_string(),
            "TrustPolicy \"payments\": metadata.name: another TrustPolicy has this name; rename one"
        );
    }
}

#[test]
fn k5_a_missing_or_broken_source_denies_and_heals() {
    let mut missing = resources(policy_spec(), source_spec());
    let sources = std::mem::take(&mut missing.sources);
    let compiled = compile(&missing, now());
    assert_eq!(
        problem(&compiled),
        "TrustPolicy \"payments\": spec.verify.authorities[name=release-team].sourceRef.name: TrustSource \"corp-notary\" does not exist"
    );
    assert_eq!(denial(&compiled).code(), "SourceNotFound");

    let broken = resources(policy_spec(), with(source_spec(), "/notary/url", json!("ftp://x")));
    let compiled = compile(&broken, now());
    assert_eq!(denial(&compiled).code(), "InvalidPolicy");
    let reason = "TrustSource \"corp-notary\": spec.notary.url: it has to begin with https://";
    assert_eq!(denial(&compiled).to_string(), reason);
    assert!(compiled.sources.is_empty());
    let texts: Vec<String> = compiled.problems.iter().map(Problem::to_string).collect();
    assert_eq!(
        texts,
        [
            reason.to_owned(),
            format!(
                "TrustPolicy \"payments\": spec.verify.authorities[name=release-team].sourceRef.name: {reason}"
            ),
        ]
    );

    missing.sources = sources;
    assert_eq!(compile(&missing, now()).problems, []);
}

fn denial(compiled: &Compiled) -> Denial {
    match &compiled.policies[0].rule {
        Rule::Verify { authorities, .. } => authorities[0].usable.clone().unwrap_err(),
        rule => panic!("{rule:?}"),
    }
}

#[test]
fn k5_every_section_tells_its_first_problem() {
    let spec = with(policy_spec(), "/match/images/include", json!([]));
    let spec = with(spec, "/verify/authorities", json!([]));
    let spec = with(spec, "/help", json!(""));
    let fields: Vec<String> =
        compile_policy(spec).problems.into_iter().map(|problem| problem.field).collect();
    assert_eq!(fields, ["spec.match.images.include", "spec.verify.authorities", "spec.help"]);
}

#[test]
fn t15_any_spec_compiles_to_something_that_denies_or_verifies() {
    for spec in [json!(null), json!([]), json!("x"), json!(1), json!({}), json!({"match": 1})] {
        let compiled = compile_policy(spec);
        assert!(matches!(compiled.policies[0].rule, Rule::Invalid(_)));
        assert!(matches(&compiled.policies[0], "anything.example/at/all", "anywhere"));
    }
}
