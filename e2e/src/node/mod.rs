//! A real one-node Kubernetes on this machine: etcd, kube-apiserver, kube-controller-manager,
//! kube-scheduler, containerd with runc and a bridge, kubelet and kube-proxy. Pods run.
//!
//! Bridges, cgroups and nftables are the machine's, so there is one node at a time: a lock file
//! keeps programs apart, and [`Shared`] lets the tests of one program share theirs. All files are
//! in one folder and all processes carry a mark in their environment; by these [`down`] finds
//! everything, also after a crash.

mod config;
pub(crate) mod mark;
mod network;
mod preflight;
mod servers;
mod state;
mod teardown;

use std::env;
use std::fs::{self, File, TryLockError};
use std::net::Ipv4Addr;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use crate::admin::Admin;
use crate::image::Packed;
use crate::process::{run, wait_until};
use crate::{Context, Failure, Outcome, tools};

/// This machine as the pods see it, and the pods' gateway.
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 251, 0, 1);

/// [`ADDRESS`] as text: the name under which pods and this machine reach servers on it.
pub const ADDRESS_NAME: &str = "10.251.0.1";

/// The image that is there without a pull: it serves HTTP on port 8080.
pub const WORKLOAD: &str = "localhost/workload:1";

/// The name of the node.
pub const NAME: &str = "countersign";

/// Where all files are. Not in a temporary folder, which others could write to before us.
pub const FOLDER: &str = "/var/lib/countersign-node";

/// Held as long as a program starts, uses or ends the node.
const LOCK: &str = "/run/countersign-node.lock";

/// How long to wait for another program's node to go: its tests may take minutes.
const TURN: Duration = Duration::from_secs(900);

/// How long [`down`] waits for whoever uses the node.
const SHORT_TURN: Duration = Duration::from_secs(5);

/// How long an image may take to be read.
const IMPORT: Duration = Duration::from_secs(60);

/// What a node is started with.
#[derive(Debug, Default, Clone)]
pub struct Settings {
    /// More arguments for kube-apiserver, as `--admission-control-config-file=/some/file`.
    pub api_server: Vec<String>,
}

/// A running node, and its administrator. Dropping it takes everything down.
pub struct Node {
    admin: Admin,
    kept: bool,
    _lock: File,
}

impl Node {
    /// Starts a node and waits until pods run on it. Takes away first what a crashed program left;
    /// waits for another program's node to go; fails where one was kept by [`Self::keep`].
    pub fn start(settings: &Settings) -> Outcome<Self> {
        preflight::check()?;
        let lock = lock(TURN)?;
        match state::read()? {
            Some(state) if state.kept => {
                return Err(Failure::new(
                    "a node was left running on this machine, and there can be one only: \
                     `make demo-down` takes it down",
                ));
            }
            Some(_) => teardown::run()?,
            None => {}
        }
        preflight::no_other_node()?;
        let admin = servers::bring_up(settings).inspect_err(|_| {
            if let Err(failure) = teardown::run() {
                eprintln!("after a failed start: {failure}");
            }
        })?;
        Ok(Self { admin, kept: false, _lock: lock })
    }

    /// Takes everything down; fails where something is left.
    pub fn stop(mut self) -> Outcome<()> {
        self.kept = true;
        teardown::run()
    }

    /// Leaves it running, after this program as well, until [`down`].
    pub fn keep(mut self) -> Outcome<()> {
        state::keep()?;
        self.kept = true;
        Ok(())
    }

    /// The folder of its files; others may put theirs there, to go with the node.
    pub fn folder(&self) -> &'static Path {
        Path::new(FOLDER)
    }

    /// Lets the node pull from a registry (`HOST:PORT`) whose certificate is from this authority
    /// (a PEM file).
    pub fn trust(&self, registry: &str, authority: &Path) -> Outcome<()> {
        let folder = config::certificates().join(registry);
        fs::create_dir_all(&folder)?;
        fs::copy(authority, folder.join("ca.crt")).context(authority.display())?;
        Ok(())
    }

    /// Makes an image known to the node under this reference, without a registry.
    pub fn import(&self, image: &Packed, reference: &str) -> Outcome<()> {
        import(image, reference)
    }

    /// Ends the kubelet and starts it anew, as an upgrade of the node would.
    pub fn restart_kubelet(&self) -> Outcome<()> {
        self.stop_kubelet()?;
        self.start_kubelet()
    }

    /// Ends the kubelet: containers run on, and nobody looks after them.
    pub fn stop_kubelet(&self) -> Outcome<()> {
        mark::stop(servers::KUBELET)
    }

    /// Starts the kubelet that was ended.
    pub fn start_kubelet(&self) -> Outcome<()> {
        servers::kubelet()?.leave();
        Ok(())
    }

    /// As when the power fails: neither kubelet nor containerd runs, nor any pod. The control plane,
    /// which a cluster has elsewhere, runs on.
    pub fn power_off(&self) -> Outcome<()> {
        self.stop_kubelet()?;
        // With its shims.
        mark::stop(servers::CONTAINERD)?;
        teardown::end_pods()
    }

    /// Starts what [`Self::power_off`] ended, as a machine does that starts.
    pub fn power_on(&self) -> Outcome<()> {
        servers::containerd()?.leave();
        self.start_kubelet()
    }

    /// Kills what runs in a container, by its id in the pod's status: `containerd://...`.
    pub fn kill_container(&self, id: &str) -> Outcome<()> {
        let id = id.trim_start_matches("containerd://");
        let mut command = containerd();
        run(command.args(["tasks", "kill", "--signal", "SIGKILL", id]), "")?.success().map(drop)
    }
}

impl Deref for Node {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if !self.kept
            && let Err(failure) = teardown::run()
        {
            eprintln!("taking the node down: {failure}");
        }
    }
}

/// Takes down whatever node there is: a kept one, or what a crash left. Fails where a program uses
/// it right now, or where something is left.
pub fn down() -> Outcome<()> {
    preflight::root()?;
    let _lock = lock(SHORT_TURN)?;
    teardown::run()
}

/// What there is of a node: processes, mounts, cgroups, links, tables, files. Empty where none is.
pub fn remains() -> Outcome<Vec<String>> {
    teardown::remains()
}

/// A node that several tests use at the same time, in namespaces of their own.
pub struct Shared(Node);

impl Shared {
    /// The node that another test of this program is using now, or a new one. `None` where
    /// `KUBEBUILDER_ASSETS` says that this machine is for what needs no pods.
    pub fn get() -> Outcome<Option<Arc<Self>>> {
        static RUNNING: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        if env::var_os(tools::ASSETS).is_some() {
            eprintln!("{} is set: no pods here, so this is not tested", tools::ASSETS);
            return Ok(None);
        }
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = running.upgrade() {
            return Ok(Some(shared));
        }
        let shared = Arc::new(Self(Node::start(&Settings::default())?));
        *running = Arc::downgrade(&shared);
        Ok(Some(shared))
    }
}

impl Deref for Shared {
    type Target = Node;

    fn deref(&self) -> &Node {
        &self.0
    }
}

fn lock(within: Duration) -> Outcome<File> {
    let file = File::create(LOCK).context(LOCK)?;
    if file.try_lock().is_ok() {
        return Ok(file);
    }
    eprintln!("waiting for this machine's node, which another test or program uses");
    wait_until("the end of the other use of this machine's node", within, || {
        match file.try_lock() {
            Ok(()) => Ok(true),
            Err(TryLockError::WouldBlock) => Ok(false),
            Err(TryLockError::Error(error)) => Err(error.into()),
        }
    })?;
    Ok(file)
}

fn import(image: &Packed, reference: &str) -> Outcome<()> {
    let file = path("image.tar");
    fs::write(&file, image.archive(reference)?)?;
    let mut command = containerd();
    command.arg("--timeout").arg(format!("{}s", IMPORT.as_secs()));
    run(command.args(["images", "import"]).arg(&file), "")?.success()?;
    Ok(fs::remove_file(file)?)
}

/// The client of the node's containerd, among kubelet's containers.
fn containerd() -> Command {
    let mut command = Command::new("ctr");
    command.arg("--address").arg(config::socket()).args(["--namespace", "k8s.io"]);
    command
}

/// A file of the node.
fn path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(name)
}
