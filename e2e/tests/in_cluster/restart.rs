//! Everything is gone at once, and the Notary server that pods are verified by is a pod itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use countersign_e2e::chart::RELEASE;
use countersign_e2e::image::Packed;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::process::wait_until;
use countersign_e2e::registry::Image;
use countersign_e2e::reviews::{deployment, pod};
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

use crate::cluster::{Cluster, SOON, alone};

/// The namespace of the Notary server.
const NOTARY: &str = "notary";

/// Its address in the cluster.
const URL: &str = "https://notary.notary.svc.cluster.local";

/// How long the cluster may take: its controllers wait ever longer between attempts.
const BACK: Duration = Duration::from_secs(240);

#[test]
fn o9_a_cluster_whose_notary_runs_in_it_comes_up_unaided() -> Outcome<()> {
    alone("restart", |namespace| {
        let cluster = namespace.cluster;
        let app =
            cluster.lab.registry.push_packed("restart/app", "1", &workload("app", &["serve"])?)?;
        cluster.lab.signer.init(&app.name)?;
        cluster.lab.signer.sign(&app.name, "1", &app.digest, app.size)?;
        let server = workload(NOTARY, &["files", "/notary"])?;
        let server = cluster.lab.registry.push_packed("restart/notary", "1", &server)?;
        cluster.node.create_namespace(NOTARY)?;
        let folder = keep_files(cluster, &app)?;
        trust(cluster, &app)?;
        apply(cluster, NOTARY, &notary(&server, &folder))?;
        available(cluster, NOTARY, NOTARY)?;
        // Signed, as far as the Notary server in the cluster tells, which Countersign reads.
        wait_until("the Notary server to be read", SOON, || {
            Ok(namespace.apply(&deployment("app", &app.tagged("1")))?.code == Some(0))
        })?;
        available(cluster, namespace.name, "app")?;

        cluster.node.power_off()?;
        let force = ["delete", "pods", "--all", "--force", "--grace-period=0", "-n"];
        for lost in [RELEASE, NOTARY, namespace.name] {
            cluster.node.kubectl(&[&force[..], &[lost]].concat())?.success()?;
        }
        for (what, own) in [(RELEASE, RELEASE), (NOTARY, NOTARY), ("app", namespace.name)] {
            gone(cluster, own, what)?;
        }
        cluster.node.power_on()?;
        let began = Instant::now();
        let mut up = Vec::new();
        for (what, own) in [(RELEASE, RELEASE), (NOTARY, NOTARY), ("app", namespace.name)] {
            available(cluster, own, what)?;
            up.push(format!("{what} {:.1?}", began.elapsed()));
        }
        println!("available after the power was back: {}", up.join(", "));

        // The hole is as wide as the server itself: not the image elsewhere, and nothing else there.
        scale(cluster, 0)?;
        new_replicas(cluster)?;
        let refusal = |at: &str, image: &str| -> Outcome<String> {
            let path = format!("/api/v1/namespaces/{at}/pods?dryRun=All");
            let (status, answer) = cluster.api.post(&path, &pod("tried", image))?;
            if status == 201 {
                Ok(String::new())
            } else {
                Ok(answer["message"].as_str().context("no message")?.to_owned())
            }
        };
        assert_eq!(refusal(NOTARY, &server.by_digest())?, "", "without its source");
        let elsewhere = refusal(namespace.name, &server.by_digest())?;
        assert!(elsewhere.contains("RootNotPinned"), "{elsewhere}");
        let other = refusal(NOTARY, &app.by_digest())?;
        let unavailable = ["SourceUnavailable", "DeadlineExceeded"];
        assert!(unavailable.iter().any(|code| other.contains(code)), "{other}");
        cluster.node.kubectl(&["delete", "namespace", NOTARY, "--wait=false"])?.success().map(drop)
    })
}

fn workload(name: &str, arguments: &[&str]) -> Outcome<Packed> {
    Ok(Packed::workload()?.arguments(arguments).labelled(name))
}

/// What the Notary server in the cluster serves: the files that a notary-server has signed, on the
/// node's disk, as a database would be.
fn keep_files(cluster: &Cluster, app: &Image) -> Outcome<PathBuf> {
    let folder = cluster.node.folder().join("restart-notary");
    let files = folder.join("files/v2").join(&app.name).join("_trust/tuf");
    fs::create_dir_all(&files)?;
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let file = cluster.lab.notary.metadata_bytes(&app.name, role)?;
        fs::write(files.join(format!("{role}.json")), file)?;
    }
    let host = URL.trim_start_matches("https://");
    let identity = cluster.lab.authority.server_only("notary-in-cluster", &[host])?;
    fs::copy(identity.certificate, folder.join("tls.crt"))?;
    fs::copy(identity.key, folder.join("tls.key"))?;
    Ok(folder)
}

/// The policies of docs/install.md: the server's own image needs no signature where it runs;
/// everywhere else, and everything else, does.
fn trust(cluster: &Cluster, app: &Image) -> Outcome<()> {
    let lab = &cluster.lab;
    let pin = lab.signer.pin(&app.name)?;
    let source = Source::new("in-cluster", URL, &lab.authority.pem()).pin("app", &app.name, &pin);
    let server = lab.gun("restart/notary");
    let mut all = Policy::new("restart", &lab.gun("restart/**"), "in-cluster");
    all.exclude = vec![server.clone()];
    let mut elsewhere = Policy::new("notary-elsewhere", &server, "in-cluster");
    elsewhere.not_in = NOTARY.to_owned();
    let itself = format!(
        "apiVersion: countersign.dev/v1alpha1\nkind: TrustPolicy\nmetadata: {{name: notary-itself}}\nspec:\n  \
         match:\n    images: {{include: [\"{server}\"], exclude: []}}\n    \
         namespaceSelector: {{matchLabels: {{kubernetes.io/metadata.name: {NOTARY}}}}}\n  \
         allowUnverified: {{reason: \"what verifies the others cannot wait for itself\"}}\n"
    );
    for yaml in [source.config_map(), source.yaml(), all.yaml(), elsewhere.yaml(), itself] {
        cluster.apply_own(&yaml)?.success()?;
    }
    let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "tsrc,tp", "--all"];
    cluster.node.kubectl(&ready)?.success().map(drop)
}

/// The server and its Service.
fn notary(image: &Image, folder: &Path) -> Vec<Value> {
    let mut server = deployment(NOTARY, &image.by_digest());
    let spec = &mut server["spec"]["template"]["spec"];
    spec["containers"][0]["volumeMounts"] =
        json!([{"name": "files", "mountPath": "/notary", "readOnly": true}]);
    spec["volumes"] = json!([{"name": "files", "hostPath": {"path": folder}}]);
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": NOTARY},
        "spec": {"selector": {"app": NOTARY}, "ports": [{"port": 443, "targetPort": 8443}]},
    });
    vec![server, service]
}

fn apply(cluster: &Cluster, namespace: &str, objects: &[Value]) -> Outcome<()> {
    objects.iter().try_for_each(|object| {
        let apply = ["apply", "-n", namespace, "-f", "-"];
        cluster.node.kubectl_with(&apply, &object.to_string())?.success().map(drop)
    })
}

pub(crate) fn available(cluster: &Cluster, namespace: &str, name: &str) -> Outcome<()> {
    let rollout = format!("deployment/{name}");
    let within = format!("--timeout={}s", BACK.as_secs());
    let status = ["rollout", "status", &rollout, "-n", namespace, &within];
    cluster.node.kubectl(&status)?.success().map(drop)
}

/// Waits until the Deployment is known to have no pod that runs.
fn gone(cluster: &Cluster, namespace: &str, name: &str) -> Outcome<()> {
    wait_until("the end of all pods", SOON, || {
        let found = cluster.node.get(&["deployment", name, "-n", namespace])?;
        Ok(found["status"]["availableReplicas"].as_u64().unwrap_or(0) == 0)
    })
}

/// So many Notary servers.
fn scale(cluster: &Cluster, count: usize) -> Outcome<()> {
    let count = format!("--replicas={count}");
    let scale = ["scale", "deployment", NOTARY, "-n", NOTARY, &count];
    cluster.node.kubectl(&scale)?.success().map(drop)
}

/// Replaces Countersign's pods by such as know nothing.
pub(crate) fn new_replicas(cluster: &Cluster) -> Outcome<()> {
    let restart = ["rollout", "restart", "deployment/countersign", "-n", RELEASE];
    cluster.node.kubectl(&restart)?.success()?;
    available(cluster, RELEASE, "countersign")?;
    wait_until("the old replicas to be gone", SOON, || Ok(cluster.replicas()?.len() == 2))
}
