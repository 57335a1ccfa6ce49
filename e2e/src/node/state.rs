//! What has to be known to take the node down, in a file, since another program may have to do it.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{FOLDER, path};
use crate::{Context, Outcome};

/// The kernel parameters that the node's parts change: the bridge, and kubelet.
const SYSCTLS: [&str; 7] = [
    "kernel.keys.root_maxbytes",
    "kernel.keys.root_maxkeys",
    "kernel.panic",
    "kernel.panic_on_oops",
    "net.ipv4.ip_forward",
    "vm.overcommit_memory",
    "vm.panic_on_oom",
];

/// A node's state.
pub(super) struct State {
    /// Whether it is meant to run on without the program that started it.
    pub(super) kept: bool,
    /// The kernel parameters as they were before.
    pub(super) sysctls: BTreeMap<String, String>,
}

/// The state of the node that is there, or was left by a crash.
pub(super) fn read() -> Outcome<Option<State>> {
    if !PathBuf::from(FOLDER).exists() {
        return Ok(None);
    }
    let file = path("state.json");
    // The file comes first of all: without it nothing was changed yet.
    let state: Value = match fs::read(&file) {
        Ok(text) => serde_json::from_slice(&text).context(file.display())?,
        Err(_) => json!({}),
    };
    let sysctls = state["sysctls"].as_object().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Ok(Some(State {
        kept: state["kept"] == true,
        sysctls: sysctls.map(|(name, value)| (name.clone(), text(value))).collect(),
    }))
}

/// Makes the folder and notes how the machine is before anything is changed.
pub(super) fn begin() -> Outcome<()> {
    let read = |name: &&str| Some(((*name).to_owned(), sysctl(name)?));
    write(&State { kept: false, sysctls: SYSCTLS.iter().filter_map(read).collect() })
}

/// Notes that the node is to run on.
pub(super) fn keep() -> Outcome<()> {
    let state = read()?.context("there is no node to keep")?;
    write(&State { kept: true, ..state })
}

/// Puts the kernel parameters back.
pub(super) fn restore(state: &State) -> Outcome<()> {
    state.sysctls.iter().try_for_each(|(name, value)| set_sysctl(name, value))
}

/// A kernel parameter; `None` where this kernel has none of that name.
pub(super) fn sysctl(name: &str) -> Option<String> {
    Some(fs::read_to_string(sysctl_file(name)).ok()?.trim().to_owned())
}

/// Changes a kernel parameter where it is not so already.
pub(super) fn set_sysctl(name: &str, value: &str) -> Outcome<()> {
    if sysctl(name).as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(sysctl_file(name), value).context(format!("setting {name} to {value}"))
}

fn sysctl_file(name: &str) -> String {
    format!("/proc/sys/{}", name.replace('.', "/"))
}

fn write(state: &State) -> Outcome<()> {
    fs::create_dir_all(FOLDER).context(FOLDER)?;
    let text = json!({"kept": state.kept, "sysctls": state.sysctls}).to_string();
    // Whole or not at all.
    let partial = path("state.partial");
    fs::write(&partial, text)?;
    Ok(fs::rename(partial, path("state.json"))?)
}
