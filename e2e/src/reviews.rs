//! AdmissionReviews sent straight to Countersign, without an API server between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::blocking::Client;
use serde_json::{Value, json};

use crate::{Context, Failure, Outcome};

/// What Countersign answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// Whether the request is let in.
    pub allowed: bool,
    /// The rejection's text; empty where there is none.
    pub message: String,
    /// The warnings.
    pub warnings: Vec<String>,
    /// The JSON patch; null where there is none.
    pub patch: Value,
}

/// A pod of this name with one container.
pub fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": image}]},
    })
}

/// An AdmissionReview of the creation of `pod` in `namespace`.
pub fn create_pod(namespace: &str, pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": {"group": "", "version": "v1", "kind": "Pod"},
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "requestKind": {"group": "", "version": "v1", "kind": "Pod"},
            "requestResource": {"group": "", "version": "v1", "resource": "pods"},
            "name": pod["metadata"]["name"], "namespace": namespace,
            "operation": "CREATE", "userInfo": {"username": "admin"},
            "object": pod, "oldObject": null, "dryRun": false, "options": null,
        },
    })
}

/// Sends a review to `url`, which ends in `/validate` or `/mutate`.
pub fn send(client: &Client, url: &str, review: &Value) -> Outcome<Verdict> {
    let request = client.post(url).header("content-type", "application/json");
    let answer = request.body(review.to_string()).send()?;
    let status = answer.status();
    let body = answer.text()?;
    if !status.is_success() {
        return Err(Failure::new(format!("{url}: {status}: {body}")));
    }
    verdict(&body)
}

/// Reads an answered AdmissionReview.
pub fn verdict(body: &str) -> Outcome<Verdict> {
    let review: Value = serde_json::from_str(body)?;
    let response = &review["response"];
    let patch = match response["patch"].as_str() {
        Some(patch) => serde_json::from_slice(&STANDARD.decode(patch)?)?,
        None => Value::Null,
    };
    let warnings = response["warnings"].as_array().into_iter().flatten();
    Ok(Verdict {
        allowed: response["allowed"].as_bool().context(format!("no verdict: {body}"))?,
        message: response["status"]["message"].as_str().unwrap_or_default().to_owned(),
        warnings: warnings.filter_map(|warning| warning.as_str().map(str::to_owned)).collect(),
        patch,
    })
}
