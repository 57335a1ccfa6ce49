//! The AdmissionReview that both sides get: of a pod with one container, as an API server sends it.

use serde_json::{Value, json};

/// The creation of a pod with this image, defaulted as the API server defaults it, and with the
/// request's members in its order: what says what the object is comes before the object.
pub(crate) fn of(image: &str) -> String {
    let kind = r#"{"group":"","version":"v1","kind":"Pod"}"#;
    let resource = r#"{"group":"","version":"v1","resource":"pods"}"#;
    let user = json!({
        "username": "system:serviceaccount:kube-system:replicaset-controller",
        "uid": "6a1c2b7e-0f5d-4f0e-9e3c-5d1b8a7c6f42",
        "groups": ["system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"],
    });
    let options = json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"});
    let pod = pod(image);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":{{"uid":"705ab4f5-6393-11e8-b7cc-42010a800002","kind":{kind},"resource":{resource},"requestKind":{kind},"requestResource":{resource},"name":"api-6d5b4c9f7d-x7k2p","namespace":"payments","operation":"CREATE","userInfo":{user},"object":{pod},"oldObject":null,"dryRun":false,"options":{options}}}}}"#
    )
}

fn pod(image: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "api-6d5b4c9f7d-x7k2p", "generateName": "api-6d5b4c9f7d-", "namespace": "payments",
            "creationTimestamp": "2026-11-01T10:00:00Z",
            "labels": {"app.kubernetes.io/name": "api", "pod-template-hash": "6d5b4c9f7d"},
            "annotations": {"prometheus.io/scrape": "true", "prometheus.io/port": "9090"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "api-6d5b4c9f7d",
                "uid": "b7e9a3d2-5a0a-4a53-8d0f-6a1f3c2e9b11",
                "controller": true, "blockOwnerDeletion": true,
            }],
            "managedFields": [{
                "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "v1",
                "time": "2026-11-01T10:00:00Z", "fieldsType": "FieldsV1", "fieldsV1": fields(),
            }],
        },
        "spec": {
            "volumes": [{"name": "kube-api-access-x7k2p", "projected": {
                "defaultMode": 420,
                "sources": [
                    {"serviceAccountToken": {"expirationSeconds": 3607, "path": "token"}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                    {"downwardAPI": {"items": [{"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
                ],
            }}],
            "containers": [container(image)],
            "restartPolicy": "Always", "terminationGracePeriodSeconds": 30,
            "dnsPolicy": "ClusterFirst", "serviceAccountName": "api", "serviceAccount": "api",
            "securityContext": {"runAsNonRoot": true, "fsGroup": 10001},
            "schedulerName": "default-scheduler",
            "tolerations": [
                {"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
                {"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300},
            ],
            "priority": 0, "enableServiceLinks": true, "preemptionPolicy": "PreemptLowerPriority",
        },
        "status": {},
    })
}

fn container(image: &str) -> Value {
    json!({
        "name": "api", "image": image, "imagePullPolicy": "IfNotPresent",
        "args": ["--listen=:8080", "--metrics=:9090"],
        "ports": [{"name": "http", "containerPort": 8080, "protocol": "TCP"}, {"name": "metrics", "containerPort": 9090, "protocol": "TCP"}],
        "env": [
            {"name": "POD_NAME", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}},
            {"name": "DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "api", "key": "database-url"}}},
        ],
        "resources": {"limits": {"memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "256Mi"}},
        "volumeMounts": [{"name": "kube-api-access-x7k2p", "readOnly": true, "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
        "livenessProbe": {"httpGet": {"path": "/livez", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "http", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
        "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
    })
}

fn fields() -> Value {
    json!({
        "f:metadata": {
            "f:annotations": {".": {}, "f:prometheus.io/port": {}, "f:prometheus.io/scrape": {}},
            "f:generateName": {},
            "f:labels": {".": {}, "f:app.kubernetes.io/name": {}, "f:pod-template-hash": {}},
            "f:ownerReferences": {".": {}, "k:{\"uid\":\"b7e9a3d2-5a0a-4a53-8d0f-6a1f3c2e9b11\"}": {}},
        },
        "f:spec": {
            "f:containers": {"k:{\"name\":\"api\"}": {
                ".": {}, "f:args": {}, "f:env": {}, "f:image": {}, "f:imagePullPolicy": {},
                "f:livenessProbe": {}, "f:name": {}, "f:ports": {}, "f:readinessProbe": {},
                "f:resources": {}, "f:securityContext": {}, "f:terminationMessagePath": {},
                "f:terminationMessagePolicy": {},
            }},
            "f:dnsPolicy": {}, "f:enableServiceLinks": {}, "f:restartPolicy": {},
            "f:schedulerName": {}, "f:securityContext": {}, "f:serviceAccountName": {},
            "f:terminationGracePeriodSeconds": {},
        },
    })
}
