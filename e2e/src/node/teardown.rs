//! Takes the node down, whatever of it there is: everything is looked for, nothing is assumed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::mount::{UnmountFlags, unmount};
use rustix::process::{Pid, Signal};

use super::config::{self, NETWORK};
use super::preflight::pod_cgroups;
use super::{FOLDER, mark, network, servers, state};
use crate::process::wait_until;
use crate::{Context, Failure, Outcome};

/// How long the kernel may take to let go of what ended.
const RELEASED: Duration = Duration::from_secs(20);

/// Where containerd, its network and kubelet also write, and cannot be told not to.
const RESULTS: &str = "/var/lib/cni/results";
const SHIM_SOCKETS: &str = "/run/containerd/s";
const CONTAINER_LOGS: &str = "/var/log/containers";
const DEVICE_PLUGINS: &str = "/var/lib/kubelet/device-plugins";

/// Takes everything down; fails where something is left.
pub(super) fn run() -> Outcome<()> {
    let Some(state) = state::read()? else { return expect_nothing() };
    // First who would start pods anew, then who runs them.
    mark::stop(servers::KUBELET)?;
    mark::stop(servers::CONTAINERD)?;
    mark::kill_all()?;
    end_pods()?;
    unmount_all()?;
    network::down()?;
    pod_cgroups().iter().try_for_each(|folder| remove_cgroup(folder))?;
    remove_sockets()?;
    remove_traces()?;
    state::restore(&state)?;
    fs::remove_dir_all(FOLDER).context(FOLDER)?;
    expect_nothing()
}

/// What there is of a node.
pub(super) fn remains() -> Outcome<Vec<String>> {
    let mut found = network::remains()?;
    let processes = mark::processes(None)?;
    found.extend(processes.iter().map(|(pid, line)| format!("process {pid:?} {line}")));
    found.extend(mounts()?.iter().map(|mount| format!("mount {}", mount.display())));
    if Path::new(FOLDER).exists() {
        found.push(format!("folder {FOLDER}"));
        found.extend(pod_cgroups().iter().map(|folder| format!("cgroup {}", folder.display())));
    }
    Ok(found)
}

fn expect_nothing() -> Outcome<()> {
    let found = remains()?;
    if found.is_empty() {
        return Ok(());
    }
    Err(Failure::new(format!("left of the node:\n{}", found.join("\n"))))
}

/// Removes the sockets of the shims: those that were made since containerd was to start, and that
/// nobody listens on any more.
fn remove_sockets() -> Outcome<()> {
    let Ok(started) = fs::metadata(config::containerd_file()).and_then(|file| file.modified())
    else {
        return Ok(());
    };
    for socket in entries(Path::new(SHIM_SOCKETS))? {
        let refused =
            UnixStream::connect(&socket).is_err_and(|e| e.kind() == ErrorKind::ConnectionRefused);
        if refused && fs::symlink_metadata(&socket)?.modified()? >= started {
            remove_file(&socket)?;
        }
    }
    Ok(())
}

/// Kills what runs in pods: no process outlives this in a cgroup of theirs.
pub(super) fn end_pods() -> Outcome<()> {
    let cgroups = pod_cgroups();
    wait_until("the end of the pods' processes", RELEASED, || {
        let mut none = true;
        for folder in &cgroups {
            for pid in cgroup_processes(folder)? {
                none = false;
                mark::kill(pid, Signal::KILL)?;
            }
        }
        Ok(none)
    })
}

fn cgroup_processes(folder: &Path) -> Outcome<Vec<Pid>> {
    let own = fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    let own = own.lines().filter_map(|line| Pid::from_raw(line.parse().ok()?));
    let mut found: Vec<Pid> = own.collect();
    for child in folders(folder)? {
        found.extend(cgroup_processes(&child)?);
    }
    Ok(found)
}

/// Removes a cgroup with those below it. Its processes have ended; the kernel may take a moment.
fn remove_cgroup(folder: &Path) -> Outcome<()> {
    for child in folders(folder)? {
        remove_cgroup(&child)?;
    }
    wait_until(&format!("cgroup {}", folder.display()), RELEASED, || match fs::remove_dir(folder) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) if error.kind() == ErrorKind::ResourceBusy => Ok(false),
        Err(error) => Err(error.into()),
    })
}

/// The mounts below the folder, the last one first.
fn mounts() -> Outcome<Vec<PathBuf>> {
    let table = fs::read_to_string("/proc/self/mountinfo")?;
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|mount| mount.starts_with(FOLDER))
        .collect();
    found.reverse();
    Ok(found)
}

fn unmount_all() -> Outcome<()> {
    for mount in mounts()? {
        // Detached, since a namespace that is just ending may still hold it.
        unmount(&mount, UnmountFlags::DETACH).context(mount.display())?;
    }
    Ok(())
}

/// Removes what is outside of the folder, and only what is from this node.
fn remove_traces() -> Outcome<()> {
    for result in entries(Path::new(RESULTS))? {
        let name = result.file_name().unwrap_or_default().to_string_lossy().into_owned();
        // NETWORK-CONTAINER-INTERFACE
        let container =
            name.strip_prefix(&format!("{NETWORK}-")).and_then(|rest| rest.split('-').next());
        if let Some(container) = container {
            remove_file(&result)?;
            remove_file(&Path::new(RESULTS).join(format!("cni-loopback-{container}-lo")))?;
        }
    }
    for log in entries(Path::new(CONTAINER_LOGS))? {
        if fs::read_link(&log).is_ok_and(|target| target.starts_with(FOLDER)) {
            remove_file(&log)?;
        }
    }
    remove_file(&Path::new(DEVICE_PLUGINS).join("kubelet.sock"))?;
    for folder in [RESULTS, SHIM_SOCKETS, CONTAINER_LOGS, DEVICE_PLUGINS] {
        remove_empty(Path::new(folder))?;
    }
    ["/var/lib/cni", "/run/containerd", "/var/lib/kubelet"]
        .iter()
        .try_for_each(|folder| remove_empty(Path::new(folder)))
}

fn remove_empty(folder: &Path) -> Outcome<()> {
    match fs::remove_dir(folder) {
        Err(error)
            if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DirectoryNotEmpty) =>
        {
            Err(error).context(folder.display())
        }
        _ => Ok(()),
    }
}

fn remove_file(file: &Path) -> Outcome<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(file.display()),
        _ => Ok(()),
    }
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Outcome<Vec<PathBuf>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error).context(folder.display()),
    }
}

fn folders(folder: &Path) -> Outcome<Vec<PathBuf>> {
    Ok(entries(folder)?.into_iter().filter(|path| path.is_dir() && !path.is_symlink()).collect())
}
