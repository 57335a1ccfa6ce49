//! A scripted reviewer, and requests to the router in front of it.

use std::io::Write;
use std::sync::{Arc, Mutex, Once};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use base64::Engine;
use countersign::admission::{
    Admission, CustomKind, Decide, Kinds, Settings, Templates, resources_router, router,
};
use countersign::api::{Document, Resources};
use countersign::cluster::Latest;
use countersign::cluster::events::Events;
use countersign::review::{ImageReview, ImageUse, Request, Review, Subject};
use countersign::telemetry::{self, DecisionLog, Format, Lines, Metrics};
use countersign_verify::image::{Digest, Reference};
use countersign_verify::outcome::{Decision, Denial, Finding, PolicyVerdict, Unavailable};
use countersign_verify::policy::Action;
use http::{Request as HttpRequest, StatusCode};
use kube::Client;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::time::Instant;
use tower::ServiceExt;

/// What the reviewer was asked.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) namespace: Option<String>,
    pub(crate) subject: Subject,
    pub(crate) uses: Vec<ImageUse>,
    pub(crate) service_account: String,
    pub(crate) pull_secrets: Vec<String>,
    pub(crate) within: Duration,
}

/// Decides by words in the image's name; see [`verdict`].
#[derive(Debug, Clone, Default)]
pub(crate) struct Script(pub(crate) Arc<Mutex<Vec<Asked>>>);

impl Decide for Script {
    async fn review<'a>(&'a self, request: &'a Request<'a>) -> Review {
        let says = |word| request.uses.iter().any(|usage| usage.image.contains(word));
        if says("cold") {
            tokio::task::yield_now().await;
        }
        self.0.lock().unwrap().push(Asked {
            namespace: request.namespace.map(str::to_owned),
            subject: request.subject,
            uses: request.uses.to_vec(),
            service_account: request.puller.service_account.to_owned(),
            pull_secrets: request.puller.secrets.iter().map(ToString::to_string).collect(),
            within: request.deadline.duration_since(Instant::now()),
        });
        assert!(!says("panic"), "scripted");
        if says("hang") {
            std::future::pending::<()>().await;
        }
        if says("silent") {
            return Review { images: Vec::new() };
        }
        Review {
            images: request.uses.iter().map(|usage| verdict(usage, request.subject)).collect(),
        }
    }
}

pub(crate) fn digest() -> Digest {
    Digest::sha256(b"manifest")
}

fn verdict(usage: &ImageUse, subject: Subject) -> ImageReview {
    let wanted = "tag \"1\"".to_owned();
    let unsigned = Denial::Unsigned { wanted, looked_in: vec!["targets".to_owned()] };
    let gone = Unavailable::RegistryUnavailable {
        registry: "registry.example".to_owned(),
        cause: "secret cause".to_owned(),
    };
    let says = |word| usage.image.contains(word);
    let (action, finding) = if says("unsigned") || usage.image.is_empty() {
        (Action::Deny, Finding::Refused(unsigned.into()))
    } else if says("gone") {
        (Action::Deny, Finding::Refused(gone.into()))
    } else if says("warned") {
        (Action::Warn, Finding::Refused(unsigned.into()))
    } else {
        (Action::Deny, Finding::Verified)
    };
    let verified = finding == Finding::Verified;
    let verdicts = vec![PolicyVerdict {
        policy: Some("p".to_owned()),
        action,
        finding,
        authorities: vec![],
        disclose: false,
        help: None,
    }];
    let reference = Reference::parse(&usage.image).ok();
    let digest = reference.is_some().then(digest);
    let unpinned = reference.as_ref().is_some_and(|reference| reference.digest().is_none());
    ImageReview {
        usage: usage.clone(),
        pin: digest.clone().filter(|_| verified && unpinned && subject == Subject::PodToPin),
        decision: Decision {
            reference,
            digest,
            verdicts: if says("unasked") { Vec::new() } else { verdicts },
        },
        notes: if says("noted") { vec!["a\nnote ".repeat(100)] } else { Vec::new() },
    }
}

/// What was logged.
#[derive(Debug, Clone, Default)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

pub(crate) struct Harness {
    pub(crate) router: Router,
    pub(crate) script: Script,
    lines: Lines,
    sink: Sink,
    registry: Registry,
}

impl Harness {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut Settings)) -> Self {
        Self::built(change, None)
    }

    /// With events, written by this client.
    pub(crate) fn telling(client: Client) -> Self {
        Self::built(|_| {}, Some(client))
    }

    fn built(change: impl FnOnce(&mut Settings), client: Option<Client>) -> Self {
        let custom = CustomKind {
            group: "argoproj.io".to_owned(),
            kind: "Rollout".to_owned(),
            template: "spec.template".to_owned(),
        };
        let mut settings = Settings::new(Kinds::new(&[custom]).unwrap());
        change(&mut settings);
        let script = Script::default();
        let mut registry = Registry::with_prefix("countersign");
        let metrics = Metrics::register(&mut registry);
        // Decisions are logged where the process's filter lets them through.
        static FILTER: Once = Once::new();
        FILTER.call_once(|| {
            let other = Lines::to(std::io::sink()).unwrap();
            telemetry::init(Format::Json, "info", &other).unwrap();
        });
        let sink = Sink::default();
        let lines = Lines::to(sink.clone()).unwrap();
        let log = DecisionLog::new(lines.clone());
        let (events, telling) =
            client.map(|client| Events::new(client, "replica", &metrics)).unzip();
        if let Some(telling) = telling {
            tokio::spawn(telling);
        }
        let admission = Admission::new(script.clone(), settings, metrics, log).with_events(events);
        let admission = Arc::new(admission);
        let resources = resources_router(admission.clone(), Arc::new(Latest::new(resources())));
        Self { router: router(admission).merge(resources), script, lines, sink, registry }
    }

    pub(crate) fn warning_templates() -> Self {
        Self::with(|settings| settings.templates = Templates::Warn)
    }

    pub(crate) async fn post(&self, path: &str, body: impl Into<Body>) -> (StatusCode, Vec<u8>) {
        let request = HttpRequest::post(path).body(body.into()).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        (status, to_bytes(response.into_body(), usize::MAX).await.unwrap().to_vec())
    }

    /// The response of an AdmissionReview.
    pub(crate) async fn ask(&self, path: &str, review: &Value) -> Value {
        let (status, body) = self.post(path, written(review)).await;
        assert_eq!(status, StatusCode::OK, "{}", String::from_utf8_lossy(&body));
        let mut answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["apiVersion"], "admission.k8s.io/v1");
        assert_eq!(answer["kind"], "AdmissionReview");
        assert_eq!(answer["response"]["uid"], "u-1", "the uid is echoed");
        answer["response"].take()
    }

    pub(crate) async fn validate(&self, review: &Value) -> Value {
        self.ask("/validate", review).await
    }

    /// The JSON patch, if there is one.
    pub(crate) async fn patch(&self, review: &Value) -> Option<Value> {
        let response = self.ask("/mutate", review).await;
        assert_eq!(response["allowed"], true, "the mutating webhook refuses nothing");
        let patch = response["patch"].as_str()?;
        assert_eq!(response["patchType"], "JSONPatch");
        let bytes = base64::engine::general_purpose::STANDARD.decode(patch).unwrap();
        Some(serde_json::from_slice(&bytes).unwrap())
    }

    /// What the reviewer was asked so far.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.script.0.lock().unwrap().clone()
    }

    /// The paths and images of the only review.
    pub(crate) fn only_uses(&self) -> Vec<(String, String)> {
        let asked = self.asked();
        assert_eq!(asked.len(), 1, "one review");
        asked[0].uses.iter().map(|usage| (usage.path.clone(), usage.image.clone())).collect()
    }

    /// Action, outcome and code of every decision logged so far.
    pub(crate) fn logged(&self) -> Vec<[String; 3]> {
        self.lines.flush(Duration::from_secs(5));
        let bytes = self.sink.0.lock().unwrap().clone();
        let read = |line: &str| {
            let line: Value = serde_json::from_str(line).unwrap();
            ["action", "outcome", "code"].map(|key| line[key].as_str().unwrap_or("").to_owned())
        };
        String::from_utf8(bytes).unwrap().lines().map(read).collect()
    }

    pub(crate) fn metrics(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        text
    }
}

/// The source `known`, which compiles.
fn resources() -> Resources {
    let pin =
        json!({"name": "all", "repositories": ["r.example/api"], "rootKeyIDs": ["0".repeat(64)]});
    let spec = json!({"notary": {"url": "https://notary.example", "pins": [pin]}});
    Resources { sources: vec![Document::new("known", None, spec)], ..Resources::default() }
}

/// The review with its request's members in kube-apiserver's order.
pub(crate) fn written(review: &Value) -> String {
    const ORDER: [&str; 13] = [
        "uid",
        "kind",
        "resource",
        "subResource",
        "requestKind",
        "name",
        "namespace",
        "operation",
        "userInfo",
        "object",
        "oldObject",
        "dryRun",
        "options",
    ];
    let request = review["request"].as_object().unwrap();
    assert!(request.keys().all(|key| ORDER.contains(&key.as_str())));
    let member = |key| request.get(key).map(|value| format!("\"{key}\":{value}"));
    let members: Vec<String> = ORDER.into_iter().filter_map(member).collect();
    let (kind, version) = (&review["kind"], &review["apiVersion"]);
    format!(r#"{{"kind":{kind},"apiVersion":{version},"request":{{{}}}}}"#, members.join(","))
}

/// An AdmissionReview.
pub(crate) fn review(group: &str, kind: &str, resource: &str, object: Value) -> Value {
    json!({
        "kind": "AdmissionReview",
        "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": "u-1",
            "kind": {"group": group, "version": "v1", "kind": kind},
            "resource": {"group": group, "version": "v1", "resource": resource},
            "requestKind": {"group": group, "version": "v1", "kind": kind},
            "name": "x",
            "namespace": "default",
            "operation": "CREATE",
            "userInfo": {"username": "dev", "groups": ["a"]},
            "object": object,
            "oldObject": null,
            "dryRun": false,
            "options": {"kind": "CreateOptions"},
        },
    })
}

pub(crate) fn pod(spec: Value) -> Value {
    let metadata = json!({"name": "x", "labels": {"a": "b"}, "managedFields": [{"f:spec": {}}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
}

pub(crate) fn pod_review(spec: Value) -> Value {
    review("", "Pod", "pods", pod(spec))
}

/// A pod spec with one container.
pub(crate) fn one(image: &str) -> Value {
    json!({"containers": [{"name": "api", "image": image}]})
}

pub(crate) fn deployment_review(spec: Value) -> Value {
    let object = json!({"spec": {"replicas": 0, "template": {"metadata": {}, "spec": spec}}});
    review("apps", "Deployment", "deployments", object)
}

/// The same request as an UPDATE of `old`.
pub(crate) fn update(mut review: Value, old: Value) -> Value {
    review["request"]["operation"] = json!("UPDATE");
    review["request"]["oldObject"] = old;
    review
}

pub(crate) fn object(review: &Value) -> Value {
    review["request"]["object"].clone()
}
