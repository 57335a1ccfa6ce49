//! Workloads as their authors and their controllers meet Countersign.

use countersign_e2e::lab::refresh;
use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::{deployment, pod, templates};
use countersign_e2e::{Context, Outcome};
use serde_json::{Value, json};

use crate::cluster::{Namespace, REPOSITORY, SOON, beside_others, refused};

fn spec(image: &str) -> Value {
    json!({"containers": [{"name": "app", "image": image}]})
}

#[test]
fn every_kind_is_refused_or_runs_pinned() -> Outcome<()> {
    beside_others("kinds", |namespace| {
        let bad = namespace.bad();
        for (path, object) in templates(&spec(&bad)) {
            let place = format!("{path}.containers[name=app] {bad}");
            refused(&namespace.apply(&object)?, "Unsigned", &[&place]);
        }
        let place = format!("spec.containers[name=app] {bad}");
        refused(&namespace.apply(&pod("alone", &bad))?, "Unsigned", &[&place]);
        assert!(namespace.pods()?.is_empty());

        for (_, object) in templates(&spec(&namespace.good())) {
            namespace.apply(&object)?.success()?;
        }
        namespace.apply(&pod("alone", &namespace.good()))?.success()?;
        namespace.line("create job by-hand --from=cronjob/cronjob")?.success()?;
        // Each by its own controller, the Deployment's by way of a ReplicaSet.
        let kinds = "DaemonSet Job Job ReplicaSet ReplicaSet ReplicationController StatefulSet";
        wait_until("a running pod of every kind", SOON, || {
            let pods = namespace.pods()?;
            let running = |pod: &&Value| pod["status"]["phase"] == "Running";
            let owner = |pod: &Value| {
                Some(pod["metadata"]["ownerReferences"][0]["kind"].as_str()?.to_owned())
            };
            let mut owners: Vec<String> = pods.iter().filter(running).filter_map(owner).collect();
            owners.sort_unstable();
            let alone = |pod: &Value| pod["metadata"]["name"] == "alone";
            Ok(owners.join(" ") == kinds && pods.iter().filter(running).any(alone))
        })?;
        for pod in namespace.pods()? {
            assert_eq!(pod["spec"]["containers"][0]["image"], namespace.pinned(), "{pod}");
        }
        Ok(())
    })
}

#[test]
fn a_deployment_is_refused_where_its_author_looks_and_available_once_signed() -> Outcome<()> {
    beside_others("author", |namespace| {
        refused(&namespace.apply(&deployment("app", &namespace.bad()))?, "Unsigned", &[]);
        namespace.apply(&deployment("app", &namespace.good()))?.success()?;
        let wait = "wait --for=condition=Available deployment/app --timeout=60s";
        namespace.line(wait)?.success()?;
        let pods = namespace.pods()?;
        let running = pods.first().context("no pod")?;
        assert_eq!(running["spec"]["containers"][0]["image"], namespace.pinned());
        let status = &running["status"]["containerStatuses"][0];
        assert_eq!(status["imageID"], namespace.signed.by_digest());

        let change = format!("set image deployment/app app={}", namespace.bad());
        let place = format!("spec.template.spec.containers[name=app] {}", namespace.bad());
        refused(&namespace.line(&change)?, "Unsigned", &[&place]);
        let change =
            format!("set image deployment/app app={} --dry-run=server", namespace.pinned());
        namespace.line(&change)?.success()?;

        let name = running["metadata"]["name"].as_str().context("a pod without a name")?;
        let debug = |container: &str, image: &str| {
            let debug = ["debug", name, "--profile=general", "--image", image, "-c", container];
            namespace.kubectl(&debug)
        };
        let place = format!("spec.ephemeralContainers[name=bad] {}", namespace.bad());
        refused(&debug("bad", &namespace.bad())?, "Unsigned", &[&place]);
        debug("good", &namespace.good())?.success()?;
        wait_until("the debugging container to run", SOON, || {
            let pod = namespace.get("pod", name)?;
            assert_eq!(pod["spec"]["ephemeralContainers"][0]["image"], namespace.pinned());
            Ok(pod["status"]["ephemeralContainerStatuses"][0]["state"]["running"].is_object())
        })
    })
}

#[test]
fn k1_every_place_for_an_image_is_seen() -> Outcome<()> {
    beside_others("places", |namespace| {
        let bad = namespace.bad();
        let with = |member: &str, entry: Value| {
            let mut pod = pod("app", &namespace.good());
            pod["spec"][member] = json!([entry]);
            pod
        };
        let dry = |object: &Value| {
            let apply =
                ["apply", "-n", namespace.name, "--dry-run=server", "-o", "json", "-f", "-"];
            namespace.node.kubectl_with(&apply, &object.to_string())
        };
        let cases = |image: &str| {
            let sidecar = json!({"name": "a", "image": image, "restartPolicy": "Always"});
            [
                ("initContainers", "/image", json!({"name": "a", "image": image})),
                ("initContainers", "/image", sidecar),
                (
                    "volumes",
                    "/image/reference",
                    json!({"name": "a", "image": {"reference": image}}),
                ),
            ]
        };
        for (member, _, entry) in cases(&bad) {
            let place = match member {
                "volumes" => format!("spec.volumes[name=a].image.reference {bad}"),
                _ => format!("spec.{member}[name=a] {bad}"),
            };
            let pod = with(member, entry);
            refused(&dry(&pod)?, "Unsigned", &["1 of 2 images denied", &place]);
        }
        for (member, field, entry) in cases(&namespace.good()) {
            let stored = dry(&with(member, entry))?.success()?.stdout;
            let stored: Value = serde_json::from_str(&stored)?;
            let image = stored["spec"][member][0].pointer(field);
            assert_eq!(image, Some(&namespace.pinned().into()));
        }
        Ok(())
    })
}

/// K2: what does not change an image goes on, though the image would be refused now.
#[test]
fn k2_a_workload_that_is_no_longer_signed_can_be_cared_for() -> Outcome<()> {
    beside_others("revoked", |namespace| {
        let lab = &namespace.lab;
        let image = lab.registry.push(REPOSITORY, "1.6", "to be revoked")?;
        lab.signer.sign(&image.name, "1.6", &image.digest, image.size)?;
        refresh();
        let mut object = deployment("app", &image.tagged("1.6"));
        object["spec"]["replicas"] = 0.into();
        namespace.apply(&object)?.success()?;
        lab.signer.revoke(&image.name, "1.6")?;
        refresh();
        object["metadata"]["name"] = "new".into();
        refused(&namespace.apply(&object)?, "Unsigned", &[]);

        let finalizers = |list: &str| format!(r#"{{"metadata":{{"finalizers":{list}}}}}"#);
        namespace.line("label deployment app tier=web")?.success()?;
        namespace.line("annotate deployment app note=one")?.success()?;
        for list in [r#"["example.com/test"]"#, "null"] {
            let patch = finalizers(list);
            let patch = ["patch", "deployment", "app", "--type=merge", "-p", &patch];
            namespace.kubectl(&patch)?.success()?;
        }
        namespace.line("scale deployment app --replicas=1")?.success()?;
        // The pod is what is refused then, and the Deployment says why.
        let reason = wait_for_failure(namespace)?;
        let first =
            "denied the request: 1 of 1 images denied by TrustPolicy \"payments\": Unsigned";
        assert!(reason.contains(first), "{reason}");
        assert!(namespace.pods()?.is_empty());
        namespace.line("delete deployment app")?.success().map(drop)
    })
}

fn wait_for_failure(namespace: &Namespace<'_>) -> Outcome<String> {
    let mut reason = None;
    wait_until("the Deployment to say that its pods are refused", SOON, || {
        let deployment = namespace.get("deployment", "app")?;
        let conditions = deployment["status"]["conditions"].as_array().cloned();
        let failure = conditions.into_iter().flatten().find(|one| one["type"] == "ReplicaFailure");
        reason = failure.and_then(|one| Some(one["message"].as_str()?.to_owned()));
        Ok(reason.is_some())
    })?;
    reason.context("no reason")
}
