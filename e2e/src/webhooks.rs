//! Registers Countersign with an API server, as an installation does.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::{Context, Failure, Outcome};

/// How long the API server may take to take up a configuration.
const TAKEN_UP: Duration = Duration::from_secs(20);

/// Where the API server is to send reviews.
pub struct Webhooks<'a> {
    /// The name of the configurations.
    pub name: &'a str,
    /// Countersign's address: `https://127.0.0.1:PORT`, or `https://NAME.NAMESPACE.svc` of the
    /// Service before it.
    pub url: &'a str,
    /// The PEM file of the authority that Countersign's certificate is from.
    pub authority: &'a Path,
    /// The namespaces whose objects are reviewed; at least one.
    pub namespaces: &'a [&'a str],
}

impl Webhooks<'_> {
    /// Registers the validating and the mutating webhook, with the rules of an installation, and
    /// waits until the API server calls them.
    pub fn register(&self, api_server: &Admin) -> Outcome<()> {
        let validating = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "ValidatingWebhookConfiguration",
            "metadata": {"name": self.name},
            "webhooks": [self.webhook("validate", validated())?, self.probe("secrets")],
        });
        let mutating = json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": "MutatingWebhookConfiguration",
            "metadata": {"name": self.name},
            "webhooks": [self.webhook("mutate", json!([pods()]))?, self.probe("configmaps")],
        });
        let list = json!({"apiVersion": "v1", "kind": "List", "items": [validating, mutating]});
        api_server.apply(&list)?.success()?;
        self.await_probe(api_server, &["create", "secret", "generic", &self.probe_object()])?;
        self.await_probe(api_server, &["create", "configmap", &self.probe_object()])
    }

    /// Takes both webhooks away.
    pub fn unregister(api_server: &Admin, name: &str) -> Outcome<()> {
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        api_server.kubectl(&["delete", kinds, name])?.success().map(drop)
    }

    fn webhook(&self, path: &str, rules: Value) -> Outcome<Value> {
        let authority = fs::read(self.authority).context("the webhook's authority")?;
        Ok(json!({
            "name": format!("{path}.countersign.dev"),
            "clientConfig": self.client_config(path, &STANDARD.encode(authority)),
            "rules": rules,
            "namespaceSelector": self.selector(),
            "failurePolicy": "Fail",
            "sideEffects": "NoneOnDryRun",
            "matchPolicy": "Equivalent",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
        }))
    }

    fn client_config(&self, path: &str, authority: &str) -> Value {
        let service = self.url.strip_prefix("https://").and_then(|host| host.strip_suffix(".svc"));
        match service.and_then(|service| service.split_once('.')) {
            None => json!({"url": format!("{}/{path}", self.url), "caBundle": authority}),
            Some((name, namespace)) => {
                let path = format!("/{path}");
                let service = json!({"name": name, "namespace": namespace, "path": path});
                json!({"service": service, "caBundle": authority})
            }
        }
    }

    /// A webhook that cannot be reached and so refuses one object, which is never made: once that
    /// object is refused, the configuration around this webhook is in force.
    fn probe(&self, resources: &str) -> Value {
        json!({
            "name": "probe.countersign.dev",
            "clientConfig": {"url": "https://127.0.0.1:1/"},
            "rules": [rule("", &[resources])],
            "namespaceSelector": self.selector(),
            "matchConditions": [
                {"name": "probe", "expression": format!("object.metadata.name == '{}'", self.probe_object())},
            ],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
        })
    }

    fn probe_object(&self) -> String {
        format!("{}-probe", self.name)
    }

    fn selector(&self) -> Value {
        json!({"matchExpressions": [
            {"key": "kubernetes.io/metadata.name", "operator": "In", "values": self.namespaces},
        ]})
    }

    fn await_probe(&self, api_server: &Admin, create: &[&str]) -> Outcome<()> {
        let namespace = self.namespaces.first().context("no namespace to review")?;
        let mut arguments = create.to_vec();
        arguments.extend(["--dry-run=server", "-n", namespace]);
        let deadline = Instant::now() + TAKEN_UP;
        while !api_server.kubectl(&arguments)?.stderr.contains("probe.countersign.dev") {
            if Instant::now() > deadline {
                return Err(Failure::new("the API server did not take up the webhooks"));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// Pods, and the subresource by which ephemeral containers are added to them.
fn pods() -> Value {
    rule("", &["pods", "pods/ephemeralcontainers"])
}

/// Pods, and every built-in kind that holds a template of pods.
fn validated() -> Value {
    json!([
        pods(),
        rule("", &["podtemplates", "replicationcontrollers"]),
        rule("apps", &["daemonsets", "deployments", "replicasets", "statefulsets"]),
        rule("batch", &["cronjobs", "jobs"]),
    ])
}

fn rule(group: &str, resources: &[&str]) -> Value {
    json!({
        "apiGroups": [group], "apiVersions": ["v1"], "resources": resources,
        "operations": ["CREATE", "UPDATE"], "scope": "Namespaced",
    })
}
