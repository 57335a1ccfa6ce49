//! An UPDATE is reviewed for what it changes.

use serde_json::{Value, json};

use crate::harness::{Harness, deployment_review, object, one, pod_review, review, update};

fn two(first: &str, second: &str) -> Value {
    json!({"containers": [{"name": "a", "image": first}, {"name": "b", "image": second}]})
}

#[tokio::test]
async fn k2_a_changed_image_is_reviewed_while_the_pod_is_deleted_too() {
    let old = pod_review(two("r.example/a:1", "r.example/b:1"));
    let mut new = update(pod_review(two("r.example/a:1", "r.example/unsigned:1")), object(&old));
    for deleted in [false, true] {
        if deleted {
            new["request"]["object"]["metadata"]["deletionTimestamp"] =
                json!("2026-01-01T00:00:00Z");
        }
        let harness = Harness::new();
        assert_eq!(harness.validate(&new).await["allowed"], false);
        let path = "spec.containers[name=b]".to_owned();
        assert_eq!(harness.only_uses(), [(path, "r.example/unsigned:1".to_owned())]);
    }
}

#[tokio::test]
async fn k2_unchanged_images_are_allowed_without_a_review() {
    let pod = pod_review(one("r.example/unsigned:1"));
    let deployment = deployment_review(one("r.example/unsigned:1"));
    for same in [pod, deployment] {
        let mut finalised = update(same.clone(), object(&same));
        finalised["request"]["object"]["metadata"]["finalizers"] = json!([]);
        finalised["request"]["object"]["metadata"]["deletionTimestamp"] = json!("now");
        let harness = Harness::new();
        assert_eq!(harness.validate(&finalised).await["allowed"], true);
        assert_eq!(harness.patch(&finalised).await, None);
        assert!(harness.asked().is_empty(), "no review, no fetch");
    }
}

#[tokio::test]
async fn k2_all_images_of_a_changed_template_are_reviewed() {
    let old = deployment_review(two("r.example/a:1", "r.example/unsigned:1"));
    let new = deployment_review(two("r.example/a:2", "r.example/unsigned:1"));
    let harness = Harness::new();
    assert_eq!(harness.validate(&update(new, object(&old))).await["allowed"], false);
    assert_eq!(harness.only_uses().len(), 2);
}

#[tokio::test]
async fn an_image_is_the_same_only_under_its_own_name_and_list() {
    let old = pod_review(json!({
        "containers": [{"name": "a", "image": "r.example/a:1"}],
        "initContainers": [{"name": "b", "image": "r.example/b:1"}],
    }));
    for changed in [
        json!({"containers": [{"name": "c", "image": "r.example/a:1"}]}),
        json!({"containers": [{"name": "b", "image": "r.example/b:1"}]}),
        json!({"volumes": [{"name": "a", "image": {"reference": "r.example/a:1"}}]}),
        json!({"containers": [{"image": "r.example/a:1"}]}),
    ] {
        let harness = Harness::new();
        harness.validate(&update(pod_review(changed), object(&old))).await;
        assert_eq!(harness.only_uses().len(), 1);
    }
}

#[tokio::test]
async fn an_old_object_that_cannot_be_read_leaves_everything_to_review() {
    let unreadable = [
        json!(null),
        json!("text"),
        json!({"spec": {"containers": "text"}}),
        json!({"spec": null}),
        json!({"spec": {"containers": [{"name": "api", "image": 7}]}}),
    ];
    for old in unreadable {
        let harness = Harness::new();
        let review = update(pod_review(one("r.example/unsigned:1")), old);
        assert_eq!(harness.validate(&review).await["allowed"], false);
        assert_eq!(harness.only_uses().len(), 1);
        // In the alphabet's order: what says where the pod spec is comes after the objects.
        let (_, answer) = harness.post("/validate", review.to_string()).await;
        assert!(String::from_utf8(answer).unwrap().contains(r#""allowed":false"#));
    }
}

#[tokio::test]
async fn a_create_is_not_compared_with_anything() {
    let harness = Harness::new();
    let mut review = pod_review(one("r.example/unsigned:1"));
    review["request"]["oldObject"] = object(&review);
    assert_eq!(harness.validate(&review).await["allowed"], false);
}

#[tokio::test]
async fn what_changes_no_image_is_allowed_unseen() {
    let mut requests = Vec::new();
    for operation in ["DELETE", "CONNECT"] {
        let mut request = pod_review(one("r.example/unsigned:1"));
        request["request"]["operation"] = json!(operation);
        requests.push(request.clone());
        request["request"]["object"] = Value::Null;
        requests.push(request);
    }
    let mut scale = review("autoscaling", "Scale", "deployments", json!({"spec": {"replicas": 3}}));
    scale["request"]["subResource"] = json!("scale");
    requests.push(scale);
    let mut status = pod_review(one("r.example/unsigned:1"));
    status["request"]["subResource"] = json!("status");
    requests.push(status);
    for request in requests {
        let harness = Harness::new();
        assert_eq!(harness.validate(&request).await["allowed"], true, "{request}");
        assert!(harness.asked().is_empty());
    }
}
