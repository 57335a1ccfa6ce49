//! The bridge that the pods are on, and what kube-proxy makes.

use std::process::Command;

use super::{ADDRESS_NAME, state};
use crate::process::run;
use crate::{Context, Outcome};

/// The bridge.
pub(super) const BRIDGE: &str = "countersign0";

/// The addresses of the bridge and of the pods.
pub(super) const PODS: &str = "10.251.0.0/24";

/// The first address for a pod; those below are for this machine.
pub(super) const FIRST_POD: &str = "10.251.0.10";

/// The addresses of Services.
pub(super) const SERVICES: &str = "10.252.0.0/24";

/// The address of the Service `kubernetes`: the first one.
pub(super) const API_SERVICE: &str = "10.252.0.1";

/// The tables of kube-proxy.
const TABLES: [[&str; 2]; 2] = [["ip", "kube-proxy"], ["ip6", "kube-proxy"]];

/// Makes the bridge.
pub(super) fn up() -> Outcome<()> {
    state::set_sysctl("net.ipv4.ip_forward", "1")?;
    tool("ip", &["link", "add", BRIDGE, "type", "bridge"])?;
    tool("ip", &["addr", "add", &format!("{ADDRESS_NAME}/24"), "dev", BRIDGE])?;
    tool("ip", &["link", "set", BRIDGE, "up"])?;
    // So that this machine reaches Services even where it has no default route.
    tool("ip", &["route", "add", SERVICES, "dev", BRIDGE, "src", ADDRESS_NAME])
}

/// Takes away what is there of it.
pub(super) fn down() -> Outcome<()> {
    for [family, name] in tables()? {
        tool("nft", &["delete", "table", family, name])?;
    }
    if !link()? {
        return Ok(());
    }
    // Each pod's end would go by itself with its namespace, but later.
    let ends = run(Command::new("ip").args(["-oneline", "link", "show", "master", BRIDGE]), "")?;
    for line in ends.success()?.stdout.lines() {
        // 7: veth1234@if2: <BROADCAST...
        let name = line.split(' ').nth(1).and_then(|name| name.split('@').next());
        remove_link(name.context("a link without a name")?)?;
    }
    remove_link(BRIDGE)
}

/// That it has just gone by itself is no failure.
fn remove_link(name: &str) -> Outcome<()> {
    let removed = run(Command::new("ip").args(["link", "delete", name]), "")?;
    if removed.stderr.contains("Cannot find device") { Ok(()) } else { removed.success().map(drop) }
}

/// What there is of it.
pub(super) fn remains() -> Outcome<Vec<String>> {
    let tables = tables()?.into_iter().map(|table| format!("nftables table {}", table.join(" ")));
    let link = link()?.then(|| format!("network link {BRIDGE}"));
    Ok(tables.chain(link).collect())
}

fn link() -> Outcome<bool> {
    Ok(run(Command::new("ip").args(["link", "show", BRIDGE]), "")?.code == Some(0))
}

fn tables() -> Outcome<Vec<[&'static str; 2]>> {
    let list = run(Command::new("nft").args(["list", "tables"]), "")?.success()?.stdout;
    let there =
        |table: &[&str; 2]| list.lines().any(|line| line == format!("table {}", table.join(" ")));
    Ok(TABLES.into_iter().filter(there).collect())
}

fn tool(program: &str, arguments: &[&str]) -> Outcome<()> {
    run(Command::new(program).args(arguments), "")?.success().map(drop)
}
