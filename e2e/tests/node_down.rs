//! Whatever becomes of the node, taking it down leaves this machine as it was.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use countersign_e2e::node::{self, Node, Settings};
use countersign_e2e::process::{run, wait_until};
use countersign_e2e::{Context, Outcome, tools};

/// One test, since each part needs the machine without a node before and after it.
#[test]
fn nothing_is_left() -> Outcome<()> {
    if std::env::var_os(tools::ASSETS).is_some() {
        return Ok(());
    }
    // A crashed run before this one is not what is tested here.
    node::down()?;
    let before = machine()?;
    after_a_stop()?;
    as_before(&before).context("after a stop")?;
    after_a_crash()?;
    as_before(&before).context("after a crash")?;
    after_it_was_kept()?;
    as_before(&before).context("after it was kept")?;
    Ok(())
}

fn after_a_stop() -> Outcome<()> {
    let node = Node::start(&Settings::default())?;
    let run = ["run", "app", "--image", node::WORKLOAD, "--image-pull-policy=Never"];
    node.kubectl(&run)?.success()?;
    node.kubectl(&["wait", "--for=condition=Ready", "pod/app", "--timeout=120s"])?.success()?;
    assert!(!node::remains()?.is_empty());
    node.stop()
}

/// The program that starts the node is killed as soon as the first pod is being made.
fn after_a_crash() -> Outcome<()> {
    let mut up = cluster("up").stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let sandboxes =
        format!("{}/containerd/state/io.containerd.runtime.v2.task/k8s.io", node::FOLDER);
    let running = || Ok(fs::read_dir(&sandboxes).is_ok_and(|mut found| found.next().is_some()));
    wait_until("a sandbox", Duration::from_secs(120), running)?;
    up.kill()?;
    up.wait()?;
    node::down()
}

fn after_it_was_kept() -> Outcome<()> {
    run(&mut cluster("up"), "")?.success()?;
    let kept = Node::start(&Settings::default()).map(drop).map_err(|failure| failure.to_string());
    assert!(kept.is_err_and(|text| text.contains("make demo-down")));
    run(&mut cluster("down"), "")?.success().map(drop)
}

fn cluster(argument: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cluster"));
    command.arg(argument);
    command
}

/// Fails where something is left or missing. The kernel may still be at work: network namespaces go
/// some time after their last process.
fn as_before(before: &[String]) -> Outcome<()> {
    let mut change = Vec::new();
    let settled = || {
        let now = machine()?;
        let added =
            now.iter().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
        let gone = before.iter().filter(|line| !now.contains(line)).map(|line| format!("- {line}"));
        change = added.chain(gone).collect();
        Ok(change.is_empty())
    };
    let outcome = wait_until("the machine as it was before", Duration::from_secs(10), settled);
    outcome.context(change.join("\n"))
}

/// What a node changes of a machine, one thing a line.
fn machine() -> Outcome<Vec<String>> {
    let mut found = Vec::new();
    for [program, arguments] in
        [["ip", "-br link"], ["ip", "route"], ["ip", "netns"], ["nft", "list tables"]]
    {
        let said = run(Command::new(program).args(arguments.split(' ')), "")?.success()?.stdout;
        found.extend(said.lines().map(|line| format!("{program}: {}", line.trim())));
    }
    for folder in ["/sys/fs/cgroup", "/sys/fs/cgroup/pids", "/sys/fs/cgroup/memory"] {
        found.extend(list(folder)?.into_iter().filter(|path| Path::new(path).is_dir()));
    }
    for folder in
        ["/var/lib", "/var/lib/cni", "/var/lib/kubelet", "/var/log", "/run", "/run/containerd"]
    {
        // The lock file stays, since others may wait at it.
        found.extend(list(folder)?.into_iter().filter(|path| path != "/run/countersign-node.lock"));
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let ours = |line: &&str| line.contains("countersign-node") || line.contains("nsfs");
    found.extend(mounts.lines().filter(ours).map(str::to_owned));
    for name in
        ["kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward", "vm/overcommit_memory"]
    {
        let value = fs::read_to_string(format!("/proc/sys/{name}"))?;
        found.push(format!("{name} = {}", value.trim()));
    }
    let processes = run(Command::new("ps").args(["-ww", "-eo", "args"]), "")?.success()?.stdout;
    found.extend(processes.lines().filter(|line| line.contains(node::FOLDER)).map(str::to_owned));
    Ok(found)
}

fn list(folder: &str) -> Outcome<Vec<String>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry?.path().display().to_string());
    }
    found.sort();
    Ok(found)
}
