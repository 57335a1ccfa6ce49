//! Whose credentials count: no I/O here.

use crate::api::is_dns_subdomain;
use crate::http::Basic;
use crate::registry::DockerConfig;
use crate::review::Puller;

use super::reads::Told;

/// Most pull secrets that one pod, or one ServiceAccount, may name; they have one or two.
pub(super) const NAMED: usize = 16;

/// The ServiceAccount of pods that name none.
const DEFAULT_ACCOUNT: &str = "default";

/// What choosing came to.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    /// The credentials, none, or what keeps us from knowing.
    Done(Result<Option<Basic>, String>),
    /// It takes these Secrets, in the order named.
    Secrets(Vec<String>),
    /// It takes this ServiceAccount.
    Account(String),
}

/// Chooses by what `secret` and `account` tell; what they do not tell yet is asked for, and only
/// once it matters.
pub(super) fn choose(
    puller: Puller<'_>,
    registry: &str,
    secret: impl Fn(&str) -> Option<Told<DockerConfig>>,
    account: impl Fn(&str) -> Option<Told<Vec<String>>>,
) -> Step {
    if let Some(step) = first("the pod", puller.secrets, registry, &secret) {
        return step;
    }
    let name = match puller.service_account {
        "" => DEFAULT_ACCOUNT,
        name if is_dns_subdomain(name) => name,
        _ => return problem("the pod's serviceAccountName is no name of a ServiceAccount"),
    };
    let names = match account(name) {
        None => return Step::Account(name.to_owned()),
        Some(Err(why)) => return Step::Done(Err(why.to_string())),
        Some(Ok(None)) => return Step::Done(Ok(None)),
        Some(Ok(Some(names))) => names,
    };
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let owner = format!("ServiceAccount {name}");
    first(&owner, &names, registry, &secret).unwrap_or(Step::Done(Ok(None)))
}

/// The first of these Secrets that has an entry; `None` where all are known and none has.
fn first(
    owner: &str,
    names: &[&str],
    registry: &str,
    secret: &impl Fn(&str) -> Option<Told<DockerConfig>>,
) -> Option<Step> {
    if names.len() > NAMED {
        let count = names.len();
        return Some(problem(&format!(
            "{owner} names {count} imagePullSecrets, over the limit of {NAMED}"
        )));
    }
    // The API server takes entries without a name, and the kubelet passes them over.
    let names = || names.iter().filter(|name| !name.is_empty());
    for name in names() {
        // It becomes a part of a URL, and the API server has not checked it before the webhooks.
        if !is_dns_subdomain(name) {
            return Some(problem(&format!(
                "one of {owner}'s imagePullSecrets has a name that no Secret has"
            )));
        }
        let Some(told) = secret(name) else {
            let unknown = |name: &&&str| is_dns_subdomain(name) && secret(name).is_none();
            return Some(Step::Secrets(names().filter(unknown).map(ToString::to_string).collect()));
        };
        let found = match told {
            Err(why) => Err(why.to_string()),
            Ok(None) => Ok(None),
            Ok(Some(config)) => {
                config.lookup(registry).map_err(|why| format!("Secret {name}: {why}"))
            }
        };
        if !matches!(found, Ok(None)) {
            return Some(Step::Done(found));
        }
    }
    None
}

fn problem(what: &str) -> Step {
    Step::Done(Err(what.to_owned()))
}

#[cfg(test)]
mod tests;
