//! A real API server (etcd and kube-apiserver) without controllers or nodes: it stores and admits,
//! nothing runs.

use std::fs;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use reqwest::blocking::Client;
use tempfile::TempDir;

use crate::admin::Admin;
use crate::control_plane::{ApiServerSettings, Etcd, service_account_key, write_kubeconfig};
use crate::pki::Authority;
use crate::place::Place;
use crate::process::{Server, listens};
use crate::{Context, Outcome, http, tools};

/// Two busy cores take about 10 s for kube-apiserver.
const START: Duration = Duration::from_secs(120);

/// The administrator's bearer token; the server listens on loopback only.
const TOKEN: &str = "countersign-test-admin";

/// The bearer token of [`SERVICE_ACCOUNT`].
const SERVICE_ACCOUNT_TOKEN: &str = "countersign-test-service-account";

/// A user with no right but those that a test grants: Countersign's, as in an installation.
pub const SERVICE_ACCOUNT: &str = "system:serviceaccount:countersign-system:countersign";

/// A running API server, and its administrator.
pub struct ApiServer {
    // In this order they are dropped: the API server before its store.
    server: Option<Server>,
    _etcd: Server,
    command: Command,
    client: Client,
    folder: PathBuf,
    port: u16,
    url: String,
    admin: Admin,
    service_account: PathBuf,
}

impl ApiServer {
    /// Starts etcd and kube-apiserver with their files in `folder`, and waits until the `default`
    /// namespace is there.
    pub fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        Self::start_with(folder, authority, &[])
    }

    /// As [`Self::start`], with more arguments for kube-apiserver.
    pub fn start_with(folder: &Path, authority: &Authority, more: &[String]) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let store = Etcd::new()?;
        let mut command = Command::new(tools::etcd());
        store.arguments(&mut command, folder);
        let etcd = Server::start("etcd", &mut command, folder, START, || listens(store.port))?;

        let tokens = folder.join("tokens.csv");
        let users = format!(
            "{TOKEN},admin,1,\"system:masters\"\n{SERVICE_ACCOUNT_TOKEN},{SERVICE_ACCOUNT},2\n"
        );
        fs::write(&tokens, users)?;
        let settings = ApiServerSettings {
            place: Place::LOOPBACK,
            port: Place::LOOPBACK.free_port()?,
            etcd: &store,
            identity: &authority.server("kube-apiserver")?,
            tokens: &tokens,
            service_accounts: &service_account_key(folder)?,
            services: "10.0.0.0/24",
        };
        let mut command = Command::new(tools::kubernetes("kube-apiserver")?);
        settings.arguments(&mut command);
        command
            .arg("--authorization-mode=RBAC")
            // Without the controller manager no namespace gets its ServiceAccount, which pods need.
            .arg("--disable-admission-plugins=ServiceAccount")
            .args(more)
            .current_dir(folder);
        let url = settings.url();
        let kubeconfig = folder.join("kubeconfig");
        write_kubeconfig(&kubeconfig, &url, authority, TOKEN)?;
        let service_account = folder.join("service-account");
        write_kubeconfig(&service_account, &url, authority, SERVICE_ACCOUNT_TOKEN)?;
        let mut api_server = Self {
            server: None,
            _etcd: etcd,
            command,
            client: http::client(authority.certificate())?,
            folder: folder.to_owned(),
            port: settings.port,
            url,
            admin: Admin::new(&kubeconfig)?,
            service_account,
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

    /// The kubeconfig of [`SERVICE_ACCOUNT`].
    pub fn service_account(&self) -> &Path {
        &self.service_account
    }

    /// What it has logged so far.
    pub fn log(&self) -> Outcome<String> {
        self.server.as_ref().context("the API server was stopped")?.log()
    }
}
impl Deref for ApiServer {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
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
