//! From verdicts to what the API server is told.

use countersign::review::Subject;
use serde_json::json;

use crate::harness::{Harness, deployment_review, digest, object, one, pod_review, review, update};

#[tokio::test]
async fn a_refused_pod_is_forbidden_with_the_message() {
    let harness = Harness::new();
    let response = harness.validate(&pod_review(one("r.example/unsigned:1"))).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 403);
    assert_eq!(response["status"]["reason"], "Forbidden");
    let message = response["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.containers[name=api]"), "{message}");
    let line = r#"countersign_reviews_total{action="validate",outcome="denied",code="Unsigned"} 1"#;
    assert!(harness.metrics().contains(line), "{}", harness.metrics());
}

#[tokio::test]
async fn an_image_without_any_verdict_is_refused() {
    let harness = Harness::new();
    for request in [pod_review(one("r.example/unasked:1")), deployment_review(one("unasked"))] {
        assert_eq!(harness.validate(&request).await["allowed"], false);
    }
}

#[tokio::test]
async fn a_template_without_evidence_warns_and_its_pod_is_refused() {
    let harness = Harness::new();
    let response = harness.validate(&deployment_review(one("r.example/gone:1"))).await;
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("RegistryUnavailable") && warning.contains("\"p\""), "{warning}");
    assert!(warning.contains("spec.template.spec.containers[name=api]"), "{warning}");
    assert!(!warning.contains("secret"), "causes are for logs");
    assert!(harness.metrics().contains(r#"outcome="warned",code="RegistryUnavailable"} 1"#));
    let response = harness.validate(&pod_review(one("r.example/gone:1"))).await;
    assert_eq!(response["allowed"], false);
}

#[tokio::test]
async fn a_template_with_bad_evidence_beside_missing_evidence_is_refused() {
    let harness = Harness::new();
    let spec = json!({"containers": [
        {"name": "a", "image": "r.example/gone:1"},
        {"name": "b", "image": "r.example/unsigned:1"},
    ]});
    assert_eq!(harness.validate(&deployment_review(spec)).await["allowed"], false);
}

#[tokio::test]
async fn templates_only_warn_where_that_is_set() {
    let harness = Harness::warning_templates();
    let response = harness.validate(&deployment_review(one("r.example/unsigned:1"))).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("Unsigned"));
    let response = harness.validate(&pod_review(one("r.example/unsigned:1"))).await;
    assert_eq!(response["allowed"], false, "pods are refused all the same");
}

#[tokio::test]
async fn warnings_are_single_lines_within_the_api_servers_bounds() {
    let harness = Harness::warning_templates();
    let containers: Vec<_> = (0..200)
        .map(|n| json!({"name": format!("c{n}"), "image": format!("r.example/unsigned/noted:{n}")}))
        .collect();
    let response = harness.validate(&deployment_review(json!({"containers": containers}))).await;
    let warnings = response["warnings"].as_array().unwrap();
    let length = |warning: &serde_json::Value| warning.as_str().unwrap().chars().count();
    assert!(warnings.iter().all(|warning| length(warning) < 256));
    assert!(warnings.iter().map(length).sum::<usize>() <= 4096);
    assert!(warnings.iter().all(|warning| !warning.as_str().unwrap().contains('\n')));
    assert!(warnings.last().unwrap().as_str().unwrap().contains("more warnings"));
}

#[tokio::test]
async fn r1_a_pod_is_pinned_to_the_verified_digest() {
    let harness = Harness::new();
    let spec = json!({
        "containers": [
            {"name": "a", "image": "r.example/a@sha256:".to_owned() + &"0".repeat(64)},
            {"name": "b", "image": "nginx:1.27"},
            {"name": "c", "image": "r.example/unsigned:1"},
        ],
        "initContainers": [{"name": "i", "image": "r.example:5000/init"}],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "model", "image": {"reference": "r.example/model:1"}},
        ],
    });
    let patch = harness.patch(&pod_review(spec)).await.unwrap();
    let digest = digest();
    let replace = |path: &str, image: &str| json!({"op": "replace", "path": path, "value": format!("{image}@{digest}")});
    let expected = [
        replace("/spec/containers/1/image", "docker.io/library/nginx:1.27"),
        replace("/spec/initContainers/0/image", "r.example:5000/init:latest"),
        replace("/spec/volumes/1/image/reference", "r.example/model:1"),
    ];
    assert_eq!(patch, json!(expected));
    assert_eq!(harness.asked()[0].subject, Subject::PodToPin);
}

#[tokio::test]
async fn only_changed_images_are_pinned_in_their_own_places() {
    let harness = Harness::new();
    let both = |second: &str| {
        pod_review(json!({"containers": [
            {"name": "a", "image": "r.example/a:1"}, {"name": "b", "image": second},
        ]}))
    };
    let request = update(both("r.example/b:2"), object(&both("r.example/b:1")));
    let patch = harness.patch(&request).await.unwrap();
    let value = format!("r.example/b:2@{}", digest());
    let path = "/spec/containers/1/image";
    assert_eq!(patch, json!([{"op": "replace", "path": path, "value": value}]));
}

#[tokio::test]
async fn the_mutating_webhook_refuses_nothing() {
    let harness = Harness::new();
    for image in ["r.example/unsigned:1", "r.example/gone:1", "panic", "silent", "", "not an image"]
    {
        assert_eq!(harness.patch(&pod_review(one(image))).await, None, "{image}");
    }
    let unknown = review("example.com", "Widget", "widgets", json!({}));
    assert_eq!(harness.patch(&unknown).await, None);
}

#[tokio::test]
async fn a_pod_that_only_warns_is_let_in() {
    let harness = Harness::new();
    let response = harness.validate(&pod_review(one("r.example/warned:1"))).await;
    assert_eq!(response["allowed"], true);
    let line = r#"countersign_refusals_total{policy="p",action="Warn",code="Unsigned"} 1"#;
    assert!(harness.metrics().contains(line), "{}", harness.metrics());
}
