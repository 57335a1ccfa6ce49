//! Which updates the chart's webhooks are called for, by a real API server: where they are called
//! nobody answers, and the update is refused.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_e2e::api_server::Shared;
use countersign_e2e::chart::Rendered;
use countersign_e2e::process::Finished;
use countersign_e2e::{Context, Failure, Outcome};
use serde_json::{Value, json};

/// How long the API server may take to take up a configuration.
const TAKEN_UP: Duration = Duration::from_secs(20);

/// A namespace with one object of every kind, and then one of the chart's webhooks that nobody
/// answers.
struct Unanswered {
    shared: Arc<Shared>,
    /// The namespace, the configuration and part of the webhook's name.
    name: &'static str,
}

impl Unanswered {
    fn start(name: &'static str, kind: &str) -> Outcome<Self> {
        let shared = Shared::get()?;
        shared.api_server.create_namespace(name)?;
        let unanswered = Self { shared, name };
        for object in objects(name) {
            unanswered.apply(&object, &[])?.success()?;
        }
        let rendered = Rendered::new(&["--set=unmatched=Deny,webhooks.timeoutSeconds=3"])?;
        let mut webhook = rendered.webhook(&format!("{name}.countersign.dev"))?;
        webhook["clientConfig"] = json!({"url": "https://127.0.0.1:1/"});
        webhook["namespaceSelector"] =
            json!({"matchLabels": {"kubernetes.io/metadata.name": name}});
        let configuration = json!({
            "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
            "metadata": {"name": name}, "webhooks": [webhook],
        });
        unanswered.shared.api_server.apply(&configuration)?.success()?;
        let deadline = Instant::now() + TAKEN_UP;
        while !unanswered.called(&unanswered.apply(&pod("new"), &["--dry-run=server"])?) {
            if Instant::now() > deadline {
                return Err(Failure::new("the API server did not take up the webhook"));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(unanswered)
    }

    fn apply(&self, object: &Value, more: &[&str]) -> Outcome<Finished> {
        let mut arguments = vec!["apply", "-n", self.name, "-f", "-"];
        arguments.extend(more);
        self.shared.api_server.kubectl_with(&arguments, &object.to_string())
    }

    /// Changes an object by a JSON patch, and stores nothing.
    fn patch(&self, object: &str, patch: &Value) -> Outcome<Finished> {
        let patch = patch.to_string();
        let arguments = ["--type=json", "--dry-run=server", "-p", &patch];
        let mut all = vec!["patch", "-n", self.name, object];
        all.extend(arguments);
        self.shared.api_server.kubectl(&all)
    }

    /// Writes the pod's ephemeral containers, and stores nothing.
    fn debug(&self, containers: Value) -> Outcome<Finished> {
        let mut pod = self.shared.api_server.get(&["pod", "base", "-n", self.name])?;
        pod["spec"]["ephemeralContainers"] = containers;
        let path =
            format!("/api/v1/namespaces/{}/pods/base/ephemeralcontainers?dryRun=All", self.name);
        let replace = ["replace", "--raw", &path, "-f", "-"];
        self.shared.api_server.kubectl_with(&replace, &pod.to_string())
    }

    fn called(&self, finished: &Finished) -> bool {
        let name = format!("failed calling webhook \"{}.countersign.dev\"", self.name);
        finished.code != Some(0) && finished.stderr.contains(&name)
    }

    fn expect_called(&self, what: &str, finished: &Finished) {
        assert!(self.called(finished), "{what}: not called: {finished}");
    }

    /// Annotates an object and takes a finalizer: no image changes.
    fn expect_unchanged_skipped(&self, object: &str) -> Outcome<()> {
        let note = json!([
            {"op": "add", "path": "/metadata/annotations", "value": {"note": "one"}},
            {"op": "add", "path": "/metadata/finalizers", "value": ["example.com/test"]},
        ]);
        self.patch(object, &note)?.success().context(format!("{object}, unchanged")).map(drop)
    }
}

impl Drop for Unanswered {
    fn drop(&mut self) {
        // The other tests' API server need not keep it.
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let _ = self.shared.api_server.kubectl(&["delete", "--ignore-not-found", kinds, self.name]);
    }
}

fn spec() -> Value {
    json!({
        "containers": [
            {"name": "app", "image": "registry.example.com/app:1"},
            {"name": "side", "image": "registry.example.com/side:1"},
        ],
        "initContainers": [{"name": "init", "image": "registry.example.com/init:1"}],
        "volumes": [
            {"name": "data", "image": {"reference": "registry.example.com/data:1"}},
            {"name": "empty", "emptyDir": {}},
        ],
    })
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec()})
}

/// A pod with the fewest lists there can be.
fn bare() -> Value {
    let spec = json!({"containers": [{"name": "app", "image": "registry.example.com/app:1"}]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": spec})
}

/// The resources with a template, and the path of the pod spec in a JSON patch.
const TEMPLATES: [(&str, &str); 8] = [
    ("deployment/base", "/spec/template/spec"),
    ("replicaset/base", "/spec/template/spec"),
    ("daemonset/base", "/spec/template/spec"),
    ("statefulset/base", "/spec/template/spec"),
    ("replicationcontroller/base", "/spec/template/spec"),
    ("job/base", "/spec/template/spec"),
    ("cronjob/base", "/spec/jobTemplate/spec/template/spec"),
    ("podtemplate/base", "/template/spec"),
];

/// One object of every kind, named `base`, and a pod named `bare`.
fn objects(namespace: &str) -> Vec<Value> {
    let labels = json!({"app": "a"});
    let template = json!({"metadata": {"labels": labels}, "spec": spec()});
    let mut never = template.clone();
    never["spec"]["restartPolicy"] = "Never".into();
    let object = |version: &str, kind: &str, spec: Value| {
        let metadata = json!({"name": "base", "namespace": namespace});
        json!({"apiVersion": version, "kind": kind, "metadata": metadata, "spec": spec})
    };
    let workload = json!({"selector": {"matchLabels": labels}, "template": template});
    let mut stateful = workload.clone();
    stateful["serviceName"] = "a".into();
    let job = json!({"template": never});
    let cron = json!({"schedule": "0 0 * * *", "jobTemplate": {"spec": job}});
    let mut held = object("v1", "PodTemplate", Value::Null);
    held["template"] = template.clone();
    vec![
        pod("base"),
        bare(),
        object("apps/v1", "Deployment", workload.clone()),
        object("apps/v1", "ReplicaSet", workload.clone()),
        object("apps/v1", "DaemonSet", workload),
        object("apps/v1", "StatefulSet", stateful),
        object("v1", "ReplicationController", json!({"selector": labels, "template": template})),
        object("batch/v1", "Job", job),
        object("batch/v1", "CronJob", cron),
        held,
    ]
}

/// Every way to another image in a pod spec at `path`: the patch of each.
fn changes(path: &str) -> Vec<Value> {
    let other = "registry.example.com/other:1";
    let replace = |member: &str| json!([{"op": "replace", "path": format!("{path}/{member}"), "value": other}]);
    let add = |list: &str, entry: Value| json!([{"op": "add", "path": format!("{path}/{list}/-"), "value": entry}]);
    vec![
        replace("containers/0/image"),
        replace("containers/1/image"),
        replace("initContainers/0/image"),
        replace("volumes/0/image/reference"),
        add("containers", json!({"name": "more", "image": other})),
        add("initContainers", json!({"name": "more", "image": other})),
        add("volumes", json!({"name": "more", "image": {"reference": other}})),
        json!([{"op": "replace", "path": format!("{path}/volumes/1"),
            "value": {"name": "empty", "image": {"reference": other}}}]),
    ]
}

/// Every way to other uses of the same images in a template's pod spec at `path`.
fn moves(path: &str) -> Vec<Value> {
    let at = |place: &str| format!("{path}/{place}");
    let remove = |place: &str| json!([{"op": "remove", "path": at(place)}]);
    let moved = |from: &str, to: &str| json!([{"op": "move", "from": at(from), "path": at(to)}]);
    vec![
        json!([{"op": "replace", "path": at("containers/0/name"), "value": "renamed"}]),
        moved("containers/0", "containers/1"),
        moved("initContainers/0", "containers/-"),
        moved("containers/1", "initContainers/-"),
        remove("containers/1"),
        remove("initContainers"),
        remove("volumes"),
        json!([{"op": "replace", "path": at("initContainers"), "value": null}]),
        json!([{"op": "remove", "path": at("volumes/0/image")},
            {"op": "add", "path": at("volumes/0/emptyDir"), "value": {}}]),
    ]
}

#[test]
fn k2_the_validating_webhook_is_called_unless_no_image_can_have_changed() -> Outcome<()> {
    let cluster = Unanswered::start("validate", "ValidatingWebhookConfiguration")?;
    for object in ["pod/base", "pod/bare"] {
        cluster.expect_unchanged_skipped(object)?;
    }
    let image = json!([{"op": "replace", "path": "/spec/containers/0/image", "value": "other"}]);
    cluster.expect_called("a pod", &cluster.patch("pod/base", &image)?);
    cluster.expect_called("a bare pod", &cluster.patch("pod/bare", &image)?);
    let init = json!([{"op": "replace", "path": "/spec/initContainers/0/image", "value": "other"}]);
    cluster.expect_called("an init container", &cluster.patch("pod/base", &init)?);
    cluster.expect_called("debug", &cluster.debug(json!([{"name": "debug", "image": "other"}]))?);
    cluster.debug(json!([]))?.success()?;

    for (object, path) in TEMPLATES {
        cluster.expect_unchanged_skipped(object)?;
        // The condition tells templates as a whole: every change of one kind, one of each other.
        let count = if object == "deployment/base" { usize::MAX } else { 1 };
        for change in changes(path).into_iter().take(count) {
            let finished = cluster.patch(object, &change)?;
            // A Job's template never changes: that is found out before webhooks are called.
            if !(object == "job/base" && finished.stderr.contains("field is immutable")) {
                cluster.expect_called(&format!("{object} {change}"), &finished);
            }
        }
    }
    for change in moves("/spec/template/spec") {
        let finished = cluster.patch("deployment/base", &change)?;
        cluster.expect_called(&format!("deployment {change}"), &finished);
    }
    for mut object in objects(cluster.name) {
        object["metadata"]["name"] = "another".into();
        let finished = cluster.apply(&object, &["--dry-run=server"])?;
        cluster.expect_called(&object["kind"].to_string(), &finished);
    }
    let scaled = json!([{"op": "replace", "path": "/spec/replicas", "value": 3}]);
    cluster.patch("deployment/base", &scaled)?.success()?;
    Ok(())
}

#[test]
fn the_mutating_webhook_is_called_unless_no_image_can_have_changed() -> Outcome<()> {
    let cluster = Unanswered::start("mutate", "MutatingWebhookConfiguration")?;
    for object in ["pod/base", "pod/bare"] {
        cluster.expect_unchanged_skipped(object)?;
    }
    for change in changes("/spec") {
        let finished = cluster.patch("pod/base", &change)?;
        cluster.expect_called(&change.to_string(), &finished);
    }
    cluster.expect_called("debug", &cluster.debug(json!([{"name": "debug", "image": "other"}]))?);
    Ok(())
}
