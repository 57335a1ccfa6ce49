//! The chart's webhooks against what the program knows.

use std::collections::BTreeSet;

use countersign::admission::Kinds;
use countersign_e2e::Outcome;
use countersign_e2e::chart::Rendered;
use serde_json::Value;

#[test]
fn the_rules_cover_every_kind_that_is_known_and_no_other() -> Outcome<()> {
    let rendered = Rendered::new(&["--set=unmatched=Deny"])?;
    let webhook = rendered.webhook("validate.countersign.dev")?;
    let strings = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(Into::into).collect()
    };
    let mut covered = BTreeSet::new();
    for rule in webhook["rules"].as_array().into_iter().flatten() {
        assert_eq!(strings(&rule["operations"]), ["CREATE", "UPDATE"]);
        assert_eq!(strings(&rule["apiVersions"]), ["v1"]);
        for group in strings(&rule["apiGroups"]) {
            covered
                .extend(strings(&rule["resources"]).into_iter().map(|name| (group.clone(), name)));
        }
    }
    let known = Kinds::built_in().map(|(group, resource)| (group.to_owned(), resource.to_owned()));
    let mut wanted: BTreeSet<_> = known.collect();
    // Its object is the pod.
    wanted.insert((String::new(), "pods/ephemeralcontainers".to_owned()));
    assert_eq!(covered, wanted);
    Ok(())
}
