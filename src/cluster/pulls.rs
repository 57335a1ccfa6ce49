//! Pods' pull secrets, read one by one where Countersign may: never listed, never watched.

mod choice;
mod reads;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use countersign_verify::outcome::Unavailable;
use futures_util::future::join_all;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::{Api, Client};
use tokio::time::{Instant, timeout_at};

use crate::api::is_namespace;
use crate::fair::Places;
use crate::http::Basic;
use crate::registry::DockerConfig;
use crate::review::Puller;
use choice::{Step, choose};
use reads::{Key, Reads};

/// Most objects read at one time: whoever can send reviews can name any. A namespace alone has half
/// of it.
const AT_ONCE: usize = 16;

/// Largest docker configuration in a Secret, in bytes: a thousand registries, and far less than
/// the 1 MiB of a Secret, as any pod can name another one to read.
const CONFIG_BYTES: usize = 256 << 10;

/// The namespaces whose pull secrets may be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    Everywhere,
    /// These.
    Namespaces(BTreeSet<String>),
}

impl Scope {
    fn covers(&self, namespace: &str) -> bool {
        match self {
            // It becomes a part of a URL.
            Self::Everywhere => is_namespace(namespace),
            Self::Namespaces(namespaces) => namespaces.contains(namespace),
        }
    }
}

/// The pull secrets of pods and of their ServiceAccounts, with a memory of seconds.
pub struct PullSecrets {
    scope: Scope,
    client: Client,
    secrets: Reads<DockerConfig>,
    accounts: Reads<Vec<String>>,
}

impl PullSecrets {
    /// Reads nothing yet.
    pub fn new(client: Client, scope: Scope) -> Self {
        let places = Places::new(AT_ONCE);
        let secrets = Reads::new("Secret", Arc::clone(&places));
        Self { scope, client, secrets, accounts: Reads::new("ServiceAccount", places) }
    }

    /// The credentials for `registry` of a pod in `namespace`: those of the first of its pull
    /// secrets that has an entry, then of its ServiceAccount's. None where there is no entry, and
    /// where the namespace's pull secrets are not to be used.
    ///
    /// A Secret that is not there is passed over, as the kubelet does; one that cannot be read is
    /// an error, since it could hold them.
    pub async fn credentials(
        &self,
        namespace: Option<&str>,
        puller: Puller<'_>,
        registry: &str,
        deadline: Instant,
    ) -> Result<Option<Basic>, Unavailable> {
        let Some(namespace) = self.covered(namespace) else { return Ok(None) };
        let (mut secrets, mut accounts) = (HashMap::new(), HashMap::new());
        // At most three rounds: each reads objects that no earlier one has read.
        loop {
            let secret = |name: &str| secrets.get(name).cloned();
            let account = |name: &str| accounts.get(name).cloned();
            match choose(puller, registry, secret, account) {
                Step::Done(chosen) => return chosen.map_err(|what| unavailable(namespace, &what)),
                Step::Secrets(names) => {
                    let reading = names.iter().map(|name| self.secret(namespace, name));
                    let told = timeout_at(deadline, join_all(reading));
                    let told =
                        told.await.map_err(|_| late(namespace, "Secret", &names.join(", ")))?;
                    secrets.extend(names.into_iter().zip(told));
                }
                Step::Account(name) => {
                    let told = timeout_at(deadline, self.account(namespace, &name)).await;
                    let told = told.map_err(|_| late(namespace, "ServiceAccount", &name))?;
                    accounts.insert(name, told);
                }
            }
        }
    }

    /// The same, where the API server need not be asked for it.
    pub fn at_hand(
        &self,
        namespace: Option<&str>,
        puller: Puller<'_>,
        registry: &str,
    ) -> Option<Result<Option<Basic>, Unavailable>> {
        let Some(namespace) = self.covered(namespace) else { return Some(Ok(None)) };
        let secret = |name: &str| self.secrets.kept(&Key::new(namespace, name));
        let account = |name: &str| self.accounts.kept(&Key::new(namespace, name));
        match choose(puller, registry, secret, account) {
            Step::Done(chosen) => Some(chosen.map_err(|what| unavailable(namespace, &what))),
            Step::Secrets(_) | Step::Account(_) => None,
        }
    }

    fn covered<'n>(&self, namespace: Option<&'n str>) -> Option<&'n str> {
        namespace.filter(|namespace| self.scope.covers(namespace))
    }

    async fn secret(&self, namespace: &str, name: &str) -> reads::Told<DockerConfig> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        self.secrets.read(Key::new(namespace, name), api, docker_config).await
    }

    async fn account(&self, namespace: &str, name: &str) -> reads::Told<Vec<String>> {
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        self.accounts.read(Key::new(namespace, name), api, pull_secrets).await
    }
}

fn unavailable(namespace: &str, what: &str) -> Unavailable {
    Unavailable::CredentialsUnavailable { what: format!("namespace {namespace}: {what}") }
}

fn late(namespace: &str, kind: &str, names: &str) -> Unavailable {
    unavailable(namespace, &format!("{kind} {names}: not read within the review's deadline"))
}

/// What a Secret says; of another type than the two for pulling it says nothing, as to the kubelet.
fn docker_config(secret: Secret) -> Result<(DockerConfig, usize), String> {
    let (key, parse): (_, fn(&[u8]) -> _) = match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => (".dockerconfigjson", DockerConfig::parse),
        Some("kubernetes.io/dockercfg") => (".dockercfg", DockerConfig::parse_legacy),
        _ => return Ok((DockerConfig::default(), 0)),
    };
    match secret.data.as_ref().and_then(|data| data.get(key)) {
        None => Ok((DockerConfig::default(), 0)),
        Some(json) if json.0.len() > CONFIG_BYTES => {
            Err(format!("its {key} is larger than {CONFIG_BYTES} bytes"))
        }
        Some(json) => Ok((parse(&json.0)?, json.0.len())),
    }
}

fn pull_secrets(account: ServiceAccount) -> Result<(Vec<String>, usize), String> {
    let secrets = account.image_pull_secrets.unwrap_or_default();
    let names: Vec<String> = secrets.into_iter().map(|secret| secret.name).collect();
    let bytes = names.iter().map(String::len).sum();
    Ok((names, bytes))
}
