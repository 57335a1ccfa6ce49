//! AdmissionReviews sent straight to Countersign, without an API server between.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
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

impl Verdict {
    /// Itself where the request is let in; else a failure that shows the rejection.
    pub fn admitted(self) -> Outcome<Self> {
        if self.allowed { Ok(self) } else { Err(self.unexpected("admitted")) }
    }

    /// Itself where the request is refused with this code in the rejection's first line.
    pub fn denied_as(self, code: &str) -> Outcome<Self> {
        let line = self.message.lines().next().unwrap_or_default();
        let found = line.split([' ', ',']).any(|word| word == code);
        if !self.allowed && found { Ok(self) } else { Err(self.unexpected(code)) }
    }

    /// The code that ends the rejection's first line; empty where there is none.
    pub fn code(&self) -> &str {
        let line = self.message.lines().next().unwrap_or_default();
        line.rsplit_once(": ").map_or("", |(_, code)| code)
    }

    fn unexpected(&self, wanted: &str) -> Failure {
        Failure::new(format!("expected {wanted}, but: {self:?}\n{}", self.message))
    }
}

/// A pod of this name with one container.
pub fn pod(name: &str, image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"containers": [{"name": "app", "image": image}]},
    })
}

/// The review of the creation of a pod with these images in `namespace`, as it is sent.
pub fn pod_of(namespace: &str, images: impl IntoIterator<Item = String>) -> String {
    let container =
        |(number, image)| json!({"name": format!("c{number}"), "image": Value::String(image)});
    let mut object = pod("app", "");
    object["spec"]["containers"] = images.into_iter().enumerate().map(container).collect();
    create(namespace, &object).to_string()
}

/// A Deployment of this name with one container.
pub fn deployment(name: &str, image: &str) -> Value {
    let labels = json!({"app": name});
    let containers = json!([{"name": "app", "image": image}]);
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}},
        },
    })
}

/// Every kind that holds a template of pods, and the path of the pod spec.
pub fn templates(spec: &Value) -> Vec<(&'static str, Value)> {
    let labels = json!({"app": "a"});
    let template = json!({"metadata": {"labels": labels}, "spec": spec});
    let selector = json!({"matchLabels": labels});
    let mut never = template.clone();
    never["spec"]["restartPolicy"] = "Never".into();
    let job = json!({"template": never});
    let object = |version: &str, kind: &str, spec: Value| {
        let name = kind.to_lowercase();
        json!({"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec})
    };
    let workload = json!({"selector": selector, "template": template});
    let stateful = json!({"selector": selector, "template": template, "serviceName": "a"});
    let controller = json!({"selector": labels, "template": template, "replicas": 1});
    let cron = json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": job}});
    let pod_template = json!({
        "apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "a"}, "template": template,
    });
    vec![
        ("spec.template.spec", object("apps/v1", "Deployment", workload.clone())),
        ("spec.template.spec", object("apps/v1", "ReplicaSet", workload.clone())),
        ("spec.template.spec", object("apps/v1", "DaemonSet", workload)),
        ("spec.template.spec", object("apps/v1", "StatefulSet", stateful)),
        ("spec.template.spec", object("v1", "ReplicationController", controller)),
        ("spec.template.spec", object("batch/v1", "Job", job)),
        ("spec.jobTemplate.spec.template.spec", object("batch/v1", "CronJob", cron)),
        ("template.spec", pod_template),
    ]
}

/// The AdmissionReview of the creation of an object (a pod or a Deployment) in `namespace`.
pub fn create(namespace: &str, object: &Value) -> Value {
    review(namespace, "CREATE", object, &Value::Null)
}

/// The AdmissionReview of an update of an object (a pod or a Deployment) in `namespace`.
pub fn update(namespace: &str, object: &Value, old: &Value) -> Value {
    review(namespace, "UPDATE", object, old)
}

fn review(namespace: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let kind = object["kind"].as_str().unwrap_or_default();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let (group, version) = version.split_once('/').unwrap_or(("", version));
    let resource = format!("{}s", kind.to_lowercase());
    let kind = json!({"group": group, "version": version, "kind": kind});
    let resource = json!({"group": group, "version": version, "resource": resource});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "705ab4f5-6393-11e8-b7cc-42010a800002",
            "kind": kind, "resource": resource, "requestKind": kind, "requestResource": resource,
            "name": object["metadata"]["name"], "namespace": namespace,
            "operation": operation, "userInfo": {"username": "admin"},
            "object": object, "oldObject": old, "dryRun": false, "options": null,
        },
    })
}

/// Reads an answered AdmissionReview.
pub fn verdict(body: &str) -> Outcome<Verdict> {
    let review: Value = serde_json::from_str(body).context(body)?;
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

/// Applies the `add` and `replace` operations of a JSON patch, which is all that Countersign uses.
pub fn patched(object: &Value, patch: &Value) -> Outcome<Value> {
    let mut object = object.clone();
    for operation in patch.as_array().into_iter().flatten() {
        let path = operation["path"].as_str().context("a patch operation without a path")?;
        let place = object.pointer_mut(path).context(format!("nothing to patch at {path}"))?;
        *place = operation["value"].clone();
    }
    Ok(object)
}
