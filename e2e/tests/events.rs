//! Events on the owners of refused pods, in a real API server, by an account with the chart's rights
//! and no others.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use countersign_e2e::api_server::ApiServer;
use countersign_e2e::chart::RELEASE;
use countersign_e2e::countersign::{Config, Countersign, Kubernetes};
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::Policy;
use countersign_e2e::process::{Finished, Server, wait_until};
use countersign_e2e::reviews::{create, pod};
use countersign_e2e::webhooks::Webhooks;
use countersign_e2e::{Context, Outcome, install, tools};
use serde_json::{Value, json};

const NAMESPACE: &str = "payments";

/// Nothing is fetched for it: its policy's source is missing.
const IMAGE: &str = "registry.example.com/payments/api:1.5";

/// Events are written beside the answers.
const WRITTEN: Duration = Duration::from_secs(10);

/// The controller comes to try for the sixth time a fraction of a second after it is there.
const RETRIED: Duration = Duration::from_secs(60);

struct Cluster {
    api_server: ApiServer,
    kubernetes: Kubernetes,
    authority: Authority,
}

impl Cluster {
    fn start(folder: &Path) -> Outcome<Self> {
        let authority = Authority::new(&folder.join("pki"))?;
        let api_server = ApiServer::start(&folder.join("kubernetes"), &authority)?;
        install::definitions(&api_server)?;
        install::grant(&api_server, RELEASE, RELEASE)?;
        api_server.create_namespace(NAMESPACE)?;
        let kubernetes = Kubernetes {
            kubeconfig: api_server.account(RELEASE, RELEASE)?,
            namespace: RELEASE.to_owned(),
            stale_after: 300,
        };
        let policy = Policy::new("payments", "registry.example.com/payments/**", "corp").yaml();
        api_server.kubectl_with(&["apply", "-f", "-"], &policy)?.success()?;
        Ok(Self { api_server, kubernetes, authority })
    }

    fn countersign(&self, folder: &Path, name: &str) -> Outcome<Countersign> {
        let config =
            Config { kubernetes: Some(self.kubernetes.clone()), ..Config::new(Path::new("")) };
        Countersign::start(&folder.join(name), &self.authority, &config)
    }

    fn register(&self, countersign: &Countersign) -> Outcome<()> {
        let (url, authority) = (countersign.url(), self.authority.certificate());
        Webhooks { name: "events", url, authority, namespaces: &[NAMESPACE] }
            .register(&self.api_server)
    }

    fn kubectl(&self, arguments: &[&str]) -> Outcome<Finished> {
        self.api_server.kubectl(&[&["-n", NAMESPACE], arguments].concat())
    }

    /// Made before the webhooks are: as one whose policy came later.
    fn replica_set(&self, name: &str) -> Outcome<Value> {
        let labels = json!({"app": name});
        let containers = json!([{"name": "app", "image": IMAGE}]);
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
        let replica_set = json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": {"replicas": 0, "selector": {"matchLabels": labels}, "template": template},
        });
        self.api_server.apply(&replica_set)?.success()?;
        let made = self.api_server.get(&["rs", name, "-n", NAMESPACE])?;
        Ok(json!({
            "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": name,
            "uid": made["metadata"]["uid"], "controller": true,
        }))
    }

    fn refused(&self, pod: &Value, more: &[&str]) -> Outcome<()> {
        let arguments = [&["-n", NAMESPACE, "create", "-f", "-"], more].concat();
        let refused = self.api_server.kubectl_with(&arguments, &pod.to_string())?;
        assert!(refused.stderr.contains("SourceNotFound"), "{refused}");
        Ok(())
    }

    fn events(&self) -> Outcome<Vec<Value>> {
        let list = self.api_server.get(&["events.v1.events.k8s.io", "-n", NAMESPACE])?;
        Ok(list["items"].as_array().context("no list")?.clone())
    }

    /// Waits until there is one event, and it counts so many.
    fn one_event(&self, count: u64) -> Outcome<Value> {
        let counted = |event: &Value| event["series"]["count"].as_u64().unwrap_or(1);
        let what = format!("an event that counts {count}");
        let mut found = Vec::new();
        wait_until(&what, WRITTEN, || {
            found = self.events()?;
            Ok(found.iter().map(counted).sum::<u64>() == count)
        })?;
        assert_eq!(found.len(), 1, "{found:#?}");
        found.pop().context("no event")
    }
}

fn owned(owner: &Value) -> Value {
    let mut pod = pod("app-x", IMAGE);
    pod["metadata"]["ownerReferences"] = json!([owner]);
    pod
}

#[test]
fn who_looks_at_a_replica_set_sees_once_why_it_has_no_pods() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path())?;
    let (owner, other) = (cluster.replica_set("app")?, cluster.replica_set("dry")?);
    let first = cluster.countersign(folder.path(), "one")?;
    cluster.register(&first)?;

    // None of these is an event.
    cluster.refused(&owned(&other), &["--dry-run=server"])?;
    cluster.refused(&pod("alone", IMAGE), &[])?;
    for _ in 0..5 {
        cluster.refused(&owned(&owner), &[])?;
    }
    let event = cluster.one_event(5)?;
    assert_eq!(event["regarding"]["uid"], owner["uid"]);
    let first_s = &event["reportingInstance"];
    assert!(first_s.as_str().is_some_and(|name| name.starts_with("countersign-")), "{event}");
    let described = cluster.kubectl(&["describe", "rs", "app"])?.success()?;
    let line = described.stdout.lines().find(|line| line.contains("Warning"));
    let line = line.context(format!("no event: {described}"))?;
    let check = format!("check: countersign verify {IMAGE}");
    let told = ["SourceNotFound", "x5 over", "countersign", "TrustPolicy \"payments\"", &check];
    assert!(told.iter().all(|told| line.contains(told)), "{line}");
    let ours = ["get", "events", "--field-selector=reportingComponent=countersign"];
    let listed = cluster.kubectl(&ours)?.success()?;
    assert!(listed.stdout.contains("replicaset/app") && listed.stdout.contains(&check), "{listed}");

    // Another replica, which may not read events either, counts in the same one.
    let second = cluster.countersign(folder.path(), "two")?;
    for _ in 0..3 {
        second
            .review("/validate", &create(NAMESPACE, &owned(&owner)))?
            .denied_as("SourceNotFound")?;
    }
    cluster.one_event(8)?;
    cluster.refused(&owned(&owner), &[])?;
    assert_eq!(&cluster.one_event(9)?["reportingInstance"], first_s);

    // Events expire; the next refusal makes one again.
    cluster.kubectl(&["delete", "events", "--all"])?.success()?;
    cluster.refused(&owned(&owner), &[])?;
    assert_eq!(cluster.one_event(1)?["series"], Value::Null);
    let metrics = first.probe("/metrics")?;
    assert!(metrics.contains("countersign_events_total{outcome=\"written\"} 7"), "{metrics}");
    for countersign in [&first, &second] {
        let log = countersign.log()?;
        assert!(!log.contains("event could not be written"), "{log}");
    }
    Ok(())
}

#[test]
fn a_controller_that_tries_again_and_again_makes_one_event() -> Outcome<()> {
    if std::env::var_os(tools::ASSETS).is_some() {
        eprintln!("{} is set: no controllers here, so this is not tested", tools::ASSETS);
        return Ok(());
    }
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path())?;
    cluster.replica_set("app")?;
    let countersign = cluster.countersign(folder.path(), "one")?;
    cluster.register(&countersign)?;
    let mut command = Command::new(tools::kubernetes("kube-controller-manager")?);
    command.arg("--kubeconfig").arg(cluster.api_server.kubeconfig()).args([
        "--controllers=replicaset-controller",
        "--leader-elect=false",
        "--secure-port=0",
    ]);
    let _controllers =
        Server::start("kube-controller-manager", &mut command, folder.path(), WRITTEN, || true)?;
    cluster.kubectl(&["scale", "rs", "app", "--replicas=3"])?.success()?;
    let mut events = Vec::new();
    wait_until("a series", RETRIED, || {
        let ours = |event: &Value| event["reportingController"] == "countersign";
        events = cluster.events()?.into_iter().filter(ours).collect();
        Ok(events.iter().any(|event| event["series"]["count"].as_u64() > Some(5)))
    })?;
    assert_eq!(events.len(), 1, "{events:#?}");
    assert_eq!(events[0]["regarding"]["name"], "app");
    assert_eq!(events[0]["reason"], "SourceNotFound");
    Ok(())
}

#[test]
fn without_the_right_to_write_events_pods_are_judged_as_ever() -> Outcome<()> {
    let folder = tempfile::tempdir()?;
    let cluster = Cluster::start(folder.path())?;
    let owner = cluster.replica_set("app")?;
    let countersign = cluster.countersign(folder.path(), "one")?;
    cluster.register(&countersign)?;
    let role = cluster.api_server.get(&["clusterrole", RELEASE])?;
    let rules = role["rules"].as_array().context("no rules")?.iter();
    let rules: Vec<&Value> =
        rules.filter(|rule| rule["apiGroups"] != json!(["events.k8s.io"])).collect();
    let patch = json!({"rules": rules}).to_string();
    let arguments = ["patch", "clusterrole", RELEASE, "--type=merge", "-p", &patch];
    cluster.api_server.kubectl(&arguments)?.success()?;
    let failed = || -> Outcome<bool> {
        cluster.refused(&owned(&owner), &[])?;
        Ok(countersign.probe("/metrics")?.contains("events_total{outcome=\"failed\"}"))
    };
    wait_until("a failed event", WRITTEN, failed)?;
    wait_until("a line in the log", WRITTEN, || {
        let log = countersign.log()?;
        Ok(log.contains("an event could not be written") && log.contains("forbidden"))
    })
}
