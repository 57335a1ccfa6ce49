//! Starts the node's servers, in the order in which they need each other.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::json;

use super::{ADDRESS_NAME, NAME, Settings, WORKLOAD, config, import, mark, network, path, state};
use crate::admin::Admin;
use crate::control_plane::{ApiServerSettings, Etcd, service_account_key, write_kubeconfig};
use crate::image::Packed;
use crate::pki::{Authority, Identity};
use crate::place::Place;
use crate::process::{Server, run, wait_until};
use crate::{Context, Failure, Outcome, http, tools};

/// kubelet's name among the servers.
pub(super) const KUBELET: &str = "kubelet";

/// containerd's name among the servers.
pub(super) const CONTAINERD: &str = "containerd";

/// How long a server, or the first pod, may take: two idle cores take about 15 s for all of it.
const START: Duration = Duration::from_secs(180);

const API_PORT: u16 = 6443;

/// The users of the API server: the administrator and the parts of Kubernetes, each with its group.
const USERS: [(&str, &str, &str); 5] = [
    ("admin", "admin", "system:masters"),
    ("kube-controller-manager", "system:kube-controller-manager", ""),
    ("kube-scheduler", "system:kube-scheduler", ""),
    (KUBELET, "system:node:countersign", "system:nodes"),
    ("kube-proxy", "system:kube-proxy", ""),
];

/// Brings everything up, and gives the administrator's access once a pod has run.
pub(super) fn bring_up(settings: &Settings) -> Outcome<Admin> {
    state::begin()?;
    network::up()?;
    fs::create_dir_all(path("logs"))?;
    let authority = Authority::new(&path("pki"))?;
    let client = http::client(authority.certificate())?;

    let mut servers = vec![containerd()?];
    let workload = Packed::workload()?;
    import(&workload, WORKLOAD)?;
    import(&workload.arguments(&[]), config::SANDBOX)?;
    let accounts = service_account_key(&path("pki"))?;
    servers.extend(control_plane(&authority, &accounts, &client, settings)?);
    config::kubelet(&authority, &authority.server_as(KUBELET, &[ADDRESS_NAME])?)?;
    servers.push(kubelet()?);
    servers.push(proxy(&client)?);
    servers.push(names()?);

    let admin = Admin::new(&kubeconfig("admin"))?;
    run_a_pod(&admin).map_err(|failure| {
        let logs: Vec<String> = servers.iter().map(Server::tail).collect();
        Failure::new(format!("{failure}\n{}", logs.join("\n")))
    })?;
    servers.into_iter().for_each(Server::leave);
    Ok(admin)
}

/// containerd, with its configuration.
pub(super) fn containerd() -> Outcome<Server> {
    config::containerd()?;
    let mut command = mark::command(CONTAINERD, CONTAINERD);
    command.arg("--config").arg(config::containerd_file());
    start(CONTAINERD, command, || {
        let mut version = Command::new("ctr");
        version.arg("--address").arg(config::socket()).arg("version");
        run(&mut version, "").is_ok_and(|finished| finished.code == Some(0))
    })
}

/// etcd, kube-apiserver, kube-controller-manager and kube-scheduler.
fn control_plane(
    authority: &Authority,
    accounts: &Identity,
    client: &Client,
    settings: &Settings,
) -> Outcome<[Server; 4]> {
    let etcd = Etcd::new()?;
    let mut command = mark::command("etcd", tools::etcd());
    etcd.arguments(&mut command, &path(""));
    let store = start("etcd", command, || Place::LOOPBACK.listens(etcd.port))?;

    let names = [
        ADDRESS_NAME,
        network::API_SERVICE,
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ];
    let own = ApiServerSettings {
        place: Place::NODE,
        port: API_PORT,
        etcd: &etcd,
        identity: &authority.server_as("kube-apiserver", &names)?,
        tokens: &write_users(authority)?,
        service_accounts: accounts,
        services: network::SERVICES,
    };
    let mut command = mark::command("kube-apiserver", tools::kubernetes("kube-apiserver")?);
    own.arguments(&mut command);
    let to_kubelet = authority.client_in("kube-apiserver-to-kubelet", "system:masters")?;
    command
        .args(["--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction"])
        .arg("--kubelet-preferred-address-types=InternalIP")
        .arg("--kubelet-certificate-authority")
        .arg(authority.certificate())
        .arg("--kubelet-client-certificate")
        .arg(to_kubelet.certificate)
        .arg("--kubelet-client-key")
        .arg(to_kubelet.key)
        .args(&settings.api_server);
    let ready = format!("{}/readyz", own.url());
    let api_server = start("kube-apiserver", command, || answers(client, &ready))?;

    let mut command = part("kube-controller-manager")?;
    command
        .args(["--leader-elect=false", "--secure-port=0", "--use-service-account-credentials"])
        .arg("--root-ca-file")
        .arg(authority.certificate())
        .arg("--service-account-private-key-file")
        .arg(&accounts.key);
    let controllers = start("kube-controller-manager", command, || true)?;

    let mut command = part("kube-scheduler")?;
    command.args(["--leader-elect=false", "--secure-port=0"]);
    Ok([store, api_server, controllers, start("kube-scheduler", command, || true)?])
}

/// kubelet, whose configuration is written.
pub(super) fn kubelet() -> Outcome<Server> {
    let mut command = part(KUBELET)?;
    command
        .arg(format!("--config={}", config::KUBELET))
        .arg(format!("--hostname-override={NAME}"))
        .arg(format!("--node-ip={ADDRESS_NAME}"))
        .arg("--root-dir")
        .arg(path("kubelet"))
        .arg("--cert-dir")
        .arg(path("kubelet/pki"));
    let client = http::client(&path("pki/ca.crt"))?;
    let health = format!("http://{ADDRESS_NAME}:{}/healthz", config::KUBELET_HEALTH_PORT);
    start(KUBELET, command, || answers(&client, &health))
}

/// kube-proxy: once it has done its work, the API server answers at its Service's address.
fn proxy(client: &Client) -> Outcome<Server> {
    let mut command = mark::command("kube-proxy", tools::kubernetes("kube-proxy")?);
    command.arg("--config").arg(config::proxy(&kubeconfig("kube-proxy"))?);
    let service = format!("https://{}/readyz", network::API_SERVICE);
    start("kube-proxy", command, || answers(client, &service))
}

/// The cluster's DNS, as the administrator: it is no pod, and has nobody to answer to.
fn names() -> Outcome<Server> {
    let mut command = mark::command("coredns", tools::kubernetes("coredns")?);
    command.arg("-conf").arg(config::names(&kubeconfig("admin"))?);
    start("coredns", command, || Place::NODE.listens(config::DNS_PORT))
}

/// A node can be Ready and yet unable to run anything; so see that a pod runs and answers.
fn run_a_pod(admin: &Admin) -> Outcome<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "first", "namespace": "default"},
        "spec": {"containers": [{
            "name": "first", "image": WORKLOAD, "imagePullPolicy": "Never",
            "readinessProbe": {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1},
        }]},
    });
    // Refused until the controller manager has made the namespace's ServiceAccount.
    let created = || Ok(admin.apply(&pod)?.code == Some(0));
    wait_until("a ServiceAccount for the first pod", START, created)?;
    let within = format!("--timeout={}s", START.as_secs());
    let ready = ["wait", "--for=condition=Ready", "pod/first", &within];
    if let Err(failure) = admin.kubectl(&ready)?.success() {
        let told = admin.kubectl(&["describe", "nodes,pods"])?.stdout;
        return Err(Failure::new(format!("{failure}\n{told}")));
    }
    admin.kubectl(&["delete", "pod", "first", "--now"])?.success().map(drop)
}

/// A part of Kubernetes that reads its own kubeconfig.
fn part(name: &str) -> Outcome<Command> {
    let mut command = mark::command(name, tools::kubernetes(name)?);
    command.arg("--kubeconfig").arg(kubeconfig(name));
    Ok(command)
}

fn start(name: &str, mut command: Command, ready: impl FnMut() -> bool) -> Outcome<Server> {
    Server::start(name, command.current_dir(path("")), &path("logs"), START, ready)
}

fn answers(client: &Client, url: &str) -> bool {
    client.get(url).send().is_ok_and(|answer| answer.status().is_success())
}

/// Gives each user a token that nobody else knows, and a kubeconfig with it.
fn write_users(authority: &Authority) -> Outcome<PathBuf> {
    let url = format!("https://{ADDRESS_NAME}:{API_PORT}");
    let mut lines = String::new();
    for (name, user, group) in USERS {
        let mut secret = [0; 16];
        aws_lc_rs::rand::fill(&mut secret).ok().context("no random numbers")?;
        let token: String = secret.iter().map(|byte| format!("{byte:02x}")).collect();
        lines.push_str(&format!("{token},{user},{name},\"{group}\"\n"));
        write_kubeconfig(&kubeconfig(name), &url, authority, &token)?;
    }
    let file = path("tokens.csv");
    fs::write(&file, lines)?;
    Ok(file)
}

fn kubeconfig(name: &str) -> PathBuf {
    path(&format!("{name}.conf"))
}
