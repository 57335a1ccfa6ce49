use countersign_verify::policy::{Action, Rule};

use super::*;

#[test]
fn k6_a_broken_scope_matches_everything_at_the_declared_action() {
    let cases = [
        (
            "/match/images/include",
            json!([]),
            "spec.match.images.include: it is empty; at least one item is required",
        ),
        (
            "/match/images/include",
            json!(["registry.example.com/payments/**", "nginx"]),
            "spec.match.images.include[1]: \"nginx\" is not a pattern: its first component is no registry; write docker.io/library/nginx",
        ),
        (
            "/match/images/include",
            json!(["registry.example.com/a:1"]),
            "spec.match.images.include[0]: it ends in a tag or digest, which only exceptions may; write registry/repository",
        ),
        (
            "/match/images/includes",
            json!([]),
            "spec.match.images.includes: unknown field `includes`, expected `include` or `exclude`",
        ),
        (
            "/match/images/include",
            json!("**"),
            "spec.match.images.include: invalid type: string \"**\", expected a sequence",
        ),
        ("/match", Value::Null, "spec: missing field `match`"),
    ];
    for (path, to, expected) in cases {
        for (declared, action) in
            [("Deny", Action::Deny), ("Warn", Action::Warn), ("Audit", Action::Audit)]
        {
            let spec = with(with(policy_spec(), path, to.clone()), "/action", json!(declared));
            let compiled = compile_policy(spec);
            assert_eq!(problem(&compiled), format!("TrustPolicy \"payments\": {expected}"));
            let policy = &compiled.policies[0];
            assert!(matches(policy, "anything.example/at/all", "anywhere"), "{path}");
            assert!(matches!(policy.rule, Rule::Invalid(_)));
            assert_eq!(policy.action, action);
        }
    }
}

#[test]
fn k6_a_broken_exclude_or_selector_takes_nothing_out() {
    let image = "registry.example.com/payments/sandbox";
    let selector = |selector: Value| ("/match/namespaceSelector", selector);
    let cases = [
        (
            ("/match/images/exclude", json!(["registry.example.com/payments/sandbox", "x"])),
            "spec.match.images.exclude[1]: \"x\" is not a pattern: its first component is no registry; write docker.io/library/x",
        ),
        (
            selector(json!({"matchLabels": {"": "x"}})),
            "spec.match.namespaceSelector.matchLabels[]: \"\" is not a label's key, as kubernetes.io/metadata.name",
        ),
        (
            selector(json!({"matchLabels": {"a": "x y"}})),
            "spec.match.namespaceSelector.matchLabels[a]: \"x y\" cannot be a label's value: at most 63 letters, digits, dots, dashes and underscores, a letter or digit at both ends",
        ),
        (
            selector(json!({"matchExpressions": [{"key": "a", "operator": "In"}]})),
            "spec.match.namespaceSelector.matchExpressions[0].values: In and NotIn need at least one value",
        ),
        (
            selector(
                json!({"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["b"]}]}),
            ),
            "spec.match.namespaceSelector.matchExpressions[0].values: Exists and DoesNotExist take no values",
        ),
        (
            selector(json!({"matchLables": {}})),
            "spec.match.namespaceSelector.matchLables: unknown field `matchLables`, expected `matchLabels` or `matchExpressions`",
        ),
    ];
    for ((path, to), expected) in cases {
        let compiled = compile_policy(with(policy_spec(), path, to));
        assert_eq!(problem(&compiled), format!("TrustPolicy \"payments\": {expected}"));
        let policy = &compiled.policies[0];
        assert!(matches(policy, image, "anywhere"), "{expected}");
        assert!(matches!(policy.rule, Rule::Invalid(_)));
    }
}
