//! What stands in a scan's way, in one sentence with what to do.

use std::error::Error as _;

use kube::Error;
use kube::config::InferConfigError;

use crate::cluster::because;
use crate::cluster::pages::ListError;
use crate::cluster::present::Unread;

/// There is no cluster to scan.
pub(super) fn no_kubeconfig(error: &InferConfigError) -> String {
    // The other half of it says that this is no pod, which most callers know.
    let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
    format!(
        "no cluster to scan: {why}; name a kubeconfig file in KUBECONFIG, or choose a context with kubectl config use-context"
    )
}

/// The pods of this namespace, or of all, cannot be listed.
pub(super) fn pods(namespace: Option<&str>, error: &ListError, url: &str) -> String {
    let (what, instead) = match namespace {
        None => ("pods in all namespaces".to_owned(), "name one where you may with -n NAMESPACE"),
        Some(name) => (
            format!("pods in namespace \"{name}\""),
            "name another with -n, or ask for the right to list pods there",
        ),
    };
    list(&what, instead, error, url)
}

/// The cluster's policies are not known.
pub(super) fn policies(unread: &Unread, url: &str) -> String {
    match unread {
        Unread::NotDefined { .. } => format!(
            "{unread}: install Countersign, or its definitions by countersign crds | kubectl apply --server-side -f -, or try policies from files with --policies"
        ),
        Unread::List { kind, error } => {
            let what = format!("{}, which are cluster-wide", kind.resource().plural);
            list(&what, "ask for the right to list trustpolicies and trustsources", error, url)
        }
    }
}

fn list(what: &str, instead: &str, error: &ListError, url: &str) -> String {
    match (error.code(), error) {
        (Some(403), _) => format!("you may not list {what}; {instead}"),
        (Some(401), _) => format!(
            "the API server at {url} does not know you; log in again, or check the user of the kubeconfig's context"
        ),
        (Some(_), ListError::Api(error)) => format!("{what} cannot be listed: {}", because(error)),
        (None, ListError::Api(Error::SerdeError(error))) => format!(
            "{what} cannot be listed: what the API server at {url} answers cannot be understood: {error}; see whether that is a Kubernetes API server, and what kubectl get -o json says"
        ),
        (_, ListError::Large { .. }) => {
            format!("{what} cannot be listed: {error}; scan one namespace at a time with -n")
        }
        (None, ListError::Api(error)) => format!(
            "the API server at {url} cannot be read: {}; check the kubeconfig's context and the network",
            because(error)
        ),
        (_, error) => format!("{what} cannot be listed: {error}"),
    }
}
