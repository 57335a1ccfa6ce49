//! Owners of what is refused are told, and nobody waits for that.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use axum::body::Body as AnyBody;
use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::harness::{Harness, deployment_review, one, pod_review, review, written};

/// An API server that takes every event, or hangs; and the events so far.
fn api_server(hangs: bool) -> (Client, Arc<Mutex<Vec<Value>>>) {
    let events = Arc::new(Mutex::new(Vec::new()));
    let taken = Arc::clone(&events);
    let service = tower::service_fn(move |request: Request<Body>| {
        let taken = Arc::clone(&taken);
        async move {
            if hangs {
                std::future::pending::<()>().await;
            }
            let body = request.into_body().collect_bytes().await.unwrap();
            taken.lock().unwrap().push(serde_json::from_slice(&body).unwrap());
            Ok::<_, Infallible>(Response::builder().status(201).body(AnyBody::from(body)).unwrap())
        }
    });
    (Client::new(service, "default"), events)
}

fn telling() -> (Harness, Arc<Mutex<Vec<Value>>>) {
    let (client, events) = api_server(false);
    (Harness::telling(client), events)
}

fn owned(mut review: Value, owner: Value) -> Value {
    review["request"]["object"]["metadata"]["ownerReferences"] = json!([owner]);
    review
}

fn replica_set(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name, "uid": "u-2", "controller": true})
}

/// The events of everything so far: those of one more refusal come last, and are left out.
async fn before_the_last(harness: &Harness, events: &Mutex<Vec<Value>>) -> Vec<Value> {
    let last = owned(pod_review(one("r.example/unsigned/last:1")), replica_set("last"));
    assert_eq!(harness.validate(&last).await["allowed"], false);
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let mut all = events.lock().unwrap().clone();
        if all.last().is_some_and(|event| event["regarding"]["name"] == "last") {
            all.pop();
            return all;
        }
        assert!(Instant::now() < deadline, "no event");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn the_owner_of_a_refused_pod_is_told_what_its_author_would_be() {
    let (harness, events) = telling();
    let request = owned(pod_review(one("r.example/unsigned:1")), replica_set("app-1"));
    let response = harness.validate(&request).await;
    let message = response["status"]["message"].as_str().unwrap();
    let events = before_the_last(&harness, &events).await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["reason"], "Unsigned");
    assert_eq!(events[0]["metadata"]["namespace"], "default");
    assert_eq!(events[0]["regarding"]["kind"], "ReplicaSet");
    assert_eq!(events[0]["regarding"]["name"], "app-1");
    assert_eq!(events[0]["regarding"]["uid"], "u-2");
    let lines: Vec<&str> = message.lines().map(str::trim).collect();
    assert_eq!(events[0]["note"], lines.join("; "));
    assert!(harness.metrics().contains(r#"events_total{outcome="written"} "#));
}

#[tokio::test]
async fn an_owner_is_told_of_warnings_and_of_refused_templates_too() {
    let (harness, events) = telling();
    let warned = owned(pod_review(one("r.example/warned:1")), replica_set("warned"));
    assert_eq!(harness.validate(&warned).await["allowed"], true);
    let mut job = deployment_review(one("r.example/unsigned:1"));
    job["request"]["object"]["metadata"] = json!({"name": "x"});
    let cron = json!({"apiVersion": "batch/v1", "kind": "CronJob", "name": "nightly", "uid": "u-3", "controller": true});
    assert_eq!(harness.validate(&owned(job, cron)).await["allowed"], false);
    let events = before_the_last(&harness, &events).await;
    let names: Vec<_> = events.iter().map(|event| &event["regarding"]["name"]).collect();
    assert_eq!(names, ["warned", "nightly"]);
    assert!(events[0]["note"].as_str().unwrap().contains("Unsigned by TrustPolicy"), "{events:?}");
}

#[tokio::test]
async fn k8_a_dry_run_the_mutating_webhook_and_whoever_has_no_owner_make_no_event() {
    let (harness, events) = telling();
    let mut dry = owned(pod_review(one("r.example/unsigned:1")), replica_set("dry"));
    dry["request"]["dryRun"] = json!(true);
    assert_eq!(harness.validate(&dry).await["allowed"], false);
    let refused = owned(pod_review(one("r.example/unsigned:1")), replica_set("mutated"));
    harness.patch(&refused).await;
    harness.validate(&pod_review(one("r.example/unsigned:1"))).await;
    let good = owned(pod_review(one("r.example/signed:1")), replica_set("good"));
    assert_eq!(harness.validate(&good).await["allowed"], true);
    let mut gone = owned(pod_review(one("r.example/unsigned:1")), replica_set("gone"));
    gone["request"]["operation"] = json!("DELETE");
    assert_eq!(harness.validate(&gone).await["allowed"], true);
    assert_eq!(before_the_last(&harness, &events).await, [] as [Value; 0]);
}

#[tokio::test]
async fn k3_forged_and_broken_owners_change_no_verdict_and_make_no_event() {
    let (harness, events) = telling();
    let with = |field: &str, value: Value| {
        let mut owner = replica_set("forged");
        owner[field] = value;
        owner
    };
    let forged = [
        with("name", json!("../../secrets/x")),
        with("name", json!("a".repeat(300))),
        with("uid", json!("\u{0}")),
        with("kind", json!({"a": []})),
        with("apiVersion", json!("v1/../..")),
        with("controller", json!("yes")),
        Value::Null,
        json!([[[]]]),
    ];
    for owner in forged {
        let request = owned(pod_review(one("r.example/unsigned:1")), owner.clone());
        assert_eq!(harness.validate(&request).await["allowed"], false, "{owner}");
        let request = owned(pod_review(one("r.example/signed:1")), owner.clone());
        assert_eq!(harness.validate(&request).await["allowed"], true, "{owner}");
    }
    // Nor is a namespace one that the API server would not have.
    let mut nowhere = owned(pod_review(one("r.example/unsigned:1")), replica_set("forged"));
    nowhere["request"]["namespace"] = json!("default/../other");
    harness.validate(&nowhere).await;
    // However many other owners there are, none of them is told.
    let owners = r#"{"apiVersion":"v1","kind":"A","name":"a","uid":"u"},"#.repeat(100_000);
    let body =
        written(&review("", "Pod", "pods", json!({"metadata": {}, "spec": one("unsigned")})));
    let owners = format!("\"metadata\":{{\"ownerReferences\":[{}]}}", owners.trim_end_matches(','));
    let body = body.replacen("\"metadata\":{}", &owners, 1);
    assert!(body.len() > 1 << 20);
    assert_eq!(harness.post("/validate", body).await.0, StatusCode::OK);
    assert_eq!(before_the_last(&harness, &events).await, [] as [Value; 0]);
}

#[tokio::test]
async fn an_api_server_that_takes_no_events_holds_no_review_up() {
    let (client, _events) = api_server(true);
    let harness = Harness::telling(client);
    let began = Instant::now();
    for n in 0..400 {
        let request = pod_review(one("r.example/unsigned:1"));
        let request = owned(request, replica_set(&format!("app-{n}")));
        assert_eq!(harness.validate(&request).await["allowed"], false);
    }
    assert!(began.elapsed() < Duration::from_secs(4), "less than one event takes to fail");
    assert!(harness.metrics().contains(r#"events_total{outcome="dropped"} 1"#));
}
