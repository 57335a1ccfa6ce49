//! A real API server (etcd and kube-apiserver) without controllers or nodes: it stores and admits,
//! nothing runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::blocking::Client;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::pki::{Authority, Identity};
use crate::process::{Finished, Server, free_port, listens, run};
use crate::{Context, Outcome, http, tools};

/// Two busy cores take about 10 s for kube-apiserver.
const START: Duration = Duration::from_secs(120);

/// The administrator's bearer token; the server listens on loopback only.
const TOKEN: &str = "countersign-test-admin";

/// The bearer token of [`SERVICE_ACCOUNT`].
const SERVICE_ACCOUNT_TOKEN: &str = "countersign-test-service-account";

/// A user with no right but those that a test grants: Countersign's, as in an installation.
pub const SERVICE_ACCOUNT: &str = "system:serviceaccount:countersign-system:countersign";

/// A running API server.
pub struct ApiServer {
    // In this order they are dropped: the API server before its store.
    server: Option<Server>,
    _etcd: Server,
    command: Command,
    client: Client,
    folder: PathBuf,
    port: u16,
    url: String,
    kubectl: PathBuf,
    kubeconfig: PathBuf,
    service_account: PathBuf,
}

impl ApiServer {
    /// Starts etcd and kube-apiserver with their files in `folder`, and waits until the `default`
    /// namespace is there.
    pub fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let kubectl = tools::kubernetes("kubectl")?;
        let (etcd, store) = start_etcd(folder)?;
        let port = free_port()?;
        let url = format!("https://127.0.0.1:{port}");
        let write = |name, token| write_kubeconfig(&folder.join(name), token, &url, authority);
        let mut api_server = Self {
            server: None,
            _etcd: etcd,
            command: api_server_command(folder, port, &store, authority)?,
            client: http::client(authority.certificate())?,
            folder: folder.to_owned(),
            port,
            kubectl,
            kubeconfig: write("kubeconfig", TOKEN)?,
            service_account: write("service-account", SERVICE_ACCOUNT_TOKEN)?,
            url,
        };
        api_server.start_again()?;
        Ok(api_server)
    }

    /// Ends it, and leaves its store running.
    pub fn stop(&mut self) {
        self.server = None;
    }

    /// Starts it on the store and the port that it had, and waits until it answers.
    pub fn start_again(&mut self) -> Outcome<()> {
        let Self { command, client, folder, port, url, .. } = self;
        let ready = || {
            listens(*port)
                && client
                    .get(format!("{url}/api/v1/namespaces/default"))
                    .bearer_auth(TOKEN)
                    .send()
                    .is_ok_and(|answer| answer.status().is_success())
        };
        self.server = Some(Server::start("kube-apiserver", command, folder, START, ready)?);
        Ok(())
    }

    /// Its address: `https://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The kubeconfig of [`SERVICE_ACCOUNT`].
    pub fn service_account(&self) -> &Path {
        &self.service_account
    }

    /// What it has logged so far.
    pub fn log(&self) -> Outcome<String> {
        self.server.as_ref().context("the API server was stopped")?.log()
    }

    /// Runs kubectl as the administrator, whatever it says.
    pub fn kubectl(&self, arguments: &[&str]) -> Outcome<Finished> {
        self.kubectl_with(arguments, "")
    }

    /// As [`Self::kubectl`], with `input` (at most 64 KiB) on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Outcome<Finished> {
        run(&mut self.command(arguments), input)
    }

    /// kubectl with these arguments: its environment makes it the administrator's.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.kubectl);
        command
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("KUBECACHEDIR", self.kubeconfig.with_file_name("kubectl-cache"));
        command
    }

    /// `kubectl apply -f -` of this object, whatever it says.
    pub fn apply(&self, object: &Value) -> Outcome<Finished> {
        self.kubectl_with(&["apply", "-f", "-"], &object.to_string())
    }

    /// Reads an object, as `["pod", "name", "-n", "namespace"]`.
    pub fn get(&self, what: &[&str]) -> Outcome<Value> {
        let mut arguments = vec!["get", "-o", "json"];
        arguments.extend(what);
        Ok(serde_json::from_str(&self.kubectl(&arguments)?.success()?.stdout)?)
    }

    /// Makes a namespace.
    pub fn create_namespace(&self, name: &str) -> Outcome<()> {
        self.kubectl(&["create", "namespace", name])?.success().map(drop)
    }
}

fn start_etcd(folder: &Path) -> Outcome<(Server, String)> {
    let client = format!("http://127.0.0.1:{}", free_port()?);
    let peer = format!("http://127.0.0.1:{}", free_port()?);
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(folder.join("etcd"))
        .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
        .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
        .arg(format!("--initial-cluster=default={peer}"))
        // A test's data need not survive a power cut.
        .arg("--unsafe-no-fsync");
    let port = client.rsplit(':').next().and_then(|port| port.parse().ok()).unwrap_or_default();
    let etcd = Server::start("etcd", &mut command, folder, START, || listens(port))?;
    Ok((etcd, client))
}

fn api_server_command(
    folder: &Path,
    port: u16,
    store: &str,
    authority: &Authority,
) -> Outcome<Command> {
    let identity = authority.server("kube-apiserver")?;
    let tokens = folder.join("tokens.csv");
    let users = format!(
        "{TOKEN},admin,1,\"system:masters\"\n{SERVICE_ACCOUNT_TOKEN},{SERVICE_ACCOUNT},2\n"
    );
    fs::write(&tokens, users)?;
    let service_accounts = service_account_key(folder)?;
    let mut command = Command::new(tools::kubernetes("kube-apiserver")?);
    command
        .arg(format!("--etcd-servers={store}"))
        .arg(format!("--secure-port={port}"))
        .args(["--bind-address=127.0.0.1", "--advertise-address=127.0.0.1"])
        .arg("--tls-cert-file")
        .arg(&identity.certificate)
        .arg("--tls-private-key-file")
        .arg(&identity.key)
        .arg("--token-auth-file")
        .arg(&tokens)
        .arg("--authorization-mode=RBAC")
        // Without the controller manager no namespace gets its ServiceAccount, which pods need.
        .arg("--disable-admission-plugins=ServiceAccount")
        .arg("--service-account-key-file")
        .arg(&service_accounts.certificate)
        .arg("--service-account-signing-key-file")
        .arg(&service_accounts.key)
        .arg("--service-account-issuer=https://kubernetes.default.svc")
        .arg("--service-cluster-ip-range=10.0.0.0/24")
        .arg("--shutdown-delay-duration=0s")
        .current_dir(folder);
    Ok(command)
}

/// A key pair for ServiceAccount tokens: the certificate serves as its public key.
fn service_account_key(folder: &Path) -> Outcome<Identity> {
    crate::pki::self_signed(folder, "service-accounts")
}

fn write_kubeconfig(
    file: &Path,
    token: &str,
    url: &str,
    authority: &Authority,
) -> Outcome<PathBuf> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": url, "certificate-authority": authority.certificate(),
        }}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
    });
    fs::write(file, config.to_string())?;
    Ok(file.to_owned())
}

/// An API server that several tests use at the same time, in namespaces of their own.
pub struct Shared {
    /// The API server.
    pub api_server: ApiServer,
    // After the server, which writes into it.
    _folder: TempDir,
}

impl Shared {
    /// The API server that another test is using now, or a new one.
    pub fn get() -> Outcome<Arc<Self>> {
        static RUNNING: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
        let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(shared) = running.upgrade() {
            return Ok(shared);
        }
        let folder = tempfile::tempdir()?;
        let authority = Authority::new(&folder.path().join("pki"))?;
        let api_server = ApiServer::start(folder.path(), &authority)?;
        let shared = Arc::new(Self { api_server, _folder: folder });
        *running = Arc::downgrade(&shared);
        Ok(shared)
    }
}
