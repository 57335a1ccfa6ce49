//! Deadlines, panics, and too much at one time.

use std::time::Duration;

use axum::body::{Body, Bytes};
use futures_util::{StreamExt, stream};
use http::StatusCode;
use serde_json::json;
use tokio::time::Instant;

use crate::harness::{Harness, deployment_review, one, pod_review, review};

#[tokio::test(start_paused = true)]
async fn a_reviewer_that_hangs_is_a_denial_at_the_deadline() {
    let harness = Harness::new();
    let start = Instant::now();
    let response = harness.validate(&pod_review(one("r.example/hang:1"))).await;
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("DeadlineExceeded"));
    assert!((8.0..9.0).contains(&start.elapsed().as_secs_f64()));
    assert!(harness.metrics().contains("countersign_reviews_in_flight 0"));
    let response = harness.validate(&deployment_review(one("r.example/hang:1"))).await;
    assert_eq!(response["allowed"], true, "a template only warns without evidence");
    assert!(response["warnings"][0].as_str().unwrap().contains("DeadlineExceeded"));
}

#[tokio::test(start_paused = true)]
async fn the_api_servers_timeout_shortens_the_deadline() {
    for (query, milliseconds) in [
        ("", 8000),
        ("?timeout=30s", 8000),
        ("?timeout=5s", 4000),
        ("?a=b&timeout=2s", 1000),
        ("?timeout=1s", 100),
        ("?timeout=0s", 100),
        ("?timeout=soon", 8000),
        ("?timeout=99999999999999999999s", 8000),
    ] {
        let harness = Harness::new();
        harness.ask(&format!("/validate{query}"), &pod_review(one("r.example/api:1"))).await;
        assert_eq!(harness.asked()[0].within, Duration::from_millis(milliseconds), "{query}");
    }
}

#[tokio::test]
async fn a_panic_is_a_denial_and_counted() {
    let harness = Harness::new();
    let response = harness.validate(&pod_review(one("r.example/panic:1"))).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 500);
    assert!(response["status"]["message"].as_str().unwrap().contains("a bug"));
    assert!(harness.metrics().contains("countersign_panics_total 1"));
    let response = harness.validate(&pod_review(one("r.example/api:1"))).await;
    assert_eq!(response["allowed"], true, "the next one is answered");
}

#[tokio::test]
async fn a_review_that_leaves_images_out_is_a_denial() {
    let harness = Harness::new();
    let response = harness.validate(&pod_review(one("r.example/silent:1"))).await;
    assert_eq!(response["allowed"], false);
    assert_eq!(response["status"]["code"], 500);
}

#[tokio::test(start_paused = true)]
async fn o7_too_many_waiting_reviews_are_shed_at_once_and_warm_ones_answered() {
    let harness = Harness::with(|settings| settings.max_in_flight = 4);
    let overloaded = |count: u32| {
        let labels = "action=\"validate\",outcome=\"denied\",code=\"Overloaded\"";
        harness.metrics().contains(&format!("countersign_reviews_total{{{labels}}} {count}\n"))
    };
    assert!(overloaded(0), "the first one is to be seen as a rise");
    let slow = pod_review(one("r.example/hang:1"));
    let started = Instant::now();
    let answers: Vec<_> = stream::iter(0..40)
        .map(|_| async {
            let response = harness.validate(&slow).await;
            (response["status"]["message"].as_str().unwrap().to_owned(), started.elapsed())
        })
        .buffer_unordered(40)
        .collect()
        .await;
    let shed: Vec<_> = answers.iter().filter(|(text, _)| text.contains("Overloaded")).collect();
    assert_eq!(shed.len(), 38, "half of the places are for others");
    assert!(shed.iter().all(|(_, after)| *after < Duration::from_millis(10)), "at once");
    assert!(overloaded(38));

    let hung = stream::iter(0..2).map(|_| harness.validate(&slow)).buffer_unordered(2);
    let warm = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        let start = Instant::now();
        let response = harness.validate(&pod_review(one("r.example/api:1"))).await;
        assert_eq!(response["allowed"], true, "a warm review never queues behind cold work");
        assert_eq!(start.elapsed(), Duration::ZERO);
    };
    tokio::join!(hung.collect::<Vec<_>>(), warm);
}

#[tokio::test]
async fn o7_a_review_that_finds_no_place_has_begun_nothing() {
    for (places, begun) in [(0, 0), (1, 1)] {
        let harness = Harness::with(|settings| settings.max_in_flight = places);
        let response = harness.validate(&pod_review(one("r.example/cold:1"))).await;
        assert_eq!(response["allowed"], begun == 1);
        assert_eq!(harness.asked().len(), begun);
    }
}

#[tokio::test(start_paused = true)]
async fn k10_one_namespace_that_waits_leaves_places_for_others() {
    let harness = Harness::with(|settings| settings.max_in_flight = 8);
    let slow = pod_review(one("r.example/hang:1"));
    let mut other = slow.clone();
    other["request"]["namespace"] = json!("another");
    let flood = stream::iter(0..40).map(|_| harness.validate(&slow)).buffer_unordered(40);
    let another = async {
        tokio::time::sleep(Duration::from_millis(1)).await;
        harness.validate(&other).await["status"]["message"].as_str().unwrap().to_owned()
    };
    let (_, said) = tokio::join!(flood.collect::<Vec<_>>(), another);
    assert!(said.contains("DeadlineExceeded"), "it was reviewed: {said}");
}

#[tokio::test]
async fn more_images_than_any_pod_has_are_refused_unseen() {
    let harness = Harness::new();
    let containers: Vec<_> =
        (0..1001).map(|n| json!({"name": n.to_string(), "image": "r.example/api:1"})).collect();
    let response = harness.validate(&pod_review(json!({"containers": containers}))).await;
    assert_eq!(response["allowed"], false);
    assert!(response["status"]["message"].as_str().unwrap().contains("limit of 1000"));
    assert!(harness.asked().is_empty());
}

#[tokio::test(start_paused = true)]
async fn o11_a_body_that_dribbles_is_dropped() {
    let harness = Harness::new();
    let dribble = stream::repeat(()).then(|()| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok::<_, std::io::Error>(Bytes::from_static(b" "))
    });
    let start = Instant::now();
    let (status, _) = harness.post("/validate", Body::from_stream(dribble)).await;
    assert_eq!(status, StatusCode::REQUEST_TIMEOUT);
    assert_eq!(start.elapsed(), Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn bodies_held_at_one_time_are_bounded() {
    let harness = Harness::new();
    let held = |_| async {
        let most =
            stream::once(async { Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 8 << 20])) });
        let body = Body::from_stream(most.chain(stream::pending()));
        harness.post("/validate", body).await.0
    };
    let answers: Vec<_> = stream::iter(0..40).map(held).buffer_unordered(40).collect().await;
    let refused = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!(refused(StatusCode::REQUEST_TIMEOUT), 4, "half of it is for others");
    assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE), 36);
    let response = harness.validate(&pod_review(one("r.example/api:1"))).await;
    assert_eq!(response["allowed"], true, "what was held is given back");
}

#[tokio::test(start_paused = true)]
async fn o11_requests_whose_bodies_never_come_are_bounded() {
    let harness = Harness::new();
    let held = |_| async {
        let never = stream::pending::<Result<Bytes, std::io::Error>>();
        harness.post("/validate", Body::from_stream(never)).await
    };
    let answers: Vec<_> = stream::iter(0..4200).map(held).buffer_unordered(4200).collect().await;
    let refused = |status| answers.iter().filter(|(it, _)| *it == status).count();
    assert_eq!(refused(StatusCode::REQUEST_TIMEOUT), 4096, "half of it is for others");
    let at_once = (StatusCode::SERVICE_UNAVAILABLE, Vec::new());
    assert_eq!(answers.iter().filter(|it| **it == at_once).count(), 104, "nothing is left to send");
    let response = harness.validate(&pod_review(one("r.example/api:1"))).await;
    assert_eq!(response["allowed"], true, "what was held is given back");
}

#[tokio::test(start_paused = true)]
async fn small_bodies_held_at_one_time_are_bounded_too() {
    let harness = Harness::new();
    let held = |_| async {
        let most =
            stream::once(async { Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 64 << 10])) });
        let body = Body::from_stream(most.chain(stream::pending()));
        harness.post("/validate", body).await.0
    };
    let answers: Vec<_> = stream::iter(0..1100).map(held).buffer_unordered(1100).collect().await;
    let refused = |status| answers.iter().filter(|answer| **answer == status).count();
    assert_eq!(refused(StatusCode::REQUEST_TIMEOUT), 455, "half of it is for others");
    assert_eq!(refused(StatusCode::SERVICE_UNAVAILABLE), 645);
    let response = harness.validate(&pod_review(one("r.example/api:1"))).await;
    assert_eq!(response["allowed"], true, "what was held is given back");
}

#[tokio::test]
async fn lists_longer_than_any_pod_has_are_not_read() {
    let harness = Harness::new();
    for list in ["containers", "initContainers", "ephemeralContainers", "volumes"] {
        let spec = |count| json!({list: vec![json!({}); count]});
        let body = |count| Body::from(pod_review(spec(count)).to_string());
        let (status, _) = harness.post("/validate", body(4096)).await;
        assert_eq!(status, StatusCode::OK, "{list}");
        let (status, text) = harness.post("/validate", body(4097)).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{list}");
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("at most 4096 entries"), "{text}");
    }
}

#[tokio::test(start_paused = true)]
async fn o7_a_small_review_is_answered_while_large_bodies_hold_everything() {
    let harness = Harness::new();
    let slow = async {
        let held = |_| async {
            let most =
                stream::once(async { Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 8 << 20])) });
            harness.post("/validate", Body::from_stream(most.chain(stream::pending()))).await.0
        };
        stream::iter(0..40).map(held).buffer_unordered(40).collect::<Vec<_>>().await
    };
    let small = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        harness.validate(&pod_review(one("r.example/api:1"))).await
    };
    let (held, response) = tokio::join!(slow, small);
    assert!(held.contains(&StatusCode::SERVICE_UNAVAILABLE), "everything was held");
    assert_eq!(response["allowed"], true);
}

#[tokio::test]
async fn every_decision_is_one_line_of_the_log() {
    let harness = Harness::new();
    let containers = vec![json!({"name": "a", "image": "r.example/api:1"}); 1001];
    let no_kind = review("a.example", "Widget", "widgets", json!({"spec": {}}));
    for (path, review, outcome, code) in [
        ("/validate", pod_review(one("r.example/api:1")), "allowed", ""),
        ("/validate", pod_review(one("r.example/unsigned:1")), "denied", "Unsigned"),
        ("/validate", no_kind, "denied", "UnknownKind"),
        ("/validate", pod_review(json!({"containers": containers})), "denied", "LimitExceeded"),
        ("/validate", pod_review(one("r.example/panic:1")), "denied", "Panic"),
        ("/validate", pod_review(one("r.example/silent:1")), "denied", "Panic"),
        ("/mutate", pod_review(one("r.example/panic:1")), "allowed", "Panic"),
        ("/validate", pod_review(json!({"containers": []})), "allowed", ""),
    ] {
        let before = harness.logged().len();
        harness.ask(path, &review).await;
        let logged = harness.logged();
        assert_eq!(logged[before..], [[&path[1..], outcome, code].map(str::to_owned)]);
    }
}
