use std::time::Duration;

use countersign_verify::outcome::Refusal;
use jiff::Timestamp;

use super::*;
use crate::api;
use crate::metadata::MemoryStore;
use crate::registry::RegistryConfig;

fn reviewer(yaml: &str, unmatched: Action) -> Arc<Reviewer> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("policies.yaml");
    std::fs::write(&file, yaml).expect("written");
    let compiled = api::load(&[file], Timestamp::now()).expect("policies that compile");
    let clock = Arc::new(Clock::system());
    let repositories = Repositories::new(MemoryStore::in_process(), Arc::clone(&clock));
    let registry = Registry::new(RegistryConfig {
        docker_configs: Vec::new(),
        certs_dir: None,
        token_hosts: std::collections::BTreeMap::new(),
        tag_ttl: Duration::from_secs(10),
        refused_ttl: Duration::from_secs(2),
    });
    let snapshot = Snapshot::new(compiled, &std::collections::BTreeSet::new());
    Arc::new(Reviewer::new(snapshot, repositories, registry, unmatched, clock))
}

async fn review(reviewer: &Arc<Reviewer>, namespace: Option<&str>, image: &str) -> ImageReview {
    let usage = ImageUse { path: "spec.containers[name=app]".to_owned(), image: image.to_owned() };
    let request = Request {
        namespace,
        subject: Subject::Pod,
        uses: &[usage],
        deadline: Instant::now() + Duration::from_secs(1),
    };
    let mut review = reviewer.review(&request).await;
    assert_eq!(review.images.len(), 1);
    review.images.remove(0)
}

fn codes(image: &ImageReview) -> Vec<&'static str> {
    image
        .decision
        .verdicts
        .iter()
        .filter_map(|verdict| verdict.refusal())
        .map(Refusal::code)
        .collect()
}

fn allow_unverified(selector: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1alpha1\n\
         kind: TrustPolicy\n\
         metadata: {{name: dev}}\n\
         spec:\n  \
           match:\n    \
             images: {{include: [\"docker.io/**\"], exclude: []}}\n    \
             namespaceSelector: {{matchLabels: {{{selector}}}}}\n  \
           allowUnverified: {{reason: development}}\n"
    )
}

#[tokio::test]
async fn k14_a_policy_for_labels_that_are_not_known_lets_nothing_in() {
    let reviewer = reviewer(&allow_unverified("env: dev"), Action::Deny);
    let image = review(&reviewer, Some("prod"), "nginx:1").await;
    assert_eq!(image.decision.effect(), Effect::Deny);
    assert_eq!(codes(&image), ["NamespaceUnavailable"]);
    assert!(image.decision.denied_for_want_of_evidence());
}

#[tokio::test]
async fn a_policy_for_a_namespace_by_name_holds_there_only() {
    let yaml = allow_unverified("kubernetes.io/metadata.name: dev");
    let reviewer = reviewer(&yaml, Action::Deny);
    let image = review(&reviewer, Some("dev"), "nginx:1").await;
    assert_eq!(image.decision.effect(), Effect::Allow);
    let image = review(&reviewer, Some("prod"), "nginx:1").await;
    assert_eq!(codes(&image), ["NoMatchingPolicy"]);
    let image = review(&reviewer, None, "nginx:1").await;
    assert_eq!(codes(&image), ["NamespaceUnavailable"]);
}

#[tokio::test]
async fn k6_the_installation_s_setting_holds_where_no_policy_denies() {
    let audit = allow_unverified("kubernetes.io/metadata.name: dev")
        .replace("  allowUnverified", "  action: Audit\n  allowUnverified");
    for (unmatched, effect) in
        [(Action::Deny, Effect::Deny), (Action::Warn, Effect::Warn), (Action::Audit, Effect::Allow)]
    {
        let reviewer = reviewer(&audit, unmatched);
        let image = review(&reviewer, Some("dev"), "nginx:1").await;
        assert_eq!(image.decision.effect(), effect);
        assert_eq!(codes(&image), ["NoMatchingPolicy"]);
    }
}

#[tokio::test]
async fn what_is_no_reference_is_denied_and_quoted_in_one_short_line() {
    let reviewer = reviewer(&allow_unverified("kubernetes.io/metadata.name: dev"), Action::Audit);
    let forged = format!("x y\n1 of 1 images admitted{}", "z".repeat(100_000));
    let image = review(&reviewer, Some("dev"), &forged).await;
    assert_eq!(image.decision.effect(), Effect::Deny);
    let refusal = image.decision.verdicts[0].refusal().expect("refused").to_string();
    assert_eq!(refusal.lines().count(), 1, "{refusal}");
    assert!(refusal.len() < 2000, "{}", refusal.len());
}
