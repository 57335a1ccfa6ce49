//! TrustPolicies and TrustSources at admission.

use axum::body::Body;
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Harness, object, review, update};

fn resource(kind: &str, spec: Value) -> Value {
    let resource = if kind == "TrustPolicy" { "trustpolicies" } else { "trustsources" };
    let object = json!({
        "apiVersion": "countersign.dev/v1alpha1", "kind": kind, "metadata": {"name": "x"},
        "spec": spec,
    });
    review("countersign.dev", kind, resource, object)
}

fn policy(include: &str, source: &str) -> Value {
    let authority =
        json!({"name": "a", "sourceRef": {"name": source}, "notary": {"lookup": "Docker"}});
    let images = json!({"include": [include]});
    resource(
        "TrustPolicy",
        json!({"match": {"images": images}, "verify": {"authorities": [authority]}}),
    )
}

fn source(url: &str) -> Value {
    let pin =
        json!({"name": "all", "repositories": ["r.example/api"], "rootKeyIDs": ["0".repeat(64)]});
    let connection = json!({"credentialsSecretRef": {"name": "login"}});
    resource(
        "TrustSource",
        json!({"notary": {"url": url, "pins": [pin]}, "connection": connection}),
    )
}

fn message(response: &Value) -> &str {
    response["status"]["message"].as_str().unwrap()
}

#[tokio::test]
async fn what_does_not_compile_is_refused_with_its_field_and_reason() {
    let harness = Harness::new();
    let response = harness.ask("/resources", &policy("r.example/a**b", "known")).await;
    assert_eq!(response["allowed"], false);
    assert!(message(&response).starts_with("TrustPolicy \"x\": spec.match.images.include[0]: "));
    let response = harness.ask("/resources", &source("http://notary.example")).await;
    assert!(message(&response).starts_with("TrustSource \"x\": spec.notary.url: "));
    // A shape that the definition's schema would not have let through, and no spec at all.
    for spec in [json!({"match": 1}), json!({"unknown": {}}), Value::Null] {
        let response = harness.ask("/resources", &resource("TrustPolicy", spec)).await;
        assert_eq!(response["allowed"], false, "{response}");
        assert!(message(&response).contains("spec"), "{response}");
    }
    assert_eq!(harness.logged()[0], ["resources", "denied", "InvalidPolicy"]);
}

#[tokio::test]
async fn the_order_of_creation_does_not_matter_and_what_is_missing_is_a_warning() {
    let harness = Harness::new();
    let fine = harness.ask("/resources", &policy("r.example/**", "known")).await;
    assert_eq!((&fine["allowed"], &fine["warnings"]), (&json!(true), &Value::Null));
    let response = harness.ask("/resources", &policy("r.example/**", "later")).await;
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("authorities[name=a].sourceRef.name"), "{warning}");
    assert!(warning.contains("TrustSource \"later\" does not exist"), "{warning}");
    let response = harness.ask("/resources", &source("https://notary.example")).await;
    assert_eq!(response["allowed"], true);
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("Secret \"login\" does not exist"), "{warning}");
    // What is wrong in itself is refused though something is missing too.
    let response = harness.ask("/resources", &policy("r.example/a**b", "later")).await;
    assert_eq!(response["allowed"], false);
}

#[tokio::test]
async fn what_compiles_no_more_can_be_labelled_and_deleted_but_not_edited_into_another_fault() {
    let harness = Harness::new();
    let broken = policy("r.example/a**b", "known");
    let mut labelled = broken.clone();
    labelled["request"]["object"]["metadata"]["labels"] = json!({"a": "b"});
    let response = harness.ask("/resources", &update(labelled, object(&broken))).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("include[0]"));
    let edited = update(policy("r.example/c**d", "known"), object(&broken));
    assert_eq!(harness.ask("/resources", &edited).await["allowed"], false);
    let mut deleted = broken;
    deleted["request"]["operation"] = json!("DELETE");
    deleted["request"]["object"] = Value::Null;
    assert_eq!(harness.ask("/resources", &deleted).await["allowed"], true);
}

#[tokio::test]
async fn what_is_no_review_of_a_resource_is_not_let_through() {
    let harness = Harness::new();
    let other = review("apps", "Deployment", "deployments", json!({"metadata": {"name": "x"}}));
    let response = harness.ask("/resources", &other).await;
    assert!(message(&response).contains("not apps/Deployment"), "{response}");
    let mut nothing = policy("r.example/**", "known");
    nothing["request"]["object"] = Value::Null;
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let deep = policy("r.example/**", "known").to_string().replacen(
        "\"include\":[",
        &format!("\"include\":[{deep},"),
        1,
    );
    for body in [nothing.to_string(), deep, "{}".to_owned()] {
        assert_eq!(harness.post("/resources", body).await.0, StatusCode::BAD_REQUEST);
    }
    let large = vec![b' '; 9 << 20];
    assert_eq!(harness.post("/resources", large).await.0, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn k12_a_resource_larger_than_any_is_not_read() {
    let harness = Harness::new();
    let review = |zeros: usize| {
        let spec = json!({"match": vec![0; zeros]});
        Body::from(resource("TrustPolicy", spec).to_string())
    };
    let (status, _) = harness.post("/resources", review(400_000)).await;
    assert_eq!(status, StatusCode::OK);
    let (status, text) = harness.post("/resources", review(600_000)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("over the limit of 1048576 bytes"), "{text}");
}

#[tokio::test]
async fn k12_what_is_wrong_with_a_huge_resource_is_said_in_few_words() {
    let huge = "é*".repeat(1 << 17);
    let mut selected = policy("r.example/**", "known");
    let mut labels = serde_json::Map::new();
    labels.insert(huge.clone(), json!("x"));
    selected["request"]["object"]["spec"]["match"]["namespaceSelector"] =
        json!({"matchLabels": labels});
    let mut pinned = source("https://notary.example");
    pinned["request"]["object"]["spec"]["notary"]["pins"][0]["name"] = json!(huge);
    let mut unknown = serde_json::Map::new();
    unknown.insert(huge.clone(), json!({}));
    let harness = Harness::new();
    for review in
        [policy(&huge, "known"), selected, pinned, resource("TrustPolicy", unknown.into())]
    {
        let response = harness.ask("/resources", &review).await;
        assert_eq!(response["allowed"], false);
        let length = message(&response).chars().count();
        assert!((20..4096).contains(&length), "{length} characters");
    }
}
