//! What an installation of Countersign has in the API server beside its webhooks for workloads:
//! its definitions, its namespace, its rights, and the webhook for its own resources.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::api_server::{ApiServer, SERVICE_ACCOUNT};
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

/// Makes the system namespace and grants the rights that reading resources and writing their
/// status takes, and no others. Gives what Countersign is to be started with.
pub fn rights(api_server: &ApiServer, stale_after: u32) -> Outcome<Kubernetes> {
    let subjects = json!([{
        "kind": "User", "apiGroup": "rbac.authorization.k8s.io", "name": SERVICE_ACCOUNT,
    }]);
    let rule = |group: &str, resources: &[&str], verbs: &[&str]| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    let read = ["get", "list", "watch"];
    let ours = "countersign.dev";
    let everywhere = json!([
        rule(ours, &["trustpolicies", "trustsources"], &read),
        rule(ours, &["trustpolicies/status", "trustsources/status"], &["get", "patch"]),
        rule(ours, &["trustcheckpoints"], &["get", "list", "watch", "create", "patch"]),
        rule("", &["namespaces"], &read),
    ]);
    let here = json!([
        rule("", &["configmaps", "secrets"], &read),
        rule("coordination.k8s.io", &["leases"], &["create", "get", "update"]),
    ]);
    let object = |kind: &str, fields: Value| {
        let mut object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": "countersign"},
        });
        if !kind.starts_with("Cluster") {
            object["metadata"]["namespace"] = SYSTEM_NAMESPACE.into();
        }
        for (field, value) in fields.as_object().into_iter().flatten() {
            object[field] = value.clone();
        }
        object
    };
    let role = |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": "countersign"});
    let items = json!([
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": SYSTEM_NAMESPACE}},
        object("ClusterRole", json!({"rules": everywhere})),
        object("ClusterRoleBinding", json!({"roleRef": role("ClusterRole"), "subjects": subjects})),
        object("Role", json!({"rules": here})),
        object("RoleBinding", json!({"roleRef": role("Role"), "subjects": subjects})),
    ]);
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    api_server.apply(&list)?.success()?;
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
