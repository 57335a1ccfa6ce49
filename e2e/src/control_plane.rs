//! The commands of etcd and kube-apiserver, for an API server alone and for a whole node.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::Outcome;
use crate::pki::{Authority, Identity, self_signed};
use crate::place::Place;

/// etcd on two loopback ports, with its data in a folder.
pub(crate) struct Etcd {
    /// The port of its clients.
    pub(crate) port: u16,
    peer_port: u16,
}

impl Etcd {
    pub(crate) fn new() -> Outcome<Self> {
        Ok(Self { port: Place::LOOPBACK.free_port()?, peer_port: Place::LOOPBACK.free_port()? })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Adds the arguments to the command that starts it.
    pub(crate) fn arguments(&self, command: &mut Command, folder: &Path) {
        let client = self.url();
        let peer = format!("http://127.0.0.1:{}", self.peer_port);
        command
            .arg("--data-dir")
            .arg(folder.join("etcd"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .arg(format!("--initial-cluster=default={peer}"))
            // A test's data need not survive a power cut.
            .arg("--unsafe-no-fsync");
    }
}

/// What every kube-apiserver here is told.
pub(crate) struct ApiServerSettings<'a> {
    pub(crate) place: Place,
    pub(crate) port: u16,
    pub(crate) etcd: &'a Etcd,
    pub(crate) identity: &'a Identity,
    /// The file of bearer tokens: lines of `token,user,uid,"group"`.
    pub(crate) tokens: &'a Path,
    pub(crate) service_accounts: &'a Identity,
    pub(crate) services: &'a str,
}

impl ApiServerSettings<'_> {
    /// `https://ADDRESS:PORT`
    pub(crate) fn url(&self) -> String {
        format!("https://{}:{}", self.place.address(), self.port)
    }

    /// Adds the arguments to the command that starts it.
    pub(crate) fn arguments(&self, command: &mut Command) {
        let (address, accounts) = (self.place.address(), self.service_accounts);
        command
            .arg(format!("--etcd-servers={}", self.etcd.url()))
            .arg(format!("--secure-port={}", self.port))
            .arg(format!("--bind-address={address}"))
            .arg(format!("--advertise-address={address}"))
            .arg("--tls-cert-file")
            .arg(&self.identity.certificate)
            .arg("--tls-private-key-file")
            .arg(&self.identity.key)
            .arg("--token-auth-file")
            .arg(self.tokens)
            .arg("--service-account-key-file")
            .arg(&accounts.certificate)
            .arg("--service-account-signing-key-file")
            .arg(&accounts.key)
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--service-cluster-ip-range={}", self.services))
            .arg("--shutdown-delay-duration=0s");
    }
}

/// A key pair for ServiceAccount tokens: the certificate serves as its public key.
pub(crate) fn service_account_key(folder: &Path) -> Outcome<Identity> {
    self_signed(folder, "service-accounts")
}

/// Where a kubectl, or a part of Kubernetes, finds the API server, and as whom.
pub(crate) fn write_kubeconfig(
    file: &Path,
    url: &str,
    authority: &Authority,
    token: &str,
) -> Outcome<()> {
    let config = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": {
            "server": url, "certificate-authority": authority.certificate(),
        }}],
        "users": [{"name": "user", "user": {"token": token}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "user"}}],
    });
    Ok(fs::write(file, config.to_string())?)
}
