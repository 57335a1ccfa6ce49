//! What an installation of Countersign has in the API server beside its webhooks for workloads:
//! its definitions, its namespace, its rights, and the webhook for its own resources.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api_server::ApiServer;
use crate::chart::{RELEASE, Rendered};
use crate::countersign::{Kubernetes, command};
use crate::{Context, Outcome};

/// Countersign's own namespace.
pub const SYSTEM_NAMESPACE: &str = "countersign-system";

/// Installs the definitions, and waits until the API server knows them.
pub fn definitions(api_server: &ApiServer) -> Outcome<()> {
    let definitions = command(&["crds"])?.success()?.stdout;
    api_server.kubectl_with(&["apply", "--server-side", "-f", "-"], &definitions)?.success()?;
    let all = ["wait", "--for=condition=Established", "--timeout=60s", "crd", "--all"];
    api_server.kubectl(&all)?.success().map(drop)
}

/// Makes the namespace and grants the rights that the chart gives this release in it, and no others.
pub fn grant(api_server: &ApiServer, release: &str, namespace: &str) -> Outcome<()> {
    let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    api_server.apply(&object)?.success()?;
    let rendered = Rendered::of(release, namespace, &["--set=unmatched=Deny"])?;
    for kind in ["ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"] {
        let named = |object: &&Value| object["metadata"]["name"] == release;
        let object = rendered.all(kind).into_iter().find(named).context(kind)?;
        api_server.apply(object)?.success()?;
    }
    Ok(())
}

/// Grants [`RELEASE`]'s account any lease in the namespace, which the chart does not: each replica
/// of a [`Kubernetes`] has a lease of its own.
pub fn grant_any_lease(api_server: &ApiServer, namespace: &str) -> Outcome<()> {
    let object = |kind: &str| {
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": "any-lease", "namespace": namespace},
        })
    };
    let (mut role, mut binding) = (object("Role"), object("RoleBinding"));
    role["rules"] = json!([{
        "apiGroups": ["coordination.k8s.io"], "resources": ["leases"],
        "verbs": ["create", "get", "update"],
    }]);
    binding["roleRef"] =
        json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "any-lease"});
    binding["subjects"] =
        json!([{"kind": "ServiceAccount", "name": RELEASE, "namespace": namespace}]);
    for object in [role, binding] {
        api_server.apply(&object)?.success()?;
    }
    Ok(())
}

/// Makes the system namespace and grants the chart's rights in it, and any lease. Gives what
/// Countersign is to be started with.
pub fn rights(api_server: &ApiServer, stale_after: u32) -> Outcome<Kubernetes> {
    grant(api_server, RELEASE, SYSTEM_NAMESPACE)?;
    grant_any_lease(api_server, SYSTEM_NAMESPACE)?;
    Ok(Kubernetes {
        kubeconfig: api_server.service_account().to_owned(),
        namespace: SYSTEM_NAMESPACE.to_owned(),
        stale_after,
    })
}

/// Registers the webhook for TrustPolicies and TrustSources whose names begin with `prefix`.
pub fn resources_webhook(
    api_server: &ApiServer,
    prefix: &str,
    url: &str,
    authority: &Path,
) -> Outcome<()> {
    let authority = fs::read(authority).context("the webhook's authority")?;
    let configuration = json!({
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": format!("{prefix}-resources")},
        "webhooks": [{
            "name": "resources.countersign.dev",
            "clientConfig": {
                "url": format!("{url}/resources"), "caBundle": STANDARD.encode(authority),
            },
            "rules": [{
                "apiGroups": ["countersign.dev"], "apiVersions": ["v1alpha1"],
                "resources": ["trustpolicies", "trustsources"],
                "operations": ["CREATE", "UPDATE"], "scope": "Cluster",
            }],
            "matchConditions": [{
                "name": "prefix", "expression": format!("object.metadata.name.startsWith('{prefix}')"),
            }],
            "failurePolicy": "Fail",
            "sideEffects": "None",
            "timeoutSeconds": 10,
            "admissionReviewVersions": ["v1"],
        }],
    });
    api_server.apply(&configuration)?.success().map(drop)
}
