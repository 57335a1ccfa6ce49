//! The node runs what the other tests put on it: pods whose images come from a registry of ours.

use std::time::Duration;

use countersign_e2e::image::Packed;
use countersign_e2e::node::{self, Shared};
use countersign_e2e::pki::Authority;
use countersign_e2e::place::Place;
use countersign_e2e::process::wait_until;
use countersign_e2e::registry::{Auth, Image, Registry};
use countersign_e2e::{Context, Outcome, http};
use serde_json::{Value, json};
use tempfile::TempDir;

const SOON: Duration = Duration::from_secs(60);

/// A registry that the node pulls from.
fn registry(node: &Shared) -> Outcome<(TempDir, Authority, Registry)> {
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let place = folder.path().join("registry");
    let registry = Registry::start_at(Place::NODE, &place, &authority, Auth::None)?;
    node.trust(registry.host(), authority.certificate())?;
    Ok((folder, authority, registry))
}

fn workload(registry: &Registry) -> Outcome<Image> {
    let packed = Packed::workload()?.labelled("1.4");
    registry.push_packed("payments/api", "1.4", &packed)
}

fn deployment(name: &str, image: &str) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [{
                    "name": name, "image": image,
                    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
                    "securityContext": {"runAsNonRoot": true, "readOnlyRootFilesystem": true},
                }]},
            },
        },
    })
}

/// Applies an object in a namespace.
fn apply(node: &Shared, namespace: &str, object: &Value) -> Outcome<()> {
    node.kubectl_with(&["apply", "-n", namespace, "-f", "-"], &object.to_string())?
        .success()
        .map(drop)
}

fn available(node: &Shared, namespace: &str, name: &str) -> Outcome<()> {
    let deployment = format!("deployment/{name}");
    let status = ["rollout", "status", "-n", namespace, &deployment, "--timeout=120s"];
    node.kubectl(&status)?.success().map(drop)
}

#[test]
fn a_deployment_from_our_registry_serves_behind_a_service() -> Outcome<()> {
    let Some(node) = Shared::get()? else { return Ok(()) };
    let (_folder, authority, registry) = registry(&node)?;
    let image = workload(&registry)?;
    node.create_namespace("served")?;
    apply(&node, "served", &deployment("app", &image.tagged("1.4")))?;
    node.kubectl(&["expose", "-n", "served", "deployment/app", "--port=80", "--target-port=8080"])?
        .success()?;
    available(&node, "served", "app")?;

    let pods = node.get(&["pods", "-n", "served"])?;
    let pods = pods["items"].as_array().context("no pods")?;
    assert_eq!(pods.len(), 2);
    for pod in pods {
        assert_eq!(pod["status"]["containerStatuses"][0]["imageID"], image.by_digest());
    }
    let names: Vec<&str> = pods.iter().filter_map(|pod| pod["metadata"]["name"].as_str()).collect();

    let service = node.get(&["service", "app", "-n", "served"])?;
    let address = service["spec"]["clusterIP"].as_str().context("no address")?.to_owned();
    // A Service may refuse for a moment after its pods are ready.
    let client = http::client(authority.certificate())?;
    let ask = || client.get(format!("http://{address}/")).send()?.text();
    let from_here = || Ok(ask().is_ok_and(|name| names.contains(&name.as_str())));
    wait_until("the Service to answer this machine", SOON, from_here)?;

    // A pod finds the Service by name, whichever pod it is sent to: both are on its own bridge.
    let image = format!("--image={}", node::WORKLOAD);
    let run = ["run", "asker", "-n", "served", &image, "--restart=Never", "--"];
    node.kubectl(&[&run[..], &["ask", "app.served.svc:80"]].concat())?.success()?;
    let done = "--for=jsonpath={.status.phase}=Succeeded";
    node.kubectl(&["wait", "-n", "served", done, "pod/asker", "--timeout=60s"])?.success()?;
    let said = node.kubectl(&["logs", "-n", "served", "asker"])?.success()?.stdout;
    assert!(names.contains(&said.trim()), "{said}");
    node.kubectl(&["delete", "namespace", "served", "--wait=false"])?.success().map(drop)
}

#[test]
fn pods_outlive_their_kubelet() -> Outcome<()> {
    let Some(node) = Shared::get()? else { return Ok(()) };
    node.create_namespace("restarted")?;
    let local = |name: &str| {
        let mut object = deployment(name, node::WORKLOAD);
        object["spec"]["template"]["spec"]["containers"][0]["imagePullPolicy"] = "Never".into();
        object
    };
    apply(&node, "restarted", &local("old"))?;
    available(&node, "restarted", "old")?;
    let uids = || -> Outcome<Vec<Value>> {
        let pods = node.get(&["pods", "-n", "restarted", "-l", "app=old"])?;
        let pods = pods["items"].as_array().context("no pods")?;
        let containers = |pod: &Value| pod["status"]["containerStatuses"][0]["containerID"].clone();
        Ok(pods.iter().map(containers).collect())
    };
    let before = uids()?;
    node.restart_kubelet()?;
    apply(&node, "restarted", &local("new"))?;
    available(&node, "restarted", "new")?;
    assert_eq!(before, uids()?);
    node.kubectl(&["delete", "namespace", "restarted", "--wait=false"])?.success().map(drop)
}
