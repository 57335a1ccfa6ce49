//! What becomes of the cluster when Countersign's own pods go, and what when it is uninstalled.

use std::process::Command;
use std::time::{Duration, Instant};

use countersign_e2e::chart::RELEASE;
use countersign_e2e::process::{run, wait_until};
use countersign_e2e::reviews::{deployment, pod};
use countersign_e2e::{Context, Outcome, installed};
use serde_json::Value;

use crate::cluster::{Cluster, Namespace, SOON, alone, refused};
use crate::load::{Tally, under_load};

/// How long after a crash requests may be refused because Countersign was not reached: until new
/// connections have found the other replica, half of them at the first attempt.
const UNREACHED: Duration = Duration::from_secs(5);

/// The name of a pod of Countersign's, and its container's id.
fn container(pod: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&pod["metadata"]["name"]), text(&pod["status"]["containerStatuses"][0]["containerID"]))
}

/// Waits until two replicas are ready, none of which is this container.
fn two_ready(cluster: &Cluster, without: &str) -> Outcome<()> {
    wait_until("two replicas of Countersign", SOON, || {
        let pods = cluster.replicas()?;
        let ready = |pod: &&Value| pod["status"]["containerStatuses"][0]["ready"] == true;
        let gone = pods.iter().all(|pod| container(pod).1 != without);
        let staying = pods.iter().all(|pod| pod["metadata"]["deletionTimestamp"].is_null());
        Ok(gone && staying && pods.iter().filter(ready).count() == 2)
    })
}

/// The refusals after this crash, none of them too late.
fn told(what: &str, began: Instant, tally: &Tally) {
    let after = |at: &Instant| at.saturating_duration_since(began);
    let last = tally.unreached.iter().map(|(at, _)| after(at)).max().unwrap_or_default();
    eprintln!(
        "{what}: {} right, {} unreached, the last after {last:?}, at most {:?}: {:#?}",
        tally.right,
        tally.unreached.len(),
        tally.longest,
        tally.unreached.first()
    );
    assert!(last < UNREACHED, "{:#?}", tally.unreached);
}

/// Ends each of the two replicas in turn, so that the API server's connection is hit for sure.
fn end_each(
    namespace: &Namespace<'_>,
    what: &str,
    end: impl Fn(&(String, String)) -> Outcome<()>,
) -> Outcome<()> {
    let first = namespace.replicas()?.iter().map(container).collect::<Vec<_>>();
    assert_eq!(first.len(), 2);
    for replica in &first {
        let mut began = Instant::now();
        let tally = under_load(namespace, || {
            began = Instant::now();
            end(replica)?;
            two_ready(namespace, &replica.1)
        })?;
        told(what, began, &tally);
    }
    Ok(())
}

#[test]
fn a_replica_that_is_killed_costs_no_verdict() -> Outcome<()> {
    alone("killed", |namespace| {
        end_each(namespace, "SIGKILL", |(_, id)| namespace.node.kill_container(id))?;
        end_each(namespace, "deleted by force", |(name, _)| {
            let delete = ["delete", "pod", name, "-n", RELEASE, "--force", "--grace-period=0"];
            namespace.node.kubectl(&delete)?.success().map(drop)
        })
    })
}

/// Whoever is asked to end finishes first: an upgrade, a drained node.
#[test]
fn o10_replicas_that_are_replaced_fail_no_request() -> Outcome<()> {
    alone("replaced", |namespace| {
        let rollout = |what: &[&str]| {
            let own = ["-n", RELEASE, "deployment/countersign"];
            namespace.node.kubectl(&[&["rollout"], what, &own].concat())?.success().map(drop)
        };
        let tally = under_load(namespace, || {
            rollout(&["restart"])?;
            rollout(&["status", "--timeout=120s"])?;
            wait_until("the old replicas to be gone", SOON, || Ok(namespace.replicas()?.len() == 2))
        })?;
        eprintln!("{} right, at most {:?}", tally.right, tally.longest);
        assert!(tally.unreached.is_empty(), "{:#?}", tally.unreached);
        Ok(())
    })
}

#[test]
fn o9_a_cluster_that_has_lost_every_replica_and_its_kubelet_recovers() -> Outcome<()> {
    alone("lost", |namespace| {
        namespace.apply(&deployment("app", &namespace.good()))?.success()?;
        let available = "wait --for=condition=Available deployment/app --timeout=120s";
        namespace.line(available)?.success()?;
        // As when the node goes down: nothing runs, and nobody starts anything.
        namespace.node.stop_kubelet()?;
        for replica in namespace.replicas()? {
            namespace.node.kill_container(&container(&replica).1)?;
        }
        let force = ["delete", "pods", "--all", "--force", "--grace-period=0", "-n"];
        for lost in [RELEASE, namespace.name] {
            namespace.node.kubectl(&[&force[..], &[lost]].concat())?.success()?;
        }
        let refused = namespace.apply(&pod("meanwhile", &namespace.good()))?;
        assert_ne!(refused.code, Some(0), "{refused}");
        let unreached = "failed calling webhook \"mutate.countersign.dev\"";
        assert!(refused.stderr.contains(unreached), "{refused}");
        // Its own namespace waits for nobody, and neither does what is not a pod.
        assert!(namespace.replicas()?.len() >= 2, "Countersign's own pods were refused");
        namespace.line("create configmap meanwhile")?.success()?;

        namespace.node.start_kubelet()?;
        let began = Instant::now();
        wait_until("pods can be created", SOON, || {
            Ok(namespace.apply(&pod("after", &namespace.good()))?.code == Some(0))
        })?;
        eprintln!("pods again {:?} after kubelet", began.elapsed());
        refused_still(namespace)?;
        // The ReplicaSet tries by itself, ever more rarely.
        namespace.line(available)?.success()?;
        two_ready(namespace, "")
    })
}

fn refused_still(namespace: &Namespace<'_>) -> Outcome<()> {
    refused(&namespace.apply(&pod("unsigned", &namespace.bad()))?, "Unsigned", &[]);
    Ok(())
}

#[test]
fn an_uninstalled_countersign_is_in_nobodys_way_and_comes_back() -> Outcome<()> {
    alone("uninstalled", |namespace| {
        refused_still(namespace)?;
        let own = ["get", "tsrc,tp,tcp,crd", "-o", "name"];
        let before = namespace.node.kubectl(&own)?.success()?.stdout;
        helm(namespace, namespace.node.helm(&["uninstall", RELEASE, "-n", RELEASE])?)?;
        let began = Instant::now();
        let kinds = "validatingwebhookconfigurations,mutatingwebhookconfigurations";
        let found = ["get", kinds, "-o", "name"];
        wait_until("the webhooks are collected", Duration::from_secs(20), || {
            Ok(!namespace.node.kubectl(&found)?.success()?.stdout.contains("countersign"))
        })?;
        eprintln!("no webhooks {:?} after helm uninstall", began.elapsed());
        wait_until("pods can be created", SOON, || {
            Ok(namespace.apply(&pod("unreviewed", &namespace.bad()))?.code == Some(0))
        })?;
        eprintln!("pods {:?} after helm uninstall", began.elapsed());
        assert_eq!(namespace.node.kubectl(&own)?.success()?.stdout, before);
        // And they stay away.
        wait_until("Countersign's pods are gone", SOON, || Ok(namespace.replicas()?.is_empty()))?;
        assert!(!namespace.node.kubectl(&found)?.success()?.stdout.contains("countersign"));

        helm(namespace, installed::install(&namespace.node)?)?;
        installed::await_refusals(&namespace.node, namespace.name, &namespace.bad())?;
        refused_still(namespace)?;
        namespace.apply(&pod("signed", &namespace.good()))?.success()?;
        let ready = ["wait", "--for=condition=Ready", "--timeout=20s", "tsrc,tp", "--all"];
        namespace.node.kubectl(&ready)?.success().map(drop)
    })
}

fn helm(namespace: &Namespace<'_>, mut command: Command) -> Outcome<()> {
    run(command.current_dir(namespace.lab.folder("")), "")?.success().context("helm").map(drop)
}
