//! Countersign behind a real API server: what kubectl shows, and what is stored.

use std::sync::Arc;

use countersign_e2e::api_server::{ApiServer, Shared};
use countersign_e2e::countersign::Countersign;
use countersign_e2e::front::Mode;
use countersign_e2e::lab::{Lab, refresh};
use countersign_e2e::process::Finished;
use countersign_e2e::registry::Image;
use countersign_e2e::reviews::{deployment, pod, templates};
use countersign_e2e::webhooks::Webhooks;
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

const REPOSITORY: &str = "payments/api";

/// A namespace of a real API server whose objects Countersign reviews.
struct Cluster {
    shared: Arc<Shared>,
    namespace: &'static str,
    _countersign: Countersign,
    lab: Lab,
    signed: Image,
    unsigned: Image,
}

impl Cluster {
    /// An image is signed as 1.4; another one is there as 1.5, unsigned.
    fn start(namespace: &'static str) -> Outcome<Self> {
        let shared = Shared::get()?;
        let lab = Lab::start()?;
        let signed = lab.trusted(REPOSITORY, "1.4")?;
        let unsigned = lab.registry.push(REPOSITORY, "1.5", "not signed")?;
        let countersign = lab.countersign("countersign")?;
        shared.api_server.create_namespace(namespace)?;
        Webhooks {
            name: namespace,
            url: countersign.url(),
            authority: lab.authority.certificate(),
            namespaces: &[namespace],
        }
        .register(&shared.api_server)?;
        Ok(Self { shared, namespace, _countersign: countersign, lab, signed, unsigned })
    }

    fn api_server(&self) -> &ApiServer {
        &self.shared.api_server
    }

    fn good(&self) -> String {
        self.signed.tagged("1.4")
    }

    fn bad(&self) -> String {
        self.unsigned.tagged("1.5")
    }

    fn pinned(&self) -> String {
        format!("{}@{}", self.good(), self.signed.digest)
    }

    fn apply(&self, object: &Value) -> Outcome<Finished> {
        self.api_server()
            .kubectl_with(&["apply", "-n", self.namespace, "-f", "-"], &object.to_string())
    }

    fn kubectl(&self, arguments: &[&str]) -> Outcome<Finished> {
        let mut all = vec!["-n", self.namespace];
        all.extend(arguments);
        self.api_server().kubectl(&all)
    }

    fn pod(&self, name: &str) -> Outcome<Value> {
        self.api_server().get(&["pod", name, "-n", self.namespace])
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // The API server outlives this test, and would wait for a webhook that is gone.
        let _ = Webhooks::unregister(self.api_server(), self.namespace);
    }
}

fn refused(finished: &Finished, parts: &[&str]) {
    assert_ne!(finished.code, Some(0), "{finished}");
    for part in parts {
        assert!(finished.stderr.contains(part), "no {part:?} in: {finished}");
    }
}

#[test]
fn every_kind_of_workload_is_reviewed_where_its_author_looks() -> Outcome<()> {
    let cluster = Cluster::start("kinds")?;
    for (path, object) in
        templates(&json!({"containers": [{"name": "app", "image": cluster.bad()}]}))
    {
        let finished = cluster.apply(&object)?;
        let place = format!("{path}.containers[name=app] {}", cluster.bad());
        refused(&finished, &["1 of 1 images denied by TrustPolicy \"payments\": Unsigned", &place]);
    }
    for (_, object) in templates(&json!({"containers": [{"name": "app", "image": cluster.good()}]}))
    {
        cluster.apply(&object)?.success()?;
    }
    Ok(())
}

#[test]
fn a_pod_is_stored_with_the_digest_that_was_signed() -> Outcome<()> {
    let cluster = Cluster::start("pinning")?;
    cluster.apply(&pod("tagged", &cluster.good()))?.success()?;
    assert_eq!(cluster.pod("tagged")?["spec"]["containers"][0]["image"], cluster.pinned().as_str());
    cluster.apply(&pod("digest", &cluster.signed.by_digest()))?.success()?;
    refused(&cluster.apply(&pod("unsigned", &cluster.bad()))?, &["Unsigned"]);
    refused(&cluster.apply(&pod("unsigned", &cluster.unsigned.by_digest()))?, &["Unsigned"]);
    // r1: the tag moves after the pod was stored; the pod keeps what was signed.
    cluster.lab.registry.tag(&cluster.unsigned, "1.4")?;
    assert_eq!(cluster.pod("tagged")?["spec"]["containers"][0]["image"], cluster.pinned().as_str());
    Ok(())
}

#[test]
fn k1_init_sidecar_ephemeral_and_volume_images_are_seen() -> Outcome<()> {
    let cluster = Cluster::start("everywhere")?;
    let (good, bad) = (cluster.good(), cluster.bad());
    let with = |member: &str, entry: Value| {
        let mut pod = pod("app", &good);
        pod["spec"][member] = json!([entry]);
        pod
    };
    let init = with("initContainers", json!({"name": "init", "image": bad}));
    refused(&cluster.apply(&init)?, &["spec.initContainers[name=init]", "1 of 2 images"]);
    let sidecar = json!({"name": "sidecar", "image": bad, "restartPolicy": "Always"});
    refused(
        &cluster.apply(&with("initContainers", sidecar))?,
        &["spec.initContainers[name=sidecar]"],
    );
    let volume = json!({"name": "data", "image": {"reference": bad}});
    refused(&cluster.apply(&with("volumes", volume))?, &["spec.volumes[name=data]"]);

    let volume = json!({"name": "data", "image": {"reference": good}});
    cluster.apply(&with("volumes", volume))?.success()?;
    let stored = cluster.pod("app")?;
    assert_eq!(stored["spec"]["volumes"][0]["image"]["reference"], cluster.pinned().as_str());

    refused(
        &debug(&cluster, &stored, &bad)?,
        &["spec.ephemeralContainers[name=debug]", "Unsigned"],
    );
    debug(&cluster, &stored, &good)?.success()?;
    let debugged = &cluster.pod("app")?["spec"]["ephemeralContainers"][0]["image"];
    assert_eq!(debugged, cluster.pinned().as_str());
    Ok(())
}

/// Adds an ephemeral container by the pod's subresource, as `kubectl debug` does.
fn debug(cluster: &Cluster, stored: &Value, image: &str) -> Outcome<Finished> {
    let mut pod = stored.clone();
    pod["spec"]["ephemeralContainers"] = json!([{"name": "debug", "image": image}]);
    let path = format!("/api/v1/namespaces/{}/pods/app/ephemeralcontainers", cluster.namespace);
    cluster.api_server().kubectl_with(&["replace", "--raw", &path, "-f", "-"], &pod.to_string())
}

#[test]
fn k2_updates_that_change_no_image_need_no_network() -> Outcome<()> {
    let cluster = Cluster::start("updates")?;
    cluster.apply(&pod("app", &cluster.good()))?.success()?;
    cluster.apply(&deployment("app", &cluster.good()))?.success()?;
    // From now on nothing verifies, and nothing is asked but whether the source is back.
    cluster.lab.signer.revoke(&cluster.signed.name, "1.4")?;
    refresh();
    assert!(cluster.apply(&pod("other", &cluster.good()))?.success().is_err());
    cluster.lab.front.set(Mode::Down);
    let reads = || {
        let reads = cluster.lab.front.reads();
        reads.iter().filter(|path| !path.ends_with("/timestamp.json")).count()
    };
    let before = reads();
    let manifests = cluster.lab.registry.requests()?.len();
    let finalizers = r#"{"metadata": {"finalizers": ["example.com/test"]}}"#;
    let status = r#"{"status": {"phase": "Running"}}"#;
    for arguments in [
        ["label", "pod", "app", "tier=web"].as_slice(),
        &["annotate", "deployment", "app", "note=one"],
        &["scale", "deployment", "app", "--replicas=3"],
        &["patch", "pod", "app", "--type=merge", "-p", finalizers],
        &["patch", "pod", "app", "--subresource=status", "--type=merge", "-p", status],
    ] {
        cluster.kubectl(arguments)?.success()?;
    }
    assert_eq!(reads(), before);
    assert_eq!(cluster.lab.registry.requests()?.len(), manifests);
    Ok(())
}

#[test]
fn k2_an_update_that_changes_an_image_is_reviewed_even_of_a_pod_that_is_being_deleted()
-> Outcome<()> {
    let cluster = Cluster::start("changes")?;
    let mut pod = pod("app", &cluster.good());
    pod["metadata"]["finalizers"] = json!(["example.com/test"]);
    cluster.apply(&pod)?.success()?;
    cluster.apply(&deployment("app", &cluster.good()))?.success()?;
    let change = format!("app={}", cluster.bad());
    refused(&cluster.kubectl(&["set", "image", "pod/app", &change])?, &["Unsigned"]);
    refused(&cluster.kubectl(&["set", "image", "deployment/app", &change])?, &["Unsigned"]);

    cluster.kubectl(&["delete", "pod", "app", "--wait=false"])?.success()?;
    cluster.pod("app")?["metadata"]["deletionTimestamp"].as_str().context("not being deleted")?;
    refused(&cluster.kubectl(&["set", "image", "pod/app", &change])?, &["Unsigned"]);
    let none = r#"{"metadata": {"finalizers": null}}"#;
    cluster.kubectl(&["patch", "pod", "app", "--type=merge", "-p", none])?.success().map(drop)
}

#[test]
fn k3_k4_owners_labels_annotations_and_replicas_excuse_nothing() -> Outcome<()> {
    let cluster = Cluster::start("excuses")?;
    let mut owned = pod("owned", &cluster.bad());
    owned["metadata"]["ownerReferences"] = json!([{
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "trusted", "controller": true,
        "uid": "d9607e19-f88f-11e6-a518-42010a800195",
    }]);
    refused(&cluster.apply(&owned)?, &["Unsigned"]);
    let marks = json!({
        "countersign.dev/skip": "true", "countersign.dev/exclude": "true",
        "admission.countersign.dev/ignore": "true",
    });
    let mut marked = pod("marked", &cluster.bad());
    marked["metadata"]["labels"] = marks.clone();
    marked["metadata"]["annotations"] = marks;
    refused(&cluster.apply(&marked)?, &["Unsigned"]);
    let mut asleep = deployment("asleep", &cluster.bad());
    asleep["spec"]["replicas"] = json!(0);
    refused(&cluster.apply(&asleep)?, &["Unsigned"]);
    Ok(())
}

#[test]
fn a_rejection_says_every_reason_and_the_next_step() -> Outcome<()> {
    let cluster = Cluster::start("message")?;
    let mut policy = cluster.lab.policy();
    policy.help = "https://wiki.example.com/signing".to_owned();
    cluster.lab.policies.policy(&policy)?;
    let countersign = cluster.lab.countersign("helpful")?;
    let namespaces = [cluster.namespace];
    let authority = cluster.lab.authority.certificate();
    Webhooks {
        name: cluster.namespace,
        url: countersign.url(),
        authority,
        namespaces: &namespaces,
    }
    .register(cluster.api_server())?;

    let mut object = deployment("app", &cluster.good());
    let containers =
        object.pointer_mut("/spec/template/spec/containers").context("no containers")?;
    *containers = json!([
        {"name": "app", "image": cluster.good()},
        {"name": "web", "image": cluster.bad()},
        {"name": "odd", "image": "Not An Image"},
    ]);
    let finished = cluster.apply(&object)?;
    let check = format!("check: countersign verify {}", cluster.bad());
    refused(
        &finished,
        &[
            "2 of 3 images denied by",
            "InvalidReference",
            "Unsigned",
            "spec.template.spec.containers[name=web]",
            "spec.template.spec.containers[name=odd] Not An Image",
            "tag \"1.5\" is not signed in",
            &check,
            "help: https://wiki.example.com/signing",
        ],
    );
    assert!(!finished.stderr.contains("containers[name=app]"), "{finished}");
    Ok(())
}

#[test]
fn k8_a_dry_run_is_answered_alike_and_stores_nothing() -> Outcome<()> {
    let cluster = Cluster::start("dry-run")?;
    let arguments = ["apply", "-n", cluster.namespace, "--dry-run=server", "-f", "-"];
    let dry = |object: &Value| cluster.api_server().kubectl_with(&arguments, &object.to_string());
    dry(&pod("app", &cluster.good()))?.success()?;
    refused(&dry(&pod("app", &cluster.bad()))?, &["Unsigned"]);
    refused(&cluster.kubectl(&["get", "pod", "app"])?, &["NotFound"]);
    Ok(())
}
