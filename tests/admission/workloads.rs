//! Every image of every workload kind is seen, where it is.

use countersign::admission::{CustomKind, Kinds};
use countersign::review::Subject;
use serde_json::{Value, json};

use crate::harness::{Harness, one, pod_review, review};

fn everything() -> Value {
    json!({
        "containers": [{"name": "api", "image": "r.example/api:1"}],
        "initContainers": [
            {"name": "init", "image": "r.example/init:1"},
            {"name": "sidecar", "image": "r.example/sidecar:1", "restartPolicy": "Always"},
        ],
        "ephemeralContainers": [{"name": "debug", "image": "r.example/debug:1"}],
        "volumes": [
            {"name": "tmp", "emptyDir": {}},
            {"name": "model", "image": {"reference": "r.example/model:1", "pullPolicy": "Always"}},
        ],
        "serviceAccountName": "builder",
        "imagePullSecrets": [{"name": "first"}, {}, {"name": "second"}],
    })
}

fn paths(at: &str) -> Vec<(String, String)> {
    [
        ("containers[name=api]", "r.example/api:1"),
        ("initContainers[name=init]", "r.example/init:1"),
        ("initContainers[name=sidecar]", "r.example/sidecar:1"),
        ("ephemeralContainers[name=debug]", "r.example/debug:1"),
        ("volumes[name=model].image.reference", "r.example/model:1"),
    ]
    .map(|(path, image)| (format!("{at}.{path}"), image.to_owned()))
    .to_vec()
}

#[tokio::test]
async fn k1_every_image_of_a_pod_is_seen() {
    let harness = Harness::new();
    let response = harness.validate(&pod_review(everything())).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(harness.only_uses(), paths("spec"));
    let asked = harness.asked().remove(0);
    assert_eq!(asked.subject, Subject::Pod);
    assert_eq!(asked.namespace.as_deref(), Some("default"));
    assert_eq!(asked.service_account, "builder");
    assert_eq!(asked.pull_secrets, ["first", "", "second"]);
}

#[tokio::test]
async fn a_pod_that_says_nothing_of_its_pulling_is_reviewed_like_any_other() {
    let mut nulls = one("r.example/api:1");
    nulls["serviceAccountName"] = Value::Null;
    nulls["imagePullSecrets"] = Value::Null;
    for spec in [one("r.example/api:1"), nulls] {
        let harness = Harness::new();
        assert_eq!(harness.validate(&pod_review(spec)).await["allowed"], true);
        let asked = harness.asked().remove(0);
        assert_eq!((asked.service_account.as_str(), asked.pull_secrets.len()), ("", 0));
    }
}

#[tokio::test]
async fn a_pod_is_pulled_as_it_is_now() {
    let harness = Harness::new();
    let with = |image: &str, secret: &str| {
        let mut spec = one(image);
        spec["imagePullSecrets"] = json!([{"name": secret}]);
        pod_review(spec)
    };
    let old = with("r.example/api:1", "old");
    let now = with("r.example/api:2", "now");
    harness.validate(&crate::harness::update(now, crate::harness::object(&old))).await;
    assert_eq!(harness.asked().remove(0).pull_secrets, ["now"]);
}

#[tokio::test]
async fn k1_ephemeral_containers_by_the_subresource() {
    for sub_resource in ["ephemeralcontainers", "resize"] {
        let harness = Harness::new();
        let old = pod_review(one("r.example/api:1"));
        let mut spec = one("r.example/api:1");
        spec["ephemeralContainers"] = json!([{"name": "sh", "image": "r.example/unsigned:1"}]);
        let mut review = crate::harness::update(pod_review(spec), crate::harness::object(&old));
        review["request"]["subResource"] = json!(sub_resource);
        assert_eq!(harness.validate(&review).await["allowed"], false);
        let path = "spec.ephemeralContainers[name=sh]".to_owned();
        assert_eq!(harness.only_uses(), [(path, "r.example/unsigned:1".to_owned())]);
    }
}

#[tokio::test]
async fn every_built_in_kind_keeps_its_pod_spec_there() {
    let nested =
        |path: &str| path.rsplit('.').fold(everything(), |inner, step| json!({ step: inner }));
    let kinds = [
        ("", "PodTemplate", "podtemplates", "template.spec"),
        ("", "ReplicationController", "replicationcontrollers", "spec.template.spec"),
        ("apps", "Deployment", "deployments", "spec.template.spec"),
        ("apps", "ReplicaSet", "replicasets", "spec.template.spec"),
        ("apps", "StatefulSet", "statefulsets", "spec.template.spec"),
        ("apps", "DaemonSet", "daemonsets", "spec.template.spec"),
        ("batch", "Job", "jobs", "spec.template.spec"),
        ("batch", "CronJob", "cronjobs", "spec.jobTemplate.spec.template.spec"),
        ("argoproj.io", "Rollout", "rollouts", "spec.template.spec"),
    ];
    for (group, kind, resource, path) in kinds {
        let harness = Harness::new();
        harness.validate(&review(group, kind, resource, nested(path))).await;
        assert_eq!(harness.only_uses(), paths(path), "{kind}");
        let asked = harness.asked().remove(0);
        assert_eq!(asked.service_account, "builder", "{kind}");
        assert_eq!(asked.pull_secrets, ["first", "", "second"], "{kind}");
        assert_eq!(harness.asked()[0].subject, Subject::Template, "{kind}");
        let patch = harness.patch(&review(group, kind, resource, nested(path))).await;
        assert_eq!(patch, None, "templates are not pinned: {kind}");
    }
}

#[tokio::test]
async fn k13_a_kind_named_like_a_built_in_one_is_not_mistaken_for_it() {
    let template = json!({"spec": {"template": {"spec": one("r.example/api:1")}}});
    for (group, kind, resource) in [
        ("example.com", "Deployment", "deployments"),
        ("apps", "Deployment", "widgets"),
        ("", "Deployment", "deployments"),
        ("apps", "Pod", "pods"),
    ] {
        let harness = Harness::new();
        let response = harness.validate(&review(group, kind, resource, template.clone())).await;
        assert_eq!(response["allowed"], false, "what cannot be verified is denied");
        let message = response["status"]["message"].as_str().unwrap();
        assert!(message.contains("does not know where"), "{message}");
        assert!(message.contains(kind) && message.contains("--custom-kind"), "{message}");
        assert!(harness.asked().is_empty());
    }
}

#[tokio::test]
async fn a_configured_path_that_leads_nowhere_warns() {
    let harness = Harness::new();
    let object = json!({"spec": {"workloadRef": {"name": "x"}}});
    let response = harness.validate(&review("argoproj.io", "Rollout", "rollouts", object)).await;
    assert_eq!(response["allowed"], true);
    assert!(response["warnings"][0].as_str().unwrap().contains("spec.template"));
    let empty = review("", "ReplicationController", "replicationcontrollers", json!({"spec": {}}));
    assert!(harness.validate(&empty).await["warnings"].is_null());
}

#[tokio::test]
async fn k3_owners_and_zero_replicas_change_nothing() {
    let harness = Harness::new();
    let mut owned = pod_review(one("r.example/unsigned:1"));
    owned["request"]["object"]["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "trusted", "uid": "1"}]);
    assert_eq!(harness.validate(&owned).await["allowed"], false);
    let none = crate::harness::deployment_review(one("r.example/unsigned:1"));
    assert_eq!(harness.validate(&none).await["allowed"], false);
}

#[tokio::test]
async fn k4_labels_and_annotations_change_nothing() {
    let harness = Harness::new();
    let mut labelled = pod_review(one("r.example/unsigned:1"));
    let skips = json!({"countersign.dev/skip": "true", "admission.countersign.dev/ignore": "1"});
    labelled["request"]["object"]["metadata"]["labels"] = skips.clone();
    labelled["request"]["object"]["metadata"]["annotations"] = skips;
    assert_eq!(harness.validate(&labelled).await["allowed"], false);
}

#[tokio::test]
async fn entries_that_share_a_name_are_told_by_index() {
    let harness = Harness::new();
    let spec = json!({"containers": [
        {"name": "a", "image": "r.example/one:1"},
        {"name": "a", "image": "r.example/unsigned:1"},
        {"image": "r.example/three:1"},
        {"name": "x]\n", "image": null},
    ]});
    assert_eq!(harness.validate(&pod_review(spec)).await["allowed"], false);
    let expected = [
        ("spec.containers[0]", "r.example/one:1"),
        ("spec.containers[1]", "r.example/unsigned:1"),
        ("spec.containers[2]", "r.example/three:1"),
        ("spec.containers[3]", ""),
    ];
    assert_eq!(harness.only_uses(), expected.map(|(a, b)| (a.to_owned(), b.to_owned())));
}

#[tokio::test]
async fn the_order_of_members_does_not_hide_the_object() {
    for sub_resource in ["", r#", "subResource": "ephemeralcontainers""#] {
        let harness = Harness::new();
        let body = format!(
            r#"{{"request": {{
                "object": {{"spec": {{"containers": [{{"image": "r.example/unsigned:1", "name": "a"}}]}}}},
                "operation": "CREATE",
                "resource": {{"resource": "pods", "version": "v1", "group": ""}},
                "kind": {{"kind": "P\u006fd", "version": "v1", "group": ""}},
                "uid": "u-1"{sub_resource}}},
              "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"}}"#
        );
        let (_, answer) = harness.post("/validate", body).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap();
        assert_eq!(answer["response"]["allowed"], false);
    }
}

#[test]
fn custom_kinds_are_checked() {
    let kind = |group: &str, kind: &str, template: &str| CustomKind {
        group: group.to_owned(),
        kind: kind.to_owned(),
        template: template.to_owned(),
    };
    assert!(Kinds::new(&[kind("argoproj.io", "Rollout", "spec.template")]).is_ok());
    for bad in [
        vec![kind("apps", "Deployment", "metadata")],
        vec![kind("", "Pod", "spec.template")],
        vec![kind("a.io", "B", "spec..template")],
        vec![kind("a.io", "B", "")],
        vec![kind("a.io", "B", "spec"), kind("a.io", "B", "spec.template")],
    ] {
        assert!(Kinds::new(&bad).is_err(), "{bad:?}");
    }
}

#[test]
fn custom_kinds_are_read_from_the_command_line() {
    let kind: CustomKind = "argoproj.io/Rollout=spec.template".parse().unwrap();
    assert_eq!(
        (&*kind.group, &*kind.kind, &*kind.template),
        ("argoproj.io", "Rollout", "spec.template")
    );
    for bad in [
        "",
        "Rollout",
        "Rollout=spec",
        "argoproj.io/Rollout",
        "/Rollout=spec",
        "a.io/=spec",
        "a.io/B=",
    ] {
        let reason = bad.parse::<CustomKind>().unwrap_err();
        assert!(reason.contains("GROUP/KIND=PATH"), "{bad}: {reason}");
    }
}
