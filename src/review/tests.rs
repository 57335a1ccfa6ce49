use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use countersign_verify::outcome::Refusal;
use futures_util::poll;
use jiff::Timestamp;

use super::*;
use crate::api;
use crate::cluster::pulls::Scope;
use crate::http::testing::Trap;
use crate::metadata::MemoryStore;
use crate::registry::RegistryConfig;

fn reviewer(yaml: &str, unmatched: Action) -> Arc<Reviewer> {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("policies.yaml");
    std::fs::write(&file, yaml).expect("written");
    let compiled = api::load(&[file], Timestamp::now()).expect("policies that compile");
    let clock = Arc::new(Clock::system());
    let repositories = Repositories::new(MemoryStore::in_process(), Arc::clone(&clock));
    let registry = Registry::new(RegistryConfig::default());
    let snapshot = Snapshot::new(compiled, &std::collections::BTreeSet::new());
    Arc::new(Reviewer::new(snapshot, repositories, registry, unmatched, clock))
}

async fn review(reviewer: &Arc<Reviewer>, namespace: Option<&str>, image: &str) -> ImageReview {
    let usage = ImageUse { path: "spec.containers[name=app]".to_owned(), image: image.to_owned() };
    let request = Request {
        namespace,
        subject: Subject::Pod,
        uses: &[usage],
        puller: Puller::default(),
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

/// The reviewer in a cluster whose API server answers `answer`; and what is known of the cluster.
fn in_cluster(
    yaml: &str,
    unmatched: Action,
    answer: impl Fn(&str) -> Option<(u16, String)> + Clone + Send + 'static,
) -> (Arc<Reviewer>, Arc<View>) {
    let (client, _) = crate::cluster::testing::api_server(answer);
    let view = Arc::new(View::of_test(client));
    let reviewer = Arc::into_inner(reviewer(yaml, unmatched)).expect("one reference");
    (Arc::new(reviewer.in_cluster(Arc::clone(&view))), view)
}

fn labelled(env: &str) -> Option<(u16, String)> {
    let metadata = serde_json::json!({"name": "any", "labels": {"env": env}});
    Some((200, serde_json::json!({"metadata": metadata}).to_string()))
}

#[tokio::test]
async fn k11_policies_that_may_be_outdated_let_nothing_in_whatever_they_say() {
    let everywhere = allow_unverified("");
    for unmatched in [Action::Deny, Action::Warn, Action::Audit] {
        let (reviewer, view) = in_cluster(&everywhere, unmatched, |_| None);
        let image = review(&reviewer, Some("dev"), "nginx:1").await;
        assert_eq!(image.decision.effect(), Effect::Deny);
        assert_eq!(codes(&image), ["PoliciesUnavailable"]);
        assert!(image.decision.denied_for_want_of_evidence());
        view.freshness.put_in_place(true);
        let image = review(&reviewer, Some("dev"), "nginx:1").await;
        assert_eq!(image.decision.effect(), Effect::Allow);
    }
}

#[tokio::test]
async fn k14_a_namespace_that_is_not_known_yet_is_looked_up_if_a_policy_asks_for_its_labels() {
    let by_label = allow_unverified("env: dev");
    for (answer, wanted) in [
        (labelled("dev"), Effect::Allow),
        (labelled("prod"), Effect::Deny),
        (None, Effect::Deny),
        (Some((404, "{}".to_owned())), Effect::Deny),
    ] {
        let said = answer.clone();
        let (reviewer, view) = in_cluster(&by_label, Action::Deny, move |_| answer.clone());
        view.freshness.put_in_place(true);
        let image = review(&reviewer, Some("dev"), "nginx:1").await;
        assert_eq!(image.decision.effect(), wanted, "{said:?}");
        if said.is_none_or(|(status, _)| status != 200) {
            assert_eq!(codes(&image), ["NamespaceUnavailable"]);
        }
    }
    let nobody = |_: &str| panic!("no policy asks for labels");
    let by_name = allow_unverified("kubernetes.io/metadata.name: dev");
    let (reviewer, view) = in_cluster(&by_name, Action::Deny, nobody);
    view.freshness.put_in_place(true);
    let image = review(&reviewer, Some("dev"), "nginx:1").await;
    assert_eq!(image.decision.effect(), Effect::Allow);
}

/// Pull secrets of every namespace, by an API server that answers so; and what it was asked.
fn pull_secrets(
    reviewer: Arc<Reviewer>,
    answer: impl Fn(&str) -> Option<(u16, String)> + Clone + Send + 'static,
) -> (Arc<Reviewer>, Arc<std::sync::Mutex<Vec<String>>>) {
    let (client, asked) = crate::cluster::testing::api_server(answer);
    let secrets = PullSecrets::new(client, Scope::Everywhere);
    let reviewer = Arc::into_inner(reviewer).expect("one reference");
    (Arc::new(reviewer.with_pull_secrets(Some(secrets))), asked)
}

fn signed(include: &str) -> String {
    format!(
        "apiVersion: countersign.dev/v1alpha1\n\
         kind: TrustPolicy\n\
         metadata: {{name: signed}}\n\
         spec:\n  \
           match: {{images: {{include: [\"{include}\"], exclude: []}}, namespaceSelector: {{}}}}\n  \
           verify:\n    \
             authorities: [{{name: a, sourceRef: {{name: corp}}, notary: {{lookup: Docker}}}}]\n\
         ---\n\
         apiVersion: countersign.dev/v1alpha1\n\
         kind: TrustSource\n\
         metadata: {{name: corp}}\n\
         spec:\n  \
           notary:\n    \
             url: https://127.0.0.1:1\n    \
             pins: [{{name: all, repositories: [\"127.0.0.1:1/app\"], rootKeyIDs: [\"{}\"]}}]\n",
        "0".repeat(64)
    )
}

#[tokio::test]
async fn secrets_are_read_for_tags_of_registries_that_policies_name_and_for_nothing_else() {
    let digest = "0".repeat(64);
    for (include, image) in [
        // By digest, of a host that nobody names, of a policy that verifies nothing, no image.
        ("127.0.0.1:1/**", format!("127.0.0.1:1/app@sha256:{digest}")),
        ("127.0.0.1:1/**", format!("127.0.0.1:1/app:1@sha256:{digest}")),
        ("**", "127.0.0.1:1/app:1".to_owned()),
        ("127.0.0.1:1/**", "registry.example.com/app:1".to_owned()),
        ("127.0.0.1:1/**", "Not An Image".to_owned()),
    ] {
        let nobody = |uri: &str| unreachable!("{uri} is not to be asked for");
        let (reviewer, asked) = pull_secrets(reviewer(&signed(include), Action::Deny), nobody);
        let reviewed = review(&reviewer, Some("payments"), &image).await;
        assert_eq!(reviewed.decision.effect(), Effect::Deny);
        assert!(asked.lock().expect("no panic").is_empty(), "{image}");
    }
    let (reviewer, asked) = pull_secrets(reviewer(&signed("127.0.0.1:1/**"), Action::Deny), |_| {
        Some((500, String::new()))
    });
    review(&reviewer, Some("payments"), "127.0.0.1:1/app:1").await;
    let asked = asked.lock().expect("no panic").clone();
    assert_eq!(asked, ["/api/v1/namespaces/payments/serviceaccounts/default"]);
}

#[tokio::test]
async fn o7_whoever_drops_a_review_that_is_not_ready_at_once_has_asked_nobody() {
    for case in 0..4 {
        // Of its own: what one case has begun goes on.
        let trap = Trap::set().await;
        let host = trap.address.to_string();
        let at_trap = signed(&format!("{host}/**")).replace("127.0.0.1:1", &host);
        let labels = "namespaceSelector: {matchLabels: {env: dev}}";
        let by_label = at_trap.replace("namespaceSelector: {}", labels);
        let asked = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&asked);
        let api_server = move |_: &str| {
            count.fetch_add(1, Ordering::SeqCst);
            None
        };
        let (by_tag, by_digest) =
            (format!("{host}/app:1"), format!("{host}/app@sha256:{}", "0".repeat(64)));
        let (reviewer, image) = match case {
            0 => (reviewer(&at_trap, Action::Deny), by_tag),
            1 => (reviewer(&at_trap, Action::Deny), by_digest),
            2 => {
                let (looks_up, view) = in_cluster(&by_label, Action::Deny, api_server);
                view.freshness.put_in_place(true);
                (looks_up, by_digest)
            }
            _ => (pull_secrets(reviewer(&at_trap, Action::Deny), api_server).0, by_tag),
        };
        let usage = ImageUse { path: "spec.containers[name=app]".to_owned(), image };
        let request = Request {
            namespace: Some("payments"),
            subject: Subject::Pod,
            uses: &[usage],
            puller: Puller::default(),
            deadline: Instant::now() + Duration::from_secs(1),
        };
        {
            let review = pin!(reviewer.review(&request));
            assert!(poll!(review).is_pending());
        }
        let all = async || trap.contacts().await + asked.load(Ordering::SeqCst);
        assert_eq!(all().await, 0, "{request:?}");
        reviewer.review(&request).await;
        assert!(all().await > 0, "{request:?}");
    }
}
