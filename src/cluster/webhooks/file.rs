//! The webhook configurations as an installation renders them.

use std::fs;
use std::io::Read;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Map, Value, json};
use serde_saphyr::Spanned;

/// Largest file read, in bytes. Source: a ConfigMap holds at most 1 MiB.
const FILE_BYTES: u64 = 1 << 20;

const API_VERSION: &str = "admissionregistration.k8s.io/v1";

const KINDS: [&str; 2] = ["ValidatingWebhookConfiguration", "MutatingWebhookConfiguration"];

/// A webhook configuration without what is filled in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Configuration {
    pub(super) kind: String,
    pub(super) name: String,
    labels: Option<Value>,
    annotations: Option<Value>,
    webhooks: Vec<Map<String, Value>>,
}

impl Configuration {
    /// The webhooks, without what is filled in.
    pub(super) fn webhooks(&self) -> &[Map<String, Value>] {
        &self.webhooks
    }

    /// The kind, as the API server's paths have it.
    pub(super) fn resource(&self) -> ApiResource {
        ApiResource::from_gvk(&GroupVersionKind::gvk(
            "admissionregistration.k8s.io",
            "v1",
            &self.kind,
        ))
    }

    /// The whole object as it is to be applied.
    pub(super) fn filled(&self, bundle: &str, owner: &OwnerReference) -> Value {
        let bundle = BASE64_STANDARD.encode(bundle);
        let mut metadata = json!({"name": self.name, "ownerReferences": [owner]});
        for (field, value) in [("labels", &self.labels), ("annotations", &self.annotations)] {
            if let Some(value) = value {
                metadata[field] = value.clone();
            }
        }
        let mut webhooks = self.webhooks.clone();
        for webhook in &mut webhooks {
            if let Some(Value::Object(client)) = webhook.get_mut("clientConfig") {
                client.insert("caBundle".to_owned(), bundle.clone().into());
            }
        }
        json!({
            "apiVersion": API_VERSION, "kind": self.kind, "metadata": metadata,
            "webhooks": webhooks,
        })
    }

    fn read(document: Value) -> Result<Self, String> {
        let Value::Object(mut fields) = document else {
            return Err("it is not an object with apiVersion, kind and metadata".to_owned());
        };
        let version = string(fields.remove("apiVersion"));
        let kind = string(fields.remove("kind"));
        if version != API_VERSION || !KINDS.contains(&kind.as_str()) {
            return Err(format!(
                "only {} of {API_VERSION} are read here, not {kind:?} of {version:?}",
                KINDS.join(" and ")
            ));
        }
        let Some(Value::Object(mut metadata)) = fields.remove("metadata") else {
            return Err("metadata: it is required, as an object".to_owned());
        };
        let name = string(metadata.remove("name"));
        if !crate::api::is_dns_subdomain(&name) {
            return Err(format!("metadata.name: {name:?} is not a name"));
        }
        let (labels, annotations) = (metadata.remove("labels"), metadata.remove("annotations"));
        let Some(Value::Array(webhooks)) = fields.remove("webhooks") else {
            return Err(format!("{kind} {name:?}: webhooks: it is required, as a list"));
        };
        let more = metadata
            .keys()
            .map(|key| format!("metadata.{key}"))
            .chain(fields.into_iter().map(|(key, _)| key))
            .next();
        if let Some(field) = more {
            return Err(format!("{kind} {name:?}: {field}: it does not belong here; remove it"));
        }
        let webhook = |(index, webhook)| {
            webhook_of(webhook)
                .map_err(|reason| format!("{kind} {name:?}: webhooks[{index}]: {reason}"))
        };
        let webhooks = webhooks.into_iter().enumerate().map(webhook).collect::<Result<_, _>>()?;
        Ok(Self { kind, name, labels, annotations, webhooks })
    }
}

fn webhook_of(value: Value) -> Result<Map<String, Value>, String> {
    let Value::Object(webhook) = value else { return Err("it is not an object".to_owned()) };
    match webhook.get("clientConfig") {
        Some(Value::Object(client)) if client.contains_key("caBundle") => {
            Err("clientConfig.caBundle: it is filled in by Countersign; remove it".to_owned())
        }
        Some(Value::Object(_)) => Ok(webhook),
        _ => Err("clientConfig: it is required, as an object".to_owned()),
    }
}

fn string(value: Option<Value>) -> String {
    match value {
        Some(Value::String(text)) => text,
        _ => String::new(),
    }
}

/// The type of an object whose kind is only known from the file.
pub(super) fn api(
    client: &kube::Client,
    configuration: &Configuration,
) -> kube::Api<DynamicObject> {
    kube::Api::all_with(client.clone(), &configuration.resource())
}

/// Reads a file's bytes, up to a bound.
pub(super) fn read(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = fs::File::open(path);
    match file.and_then(|file| file.take(FILE_BYTES + 1).read_to_string(&mut text)) {
        Err(error) => Err(format!("{}: it cannot be read: {error}", path.display())),
        Ok(_) if text.len() as u64 > FILE_BYTES => {
            Err(format!("{}: it is larger than {FILE_BYTES} bytes", path.display()))
        }
        Ok(_) => Ok(text),
    }
}

/// The configurations in a file's text: at least one, of different names.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Configuration>, String> {
    let place = path.display();
    let documents: Vec<Spanned<Value>> = serde_saphyr::from_multiple(text)
        .map_err(|error| format!("{place}: it is not valid YAML: {error}"))?;
    let mut configurations: Vec<Configuration> = Vec::new();
    for document in documents {
        let line = document.referenced.line();
        // Between two separators there may be nothing but comments.
        if document.value.is_null() {
            continue;
        }
        let configuration = Configuration::read(document.value)
            .map_err(|reason| format!("{place}, line {line}: {reason}"))?;
        let same = |other: &Configuration| {
            (&other.kind, &other.name) == (&configuration.kind, &configuration.name)
        };
        if configurations.iter().any(same) {
            let Configuration { kind, name, .. } = &configuration;
            return Err(format!("{place}, line {line}: {kind} {name:?} is there twice"));
        }
        configurations.push(configuration);
    }
    if configurations.is_empty() {
        return Err(format!("{place}: there is no {} in it", KINDS.join(" or ")));
    }
    Ok(configurations)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "
# Source: countersign/templates/webhooks.yaml
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: countersign, labels: {app: countersign}}
webhooks:
- name: validate.countersign.dev
  clientConfig: {service: {name: countersign, namespace: system, path: /validate}}
  sideEffects: None
---
---
apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: countersign}
webhooks: []
";

    fn parsed(text: &str) -> Result<Vec<Configuration>, String> {
        parse(Path::new("webhooks.yaml"), text)
    }

    #[test]
    fn the_bundle_and_the_owner_are_filled_in_and_nothing_else() {
        let found = parsed(FILE).expect("a good file");
        let owner = OwnerReference {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: "countersign".to_owned(),
            uid: "1-2".to_owned(),
            ..OwnerReference::default()
        };
        let owner_json = json!({"apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole", "name": "countersign", "uid": "1-2"});
        let filled: Vec<Value> = found.iter().map(|found| found.filled("bundle", &owner)).collect();
        let service = json!({"name": "countersign", "namespace": "system", "path": "/validate"});
        assert_eq!(
            filled,
            [
                json!({
                    "apiVersion": API_VERSION, "kind": "ValidatingWebhookConfiguration",
                    "metadata": {"name": "countersign", "labels": {"app": "countersign"},
                        "ownerReferences": [owner_json]},
                    "webhooks": [{"name": "validate.countersign.dev", "sideEffects": "None",
                        "clientConfig": {"service": service, "caBundle": "YnVuZGxl"}}],
                }),
                json!({
                    "apiVersion": API_VERSION, "kind": "MutatingWebhookConfiguration",
                    "metadata": {"name": "countersign", "ownerReferences": [owner_json]},
                    "webhooks": [],
                }),
            ]
        );
    }

    #[test]
    fn a_file_with_anything_else_is_refused_and_says_why() {
        for (from, to, reason) in [
            ("kind: Mutating", "kind: Other", "not \"OtherWebhookConfiguration\""),
            ("admissionregistration.k8s.io/v1\nkind: M", "v1\nkind: M", "of \"v1\""),
            ("kind: MutatingWebhookConfiguration", "kind: Secret", "line 13: only Validating"),
            ("{name: countersign}", "{name: Counter sign}", "metadata.name"),
            ("{name: countersign}", "{}", "metadata.name"),
            ("{name: countersign}", "x", "metadata"),
            ("{name: countersign}", "{name: a, uid: b}", "metadata.uid: it does not belong"),
            ("webhooks: []", "webhook: []", "webhooks: it is required"),
            ("webhooks: []", "webhooks: []\nspec: {}", "spec: it does not belong"),
            ("webhooks: []", "webhooks: [{}]", "webhooks[0]: clientConfig"),
            ("path: /validate}", "path: /v}, caBundle: eA==", "webhooks[0]: clientConfig.caBundle"),
            ("kind: Mutating", "kind: Validating", "is there twice"),
            ("webhooks: []", "webhooks: [", "not valid YAML"),
        ] {
            assert!(FILE.contains(from), "{from}");
            let problem = parsed(&FILE.replace(from, to)).expect_err(reason);
            assert!(problem.starts_with("webhooks.yaml"), "{problem}");
            assert!(problem.contains(reason), "{problem}");
        }
        assert!(parsed("").expect_err("empty").contains("there is no"));
        assert!(parsed("---\n# nothing\n").expect_err("empty").contains("there is no"));
    }
}
