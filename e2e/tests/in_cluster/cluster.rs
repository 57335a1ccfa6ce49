//! The node with an installation, which all tests of this program share.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};
use std::time::Duration;

use countersign_e2e::api::Api;
use countersign_e2e::chart::RELEASE;
use countersign_e2e::image::Packed;
use countersign_e2e::lab::{Lab, POLICY};
use countersign_e2e::node;
use countersign_e2e::policies::Policy;
use countersign_e2e::process::{Finished, run, wait_until};
use countersign_e2e::registry::Image;
use countersign_e2e::{Context, Outcome, installed};
use serde_json::Value;

/// How long anything may take on two busy cores that follows by itself.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// The repository that [`POLICY`] is about.
pub(crate) const REPOSITORY: &str = "payments/api";

/// The namespace that a first refusal is awaited in.
const FIRST: &str = "first";

/// A node on which Countersign is installed, and what signing and pulling take.
pub(crate) struct Cluster {
    pub(crate) lab: Lab,
    pub(crate) api: Api,
    /// Signed as 1.4.
    pub(crate) signed: Image,
    /// There as 1.5, and not signed.
    pub(crate) unsigned: Image,
    /// Held for writing by a test that takes Countersign away from the others.
    peace: RwLock<()>,
    // Last: the servers are at its address.
    pub(crate) node: Arc<node::Shared>,
}

impl Cluster {
    /// The one that another test is using now, or a new one. `None` where no pods can run.
    fn get() -> Outcome<Option<Arc<Self>>> {
        static RUNNING: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cluster) = running.upgrade() {
            return Ok(Some(cluster));
        }
        let Some(node) = node::Shared::get()? else { return Ok(None) };
        let cluster = Arc::new(Self::start(node)?);
        *running = Arc::downgrade(&cluster);
        Ok(Some(cluster))
    }

    fn start(node: Arc<node::Shared>) -> Outcome<Self> {
        let lab = Lab::start_at_node()?;
        node.trust(lab.registry.host(), lab.authority.certificate())?;
        let push = |tag: &str| {
            lab.registry.push_packed(REPOSITORY, tag, &Packed::workload()?.labelled(tag))
        };
        let (signed, unsigned) = (push("1.4")?, push("1.5")?);
        lab.signer.init(&signed.name)?;
        lab.signer.sign(&signed.name, "1.4", &signed.digest, signed.size)?;
        for mut command in installed::commands(&node, &lab.registry, &lab.folder(""))? {
            run(&mut command, "")?
                .success()
                .inspect_err(|_| eprintln!("{}", installed::logs(&node)))?;
        }
        let api = Api::new(&node)?;
        let cluster = Self { lab, api, signed, unsigned, peace: RwLock::new(()), node };
        cluster.trust()?;
        cluster.node.create_namespace(FIRST)?;
        installed::await_refusals(&cluster.node, FIRST, &cluster.bad())?;
        Ok(cluster)
    }

    /// The source, and the policy that whatever is in `payments/` has to be signed there.
    fn trust(&self) -> Outcome<()> {
        let source = self.lab.source(REPOSITORY)?;
        let policy = Policy::new(POLICY, &self.lab.gun("payments/**"), &source.name);
        for yaml in [source.config_map(), source.yaml(), policy.yaml()] {
            self.apply_own(&yaml)?.success()?;
        }
        let ready = ["wait", "--for=condition=Ready", "--timeout=60s", "tsrc,tp", "--all"];
        self.node.kubectl(&ready)?.success().map(drop)
    }

    /// Applies a resource of Countersign's, or what one names.
    pub(crate) fn apply_own(&self, yaml: &str) -> Outcome<Finished> {
        self.node.kubectl_with(&["apply", "-n", RELEASE, "-f", "-"], yaml)
    }

    pub(crate) fn good(&self) -> String {
        self.signed.tagged("1.4")
    }

    pub(crate) fn bad(&self) -> String {
        self.unsigned.tagged("1.5")
    }

    pub(crate) fn pinned(&self) -> String {
        format!("{}@{}", self.good(), self.signed.digest)
    }

    /// Countersign's pods.
    pub(crate) fn replicas(&self) -> Outcome<Vec<Value>> {
        let selector = "app.kubernetes.io/name=countersign,pod-template-hash";
        let pods = self.node.get(&["pods", "-n", RELEASE, "-l", selector])?;
        pods["items"].as_array().cloned().context("no list of pods")
    }
}

/// A namespace of one test.
pub(crate) struct Namespace<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) name: &'static str,
}

impl Deref for Namespace<'_> {
    type Target = Cluster;

    fn deref(&self) -> &Cluster {
        self.cluster
    }
}

impl Namespace<'_> {
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Outcome<Finished> {
        self.node.kubectl(&[&["-n", self.name], arguments].concat())
    }

    /// As [`Self::kubectl`], of words without blanks in them.
    pub(crate) fn line(&self, line: &str) -> Outcome<Finished> {
        self.kubectl(&line.split(' ').collect::<Vec<_>>())
    }

    pub(crate) fn apply(&self, object: &Value) -> Outcome<Finished> {
        self.node.kubectl_with(&["apply", "-n", self.name, "-f", "-"], &object.to_string())
    }

    pub(crate) fn get(&self, kind: &str, name: &str) -> Outcome<Value> {
        self.node.get(&[kind, name, "-n", self.name])
    }

    pub(crate) fn pods(&self) -> Outcome<Vec<Value>> {
        let pods = self.node.get(&["pods", "-n", self.name])?;
        pods["items"].as_array().cloned().context("no list of pods")
    }

    /// Creates a pod and stores nothing.
    pub(crate) fn dry(&self, pod: &Value) -> Outcome<(u16, Value)> {
        self.api.post(&format!("/api/v1/namespaces/{}/pods?dryRun=All", self.name), pod)
    }

    /// Creates a pod.
    pub(crate) fn create(&self, pod: &Value) -> Outcome<(u16, Value)> {
        self.api.post(&format!("/api/v1/namespaces/{}/pods", self.name), pod)
    }
}

/// A test beside others.
pub(crate) fn beside_others(
    name: &'static str,
    test: impl FnOnce(&Namespace<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let Some(cluster) = Cluster::get()? else { return Ok(()) };
    let _peace = cluster.peace.read().unwrap_or_else(PoisonError::into_inner);
    play(&cluster, name, test)
}

/// A test that the others wait for, and that waits for them.
pub(crate) fn alone(
    name: &'static str,
    test: impl FnOnce(&Namespace<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let Some(cluster) = Cluster::get()? else { return Ok(()) };
    let _war = cluster.peace.write().unwrap_or_else(PoisonError::into_inner);
    play(&cluster, name, test)
}

fn play(
    cluster: &Cluster,
    name: &'static str,
    test: impl FnOnce(&Namespace<'_>) -> Outcome<()>,
) -> Outcome<()> {
    let mut told = Told { cluster, done: false };
    cluster.node.create_namespace(name)?;
    // Without it the API server refuses pods.
    let account = ["get", "serviceaccount", "default", "-n", name];
    let there = || Ok(cluster.node.kubectl(&account)?.code == Some(0));
    wait_until("the namespace's ServiceAccount", SOON, there)?;
    test(&Namespace { cluster, name })?;
    told.done = true;
    cluster.node.kubectl(&["delete", "namespace", name, "--wait=false"])?.success().map(drop)
}

/// Tells what Countersign logged, unless the test is done.
struct Told<'a> {
    cluster: &'a Cluster,
    done: bool,
}

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if !self.done {
            eprintln!("{}", installed::logs(&self.cluster.node));
        }
    }
}

/// Whether kubectl was refused by Countersign, with this code and all of these parts.
pub(crate) fn refused(finished: &Finished, code: &str, parts: &[&str]) {
    refused_by(POLICY, finished, code, parts);
}

/// As [`refused`], by the policy of this name.
pub(crate) fn refused_by(policy: &str, finished: &Finished, code: &str, parts: &[&str]) {
    assert_ne!(finished.code, Some(0), "{finished}");
    let first = finished.stderr.lines().find(|line| line.contains("denied the request: "));
    let first = first.unwrap_or_default();
    let webhook = "admission webhook \"validate.countersign.dev\" denied the request: 1 of ";
    assert!(first.contains(webhook), "{finished}");
    let last = format!(" denied by TrustPolicy \"{policy}\": {code}");
    assert!(first.ends_with(&last), "{finished}");
    for part in parts {
        assert!(finished.stderr.contains(part), "no {part:?} in: {finished}");
    }
}
