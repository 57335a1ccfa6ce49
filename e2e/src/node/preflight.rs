//! Whether this machine can be a node at all. Says what is missing before anything is changed.

use std::fs;
use std::path::{Path, PathBuf};

use super::network;
use crate::{Context, Failure, Outcome};

/// What is called by name, all from Debian packages that `e2e/tools/install` installs.
const PROGRAMS: [&str; 5] = ["containerd", "ctr", "ip", "nft", "runc"];

/// The CNI plugins that are used.
const PLUGINS: [&str; 3] = ["bridge", "host-local", "loopback"];

/// Where Debian has the CNI plugins.
pub(super) const PLUGIN_FOLDER: &str = "/usr/lib/cni";

/// What is needed beyond the programs: capabilities by their number (capabilities(7)).
const CAPABILITIES: [(u32, &str); 2] = [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN")];

const ADVICE: &str = "A test that runs pods needs a machine of its own. Where there is none, set \
                      KUBEBUILDER_ASSETS to the folder of etcd, kube-apiserver and kubectl: then \
                      only what needs no pods is tested";

/// Fails where containers cannot run here.
pub(super) fn check() -> Outcome<()> {
    root()?;
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let held = u64::from_str_radix(line.context("no CapEff in /proc/self/status")?.trim(), 16)?;
    for (number, name) in CAPABILITIES {
        if held & (1 << number) == 0 {
            return Err(Failure::new(format!("{name} is missing, as in a container. {ADVICE}")));
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path =
        |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let there = |name: &&str| Path::new(PLUGIN_FOLDER).join(name).is_file();
    let programs = PROGRAMS.iter().filter(|name| !on_path(name));
    let missing: Vec<&str> =
        programs.chain(PLUGINS.iter().filter(|name| !there(name))).copied().collect();
    if !missing.is_empty() {
        let missing = missing.join(", ");
        return Err(Failure::new(format!("{missing} missing: run `e2e/tools/install`. {ADVICE}")));
    }
    cgroups_writable()
}

/// Fails where this is not root.
pub(super) fn root() -> Outcome<()> {
    if rustix::process::geteuid().is_root() {
        return Ok(());
    }
    Err(Failure::new(format!("only root can start containers. {ADVICE}")))
}

/// Fails where this machine is a node already, or has our bridge's name in use.
pub(super) fn no_other_node() -> Outcome<()> {
    let mut others = network::remains()?;
    others.extend(pod_cgroups().iter().map(|folder| format!("cgroup {}", folder.display())));
    if others.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!(
        "another Kubernetes node runs on this machine, and is left alone: {}",
        others.join(", ")
    )))
}

/// The cgroups that a kubelet makes for pods, as far as they are there: one with cgroup v2, one of
/// each controller with v1.
pub(super) fn pod_cgroups() -> Vec<PathBuf> {
    let pods = |folder: PathBuf| folder.join("kubepods");
    cgroup_roots().into_iter().map(pods).filter(|folder| folder.is_dir()).collect()
}

/// The cgroup file system, and the controllers' with cgroup v1.
fn cgroup_roots() -> Vec<PathBuf> {
    let root = PathBuf::from("/sys/fs/cgroup");
    let entries = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path());
    // `cpu,cpuacct` has names like `cpu` that are links to it.
    let folders: Vec<PathBuf> =
        entries.filter(|path| path.is_dir() && !path.is_symlink()).collect();
    [vec![root], folders].concat()
}

fn cgroups_writable() -> Outcome<()> {
    let unified = Path::new("/sys/fs/cgroup/cgroup.controllers").exists();
    let root = if unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/pids" };
    let probe = Path::new(root).join(format!("countersign-{}", std::process::id()));
    fs::create_dir(&probe).context(format!("cgroups cannot be made. {ADVICE}"))?;
    Ok(fs::remove_dir(&probe)?)
}
