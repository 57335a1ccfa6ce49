//! What does not change while nobody changes it.

use std::collections::BTreeMap;
use std::env;
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::chart::RELEASE;
use countersign_e2e::lab::{POLICY, SOURCE};
use countersign_e2e::policies::Policy;
use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::{deployment, pod};
use countersign_e2e::{Context, Outcome};
use serde_json::Value;

use crate::cluster::{Cluster, Namespace, REPOSITORY, SOON, alone, beside_others, refused};
use crate::load::under_load;

/// For how many seconds nothing may change under load; 60 where it is not set.
const SECONDS: &str = "COUNTERSIGN_STEADY_SECONDS";

/// The resource versions and generations of the test's source and policy.
fn versions(cluster: &Cluster) -> Outcome<Vec<Value>> {
    let group = "/apis/countersign.dev/v1alpha1";
    let paths =
        [format!("{group}/trustsources/{SOURCE}"), format!("{group}/trustpolicies/{POLICY}")];
    let read = |path: &String| {
        let metadata = cluster.api.get(path)?["metadata"].take();
        Ok([metadata["generation"].clone(), metadata["resourceVersion"].clone()])
    };
    Ok(paths.iter().map(read).collect::<Outcome<Vec<_>>>()?.concat())
}

#[test]
fn sources_and_policies_stand_still_under_load() -> Outcome<()> {
    beside_others("steady", |namespace| {
        let source = namespace.lab.source(REPOSITORY)?;
        let policy = Policy::new(POLICY, &namespace.lab.gun("payments/**"), SOURCE);
        let both = format!("{}---\n{}", source.yaml(), policy.yaml());
        let server_side = ["--server-side", "--force-conflicts", "-f", "-"];
        let apply = || namespace.node.kubectl_with(&[&["apply"], &server_side[..]].concat(), &both);
        let diff = || namespace.node.kubectl_with(&[&["diff"], &server_side[..]].concat(), &both);
        apply()?.success()?;
        let before = versions(namespace)?;
        for resource in [format!("tsrc/{SOURCE}"), format!("tp/{POLICY}")] {
            kstatus(&namespace.node.get(&[&resource])?);
        }
        let seconds = match env::var(SECONDS) {
            Ok(seconds) => seconds.parse().context(SECONDS)?,
            Err(_) => 60,
        };
        let tally = under_load(namespace, || {
            let end = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < end {
                assert_eq!(versions(namespace)?, before);
                thread::sleep(Duration::from_millis(500));
            }
            Ok(())
        })?;
        eprintln!("{} requests in {seconds} s, at most {:?}", tally.right, tally.longest);
        assert!(tally.unreached.is_empty(), "{:#?}", tally.unreached);
        apply()?.success()?;
        diff()?.success()?;
        assert_eq!(versions(namespace)?, before);
        Ok(())
    })
}

/// As kstatus reads it: this generation was observed, and is Ready.
fn kstatus(object: &Value) {
    let status = &object["status"];
    assert_eq!(status["observedGeneration"], object["metadata"]["generation"], "{object}");
    let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
    assert!(ready.is_some_and(|ready| ready["status"] == "True"), "{object}");
    let stalled = |condition: &Value| condition["type"] == "Stalled";
    assert!(!conditions.iter().any(stalled), "{object}");
}

/// K8.
#[test]
fn k8_a_dry_run_gets_the_same_verdict_and_changes_nothing() -> Outcome<()> {
    alone("dry", |namespace| {
        let dry = |object: &Value| {
            let apply = ["apply", "-n", namespace.name, "--dry-run=server", "-f", "-"];
            namespace.node.kubectl_with(&apply, &object.to_string())
        };
        let before = settled(namespace)?;
        let mut refusals = Vec::new();
        for kind in [pod, deployment] {
            dry(&kind("app", &namespace.good()))?.success()?;
            refusals.push(dry(&kind("app", &namespace.bad()))?);
        }
        assert_eq!(before, everything(namespace)?);
        for (kind, tried) in [pod, deployment].into_iter().zip(refusals) {
            refused(&tried, "Unsigned", &[]);
            assert_eq!(namespace.apply(&kind("app", &namespace.bad()))?.stderr, tried.stderr);
        }
        Ok(())
    })
}

/// The same as [`everything`], once controllers have nothing left to do after earlier tests.
fn settled(namespace: &Namespace<'_>) -> Outcome<BTreeMap<String, Value>> {
    let mut before = everything(namespace)?;
    wait_until("nothing to change any more", SOON, || {
        thread::sleep(Duration::from_secs(1));
        let now = everything(namespace)?;
        Ok(std::mem::replace(&mut before, now) == before)
    })?;
    Ok(before)
}

/// Every object of Countersign's and of this test's, with its resource version; no lease, which
/// says only who works.
fn everything(namespace: &Namespace<'_>) -> Outcome<BTreeMap<String, Value>> {
    let kinds =
        namespace.line("api-resources --verbs=list --namespaced -o name")?.success()?.stdout;
    let kinds: Vec<&str> = kinds.lines().filter(|kind| !kind.starts_with("leases.")).collect();
    let kinds = kinds.join(",");
    let cluster = "trustsources,trustpolicies,validatingwebhookconfigurations,\
                   mutatingwebhookconfigurations,clusterroles,clusterrolebindings,crds";
    let mut found = BTreeMap::new();
    for list in [&[&kinds, "-n", RELEASE][..], &[&kinds, "-n", namespace.name], &[cluster]] {
        let list = namespace.node.get(list)?;
        for object in list["items"].as_array().context("no list")? {
            let metadata = &object["metadata"];
            let name = format!(
                "{} {}/{}",
                object["kind"].as_str().unwrap_or_default(),
                metadata["namespace"],
                metadata["name"]
            );
            found.insert(name, metadata["resourceVersion"].clone());
        }
    }
    Ok(found)
}
