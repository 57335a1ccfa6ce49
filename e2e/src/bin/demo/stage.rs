//! Where the demo plays: a cluster, a registry and a Notary server that its pods reach, and someone
//! who signs.

use std::env;
use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use countersign_e2e::admin::Admin;
use countersign_e2e::chart::RELEASE;
use countersign_e2e::image::Packed;
use countersign_e2e::installed::{self, VALUES};
use countersign_e2e::node::{Node, Settings};
use countersign_e2e::notary::{Notary, Options};
use countersign_e2e::notary_client::NotaryClient;
use countersign_e2e::pki::Authority;
use countersign_e2e::place::Place;
use countersign_e2e::policies::Policies;
use countersign_e2e::process::wait_until;
use countersign_e2e::registry::{Auth, Image, Registry};
use countersign_e2e::{Context, Failure, Outcome, tools};
use serde_json::Value;
use tempfile::TempDir;

use crate::show::{Shown, heading, say, show, shown};

/// The namespace of the workloads.
pub(crate) const NAMESPACE: &str = "payments";

/// What the chart defines, and leaves where it is uninstalled.
const KINDS: [&str; 3] = [
    "trustpolicies.countersign.dev",
    "trustsources.countersign.dev",
    "trustcheckpoints.countersign.dev",
];

/// Whose cluster it is to be.
const KUBECONFIG: &str = "KUBECONFIG";

/// Where that cluster reaches this machine.
const ADDRESS: &str = "COUNTERSIGN_DEMO_ADDRESS";

/// How long a person may take to make a cluster trust the registry.
const TRUSTED: Duration = Duration::from_secs(600);

enum Cluster {
    /// This machine, which becomes a node.
    Own(Node),
    /// The one that `KUBECONFIG` names; the folder is the demo's.
    Given { _folder: TempDir },
}

pub(crate) struct Stage {
    pub(crate) registry: Registry,
    pub(crate) notary: Notary,
    pub(crate) signer: NotaryClient,
    pub(crate) policies: Policies,
    pub(crate) authority: Authority,
    admin: Admin,
    work: PathBuf,
    // Last: the servers are at its address and their files in its folder.
    cluster: Cluster,
}

impl Stage {
    pub(crate) fn start() -> Outcome<Self> {
        let (cluster, admin, place, work) = match env::var_os(KUBECONFIG) {
            Some(kubeconfig) => given(Path::new(&kubeconfig))?,
            None => own()?,
        };
        heading("Starting an image registry and a Notary server");
        fs::create_dir_all(&work)?;
        let authority = Authority::new(&work.join("pki"))?;
        let registry = Registry::start_at(place, &work.join("registry"), &authority, Auth::None)?;
        let options = Options { place, ..Options::default() };
        let notary = Notary::start_with(&work.join("notary"), &authority, options)?;
        let signer = NotaryClient::new(&work.join("signer"), &notary)?;
        let policies = Policies::new(&work.join("policies"))?;
        say(&format!(
            "docker-registry https://{}, notary-server {}",
            registry.host(),
            notary.url()
        ));
        let stage = Self { registry, notary, signer, policies, authority, admin, work, cluster };
        if let Cluster::Own(node) = &stage.cluster {
            node.trust(stage.registry.host(), stage.authority.certificate())?;
        }
        Ok(stage)
    }

    /// Installs Countersign, as an admin does.
    pub(crate) fn install(&self) -> Outcome<()> {
        heading("The admin installs Countersign with Helm");
        let commands = installed::commands(&self.admin, &self.registry, &self.work)?;
        show(VALUES, &fs::read_to_string(self.work.join(VALUES))?);
        commands
            .into_iter()
            .try_for_each(|command| shown(command, &self.work)?.admitted().map(drop))
    }

    /// Waits until the API server asks Countersign about pods of this image, which must be refused.
    pub(crate) fn await_refusals(&self, image: &str) -> Outcome<()> {
        installed::await_refusals(&self.admin, NAMESPACE, image)
    }

    /// kubectl, shown.
    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Outcome<Shown> {
        shown(self.admin.command(arguments), &self.work)
    }

    /// Writes an object to `NAME.json` and applies that in the workloads' namespace, shown.
    pub(crate) fn apply(&self, name: &str, object: &Value) -> Outcome<Shown> {
        let file = format!("{name}.json");
        fs::write(self.work.join(&file), object.to_string())?;
        self.kubectl(&["apply", "-n", NAMESPACE, "-f", &file])
    }

    /// notary, shown.
    pub(crate) fn notary(&self, arguments: &[&str]) -> Outcome<()> {
        shown(self.signer.command(arguments), &self.work)?.admitted().map(drop)
    }

    /// `countersign verify` of an image by the same policies, shown.
    pub(crate) fn verify(&self, image: &str) -> Outcome<Shown> {
        let mut command = Command::new(tools::countersign()?);
        command.args(["verify", "--policies", "policies"]);
        command.args(["--registry-certs-dir", "registry/certs.d", image]);
        shown(command, &self.work)
    }

    /// Pushes an image that runs; another `content` makes another digest.
    pub(crate) fn push(&self, repository: &str, tag: &str, content: &str) -> Outcome<Image> {
        self.registry.push_packed(repository, tag, &Packed::workload()?.labelled(content))
    }

    /// What there is to look at when something is not as told.
    pub(crate) fn logs(&self) -> String {
        installed::logs(&self.admin)
    }

    /// Leaves a cluster of its own running, and another one as it was.
    pub(crate) fn end(self) -> Outcome<()> {
        heading("That was all");
        let Cluster::Own(node) = self.cluster else { return self.clear() };
        say("The cluster, the registry and the Notary server run on. To look around:");
        say(&format!("  export KUBECONFIG={}", node.kubeconfig().display()));
        say("`make demo-down` ends them and removes everything.");
        self.registry.leave();
        self.notary.leave();
        node.keep()
    }

    /// Removes from another's cluster what the demo brought.
    pub(crate) fn clear(&self) -> Outcome<()> {
        if matches!(self.cluster, Cluster::Own(_)) {
            return Ok(());
        }
        say("Removing from the cluster what the demo brought:");
        let release = self.helm(&["uninstall", RELEASE, "-n", RELEASE, "--ignore-not-found"])?;
        let kinds =
            self.kubectl(&[&["delete", "crd", "--ignore-not-found"][..], &KINDS].concat())?;
        let delete = ["delete", "namespace", "--ignore-not-found", RELEASE, NAMESPACE];
        self.kubectl(&delete)?.admitted()?;
        kinds.admitted()?;
        release.admitted().map(drop)
    }

    fn helm(&self, arguments: &[&str]) -> Outcome<Shown> {
        shown(self.admin.helm(arguments)?, &self.work)
    }

    /// Runs a pod from the registry. Another's cluster may have to be told to trust that first.
    pub(crate) fn see_it_pull(&self) -> Outcome<()> {
        self.admin.create_namespace(NAMESPACE)?;
        self.push("hello", "1", "hello")?;
        let image = format!("--image={}/hello:1", self.registry.host());
        // Refused until the namespace has its ServiceAccount.
        let created = || {
            let run = ["run", "hello", "-n", NAMESPACE, &image];
            Ok(self.admin.kubectl(&run)?.code == Some(0))
        };
        wait_until("a pod to pull with", Duration::from_secs(30), created)?;
        if !self.hello_runs(Duration::from_secs(30))? {
            let host = self.registry.host();
            say("No pod from the registry runs. Its nodes have to trust the registry's authority,");
            say(&format!("which is in {}:", self.authority.certificate().display()));
            say(&format!("with containerd, copy it to /etc/containerd/certs.d/{host}/ca.crt."));
            say(&format!("Waiting for {} minutes.", TRUSTED.as_secs() / 60));
            if !self.hello_runs(TRUSTED)? {
                return Err(Failure::new("the cluster cannot pull from the registry"));
            }
        }
        let delete = ["delete", "pod", "hello", "-n", NAMESPACE, "--now"];
        self.admin.kubectl(&delete)?.success().map(drop)
    }

    fn hello_runs(&self, within: Duration) -> Outcome<bool> {
        let within = format!("--timeout={}s", within.as_secs());
        let wait = ["wait", "-n", NAMESPACE, "--for=condition=Ready", "pod/hello", &within];
        Ok(self.admin.kubectl(&wait)?.code == Some(0))
    }
}

type Start = (Cluster, Admin, Place, PathBuf);

fn own() -> Outcome<Start> {
    heading("Starting a Kubernetes node on this machine");
    let node = Node::start(&Settings::default())?;
    let admin = Admin::new(node.kubeconfig())?;
    shown(admin.command(&["get", "nodes"]), node.folder())?.admitted()?;
    let work = node.folder().join("demo");
    Ok((Cluster::Own(node), admin, Place::NODE, work))
}

fn given(kubeconfig: &Path) -> Outcome<Start> {
    let address = env::var(ADDRESS).ok().context(format!(
        "{KUBECONFIG} names a cluster to use: set {ADDRESS} to an IPv4 address of this machine \
         that its nodes and pods reach. Or unset {KUBECONFIG}, and the demo brings its own cluster"
    ))?;
    let address: Ipv4Addr = address.parse().context(format!("{ADDRESS}={address}"))?;
    let folder = tempfile::tempdir()?;
    let work = folder.path().to_owned();
    let admin = Admin::new(kubeconfig)?;
    // In the end all of this is removed: it must be the demo's.
    let found = admin.kubectl(&["get", "namespaces,crds", "-o", "name"])?.success()?.stdout;
    let names = [RELEASE, NAMESPACE].map(|name| format!("namespace/{name}"));
    let kinds = KINDS.map(|name| format!("customresourcedefinition.apiextensions.k8s.io/{name}"));
    let there = |name: &&String| found.lines().any(|line| line == name.as_str());
    if let Some(name) = names.iter().chain(&kinds).find(there) {
        return Err(Failure::new(format!("the cluster has a {name}, which the demo would remove")));
    }
    Ok((Cluster::Given { _folder: folder }, admin, Place::at(address), work))
}
