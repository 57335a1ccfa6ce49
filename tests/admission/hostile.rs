//! K12: what is no AdmissionReview gets a 400 and a sentence, and nothing crashes.

use axum::body::{Body, Bytes};
use futures_util::stream;
use http::StatusCode;
use serde_json::{Value, json};

use crate::harness::{Harness, one, pod_review, written};

fn changed(change: impl FnOnce(&mut Value)) -> String {
    let mut review = pod_review(one("r.example/api:1"));
    change(&mut review);
    review.to_string()
}

fn nested(levels: usize) -> String {
    format!("{}{}", "[".repeat(levels), "]".repeat(levels))
}

fn bad_bodies() -> Vec<(&'static str, String)> {
    let good = written(&pod_review(one("r.example/api:1")));
    let deep_spec = format!(r#""spec":{}"#, nested(10_000));
    vec![
        ("empty", String::new()),
        ("not JSON", "hello".to_owned()),
        ("null", "null".to_owned()),
        ("a list", "[]".to_owned()),
        ("a string", r#""AdmissionReview""#.to_owned()),
        ("an empty object", "{}".to_owned()),
        ("cut off", good[..good.len() / 2].to_owned()),
        ("something after it", format!("{good} {good}")),
        ("deeper than anything", nested(10_000)),
        ("deep where images are", good.replacen(r#""spec":"#, &format!("{deep_spec},\"x\":"), 1)),
        ("null request", changed(|review| review["request"] = Value::Null)),
        ("no request", changed(|review| drop(review.as_object_mut().unwrap().remove("request")))),
        ("request is a string", changed(|review| review["request"] = json!("x"))),
        ("wrong kind", changed(|review| review["kind"] = json!("Pod"))),
        ("v1beta1", changed(|review| review["apiVersion"] = json!("admission.k8s.io/v1beta1"))),
        ("no version", changed(|review| review["apiVersion"] = Value::Null)),
        ("no uid", changed(|review| review["request"]["uid"] = json!(""))),
        ("null uid", changed(|review| review["request"]["uid"] = Value::Null)),
        ("numeric uid", changed(|review| review["request"]["uid"] = json!(1))),
        ("no operation", changed(|review| review["request"]["operation"] = Value::Null)),
        ("unknown operation", changed(|review| review["request"]["operation"] = json!("PATCH"))),
        ("null object", changed(|review| review["request"]["object"] = Value::Null)),
        ("object is a list", changed(|review| review["request"]["object"] = json!([]))),
        ("spec is a list", changed(|review| review["request"]["object"]["spec"] = json!([1]))),
        (
            "numeric image",
            changed(|r| r["request"]["object"]["spec"]["containers"][0]["image"] = json!(1)),
        ),
        ("uid twice", good.replacen(r#""uid":"#, r#""uid":"other","uid":"#, 1)),
        ("spec twice", good.replacen(r#""spec":"#, r#""spec":{},"spec":"#, 1)),
        ("image twice", good.replacen(r#""image":"#, r#""image":"a:1","image":"#, 1)),
        ("lone surrogate", good.replacen("r.example", r"\ud800", 1)),
        ("NaN", good.replacen("\"r.example/api:1\"", "NaN", 1)),
    ]
}

#[tokio::test]
async fn k12_bad_bodies_get_a_400_with_a_sentence() {
    let harness = Harness::new();
    for path in ["/validate", "/mutate"] {
        for (name, body) in bad_bodies() {
            let (status, answer) = harness.post(path, body).await;
            assert_eq!(status, StatusCode::BAD_REQUEST, "{name}");
            let sentence = String::from_utf8(answer).unwrap();
            assert!((20..600).contains(&sentence.len()), "{name}: {sentence}");
        }
    }
    assert!(harness.asked().is_empty());
    assert!(harness.metrics().contains("countersign_panics_total 0"));
}

#[tokio::test]
async fn k12_a_byte_that_is_no_utf8_gets_a_400() {
    let harness = Harness::new();
    let mut body = pod_review(one("r.example/api:1")).to_string().into_bytes();
    let at = body.windows(9).position(|window| window == b"r.example").unwrap();
    body[at] = 0xff;
    assert_eq!(harness.post("/validate", body).await.0, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn k12_what_is_not_looked_at_may_be_anything() {
    let harness = Harness::new();
    let good = written(&pod_review(one("r.example/unsigned:1")));
    let deep = format!(r#""futureField":{},"userInfo":"#, nested(10_000));
    let body = good.replacen(r#""userInfo":"#, &deep, 1);
    let (status, answer) = harness.post("/validate", body).await;
    assert_eq!(status, StatusCode::OK);
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert_eq!(answer["response"]["allowed"], false);
}

#[tokio::test]
async fn k12_a_large_object_and_old_object_are_read() {
    let harness = Harness::new();
    let mut review = pod_review(one("r.example/unsigned:1"));
    review["request"]["object"]["metadata"]["annotations"] = json!({"a": "x".repeat(3 << 20)});
    review["request"]["oldObject"] = review["request"]["object"].clone();
    assert_eq!(harness.validate(&review).await["allowed"], false);
}

#[tokio::test]
async fn k12_bodies_over_the_cap_get_a_413() {
    let harness = Harness::new();
    let mut review = pod_review(one("r.example/api:1"));
    review["request"]["object"]["metadata"]["annotations"] = json!({"a": "x".repeat(8 << 20)});
    let (status, _) = harness.post("/validate", review.to_string()).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let endless = stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from(vec![b' '; 1 << 16])));
    let (status, _) = harness.post("/validate", Body::from_stream(endless)).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn k12_a_body_in_pieces_is_one_body() {
    let harness = Harness::new();
    let body = pod_review(one("r.example/unsigned:1")).to_string().into_bytes();
    let pieces: Vec<_> = body
        .chunks(7)
        .map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece)))
        .collect();
    let (status, answer) = harness.post("/validate", Body::from_stream(stream::iter(pieces))).await;
    assert_eq!(status, StatusCode::OK);
    assert!(String::from_utf8(answer).unwrap().contains(r#""allowed":false"#));
}

#[tokio::test]
async fn other_paths_and_methods_are_refused() {
    let harness = Harness::new();
    assert_eq!(harness.post("/", "x").await.0, StatusCode::NOT_FOUND);
    let get = http::Request::get("/validate").body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(harness.router.clone(), get).await.unwrap();
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
}
