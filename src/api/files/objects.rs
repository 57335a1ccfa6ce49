//! From a document's value to a resource.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value};

use super::FileProblem;
use crate::api::compile::is_dns_subdomain;
use crate::api::{API_VERSION, Document, Resources, SecretData};

/// An object and where it stands.
struct Object<'a> {
    path: &'a Path,
    place: &'a str,
    kind: String,
    name: String,
    fields: Map<String, Value>,
}

/// What is wrong with a field of an object.
type Wrong = (&'static str, String);

/// Adds a document's resource, or a List's items.
pub(super) fn add(
    path: &Path,
    place: &str,
    value: Value,
    resources: &mut Resources,
    problems: &mut Vec<FileProblem>,
) {
    let items = match list_items(&value) {
        Ok(Some(items)) => items,
        Ok(None) => vec![(place.to_owned(), value)],
        Err((field, reason)) => {
            problems.push(FileProblem {
                place: Some(place.to_owned()),
                resource: Some("List".to_owned()),
                field: Some(field.to_owned()),
                ..FileProblem::of_file(path, reason)
            });
            return;
        }
    };
    for (item, value) in items {
        let place = if item == place { item } else { format!("{place}, {item}") };
        let kind = value.get("kind").and_then(Value::as_str).unwrap_or_default();
        let name = value.pointer("/metadata/name").and_then(Value::as_str);
        let resource = name.map(|name| format!("{kind} \"{name}\""));
        let added = object(path, &place, value).and_then(|object| object.add(resources));
        if let Err((field, reason)) = added {
            problems.push(FileProblem {
                place: Some(place),
                resource,
                field: Some(field.to_owned()).filter(|field| !field.is_empty()),
                ..FileProblem::of_file(path, reason)
            });
        }
    }
}

/// The items of a `v1` List, each with its place in it; `None` for another kind.
fn list_items(value: &Value) -> Result<Option<Vec<(String, Value)>>, Wrong> {
    if value.get("kind").and_then(Value::as_str) != Some("List") {
        return Ok(None);
    }
    if value.get("apiVersion").and_then(Value::as_str) != Some("v1") {
        return Err(("apiVersion", "write v1 for a List".to_owned()));
    }
    let Some(Value::Array(items)) = value.get("items") else {
        return Err(("items", "a List has a list of items".to_owned()));
    };
    let place = |(index, item): (usize, &Value)| (format!("items[{index}]"), item.clone());
    Ok(Some(items.iter().enumerate().map(place).collect()))
}

fn object<'a>(path: &'a Path, place: &'a str, value: Value) -> Result<Object<'a>, Wrong> {
    let Value::Object(mut fields) = value else {
        return Err(("", "it is not an object with apiVersion, kind and metadata".to_owned()));
    };
    let mut text = |field: &'static str| match fields.remove(field) {
        Some(Value::String(text)) => Ok(text),
        _ => Err((field, "it is required, as a string".to_owned())),
    };
    let (kind, api_version) = (text("kind")?, text("apiVersion")?);
    let wanted = match kind.as_str() {
        "TrustPolicy" | "TrustSource" => API_VERSION,
        "ConfigMap" | "Secret" => "v1",
        _ => {
            return Err((
                "kind",
                format!(
                    "{} is not read here, only TrustPolicy, TrustSource, ConfigMap, Secret and List of them; remove it",
                    kind.escape_debug()
                ),
            ));
        }
    };
    if api_version != wanted {
        return Err((
            "apiVersion",
            format!("{} is not known for {kind}; write {wanted}", api_version.escape_debug()),
        ));
    }
    let name = match fields.remove("metadata").as_ref().and_then(|metadata| metadata.get("name")) {
        Some(Value::String(name)) if is_dns_subdomain(name) => name.clone(),
        Some(Value::String(name)) => {
            return Err((
                "metadata.name",
                format!(
                    "\"{}\" is not a name: lower-case letters, digits, dashes and dots",
                    name.escape_debug()
                ),
            ));
        }
        _ => return Err(("metadata.name", "it is required, as a string".to_owned())),
    };
    Ok(Object { path, place, kind, name, fields })
}

impl Object<'_> {
    fn add(mut self, resources: &mut Resources) -> Result<(), Wrong> {
        match self.kind.as_str() {
            "TrustPolicy" => {
                let (name, place, spec) = self.spec()?;
                resources.policies.push(Document::new(name, place, spec));
            }
            "TrustSource" => {
                let (name, place, spec) = self.spec()?;
                resources.sources.push(Document::new(name, place, spec));
            }
            "ConfigMap" => {
                let mut data = self.strings("data")?;
                data.extend(self.base64("binaryData")?);
                self.no_more(&["immutable"])?;
                let former = resources.config_maps.insert(self.name.clone(), data);
                return self.only_one(former.is_none());
            }
            _ => {
                // The API server too lets stringData win.
                let mut data = self.base64("data")?;
                data.extend(self.strings("stringData")?);
                self.no_more(&["type", "immutable"])?;
                let former = resources.secrets.insert(self.name.clone(), SecretData(data));
                return self.only_one(former.is_none());
            }
        }
        Ok(())
    }

    fn spec(mut self) -> Result<(String, Option<String>, Value), Wrong> {
        let spec = self.fields.remove("spec").unwrap_or(Value::Null);
        self.no_more(&["status"])?;
        if !spec.is_object() {
            return Err(("spec", "it is required, as an object".to_owned()));
        }
        Ok((self.name, Some(format!("{}, {}", self.path.display(), self.place)), spec))
    }

    fn no_more(&self, ignored: &[&str]) -> Result<(), Wrong> {
        match self.fields.keys().find(|field| !ignored.contains(&field.as_str())) {
            None => Ok(()),
            Some(field) => Err((
                "",
                format!(
                    "field \"{}\" is not known in a {}; remove it or correct it",
                    field.escape_debug(),
                    self.kind
                ),
            )),
        }
    }

    fn only_one(&self, first: bool) -> Result<(), Wrong> {
        if first {
            return Ok(());
        }
        Err(("metadata.name", format!("another {} has this name; remove one", self.kind)))
    }

    fn strings(&mut self, field: &'static str) -> Result<BTreeMap<String, Vec<u8>>, Wrong> {
        let object = match self.fields.remove(field) {
            None | Some(Value::Null) => return Ok(BTreeMap::new()),
            Some(Value::Object(object)) => object,
            Some(_) => return Err((field, "it has to be an object of strings".to_owned())),
        };
        let entries = object.into_iter().map(|(key, value)| match value {
            Value::String(text) => Ok((key, text.into_bytes())),
            // The value is not shown: it may be secret.
            _ => Err((
                field,
                format!("key \"{}\" is no string; put it in quotes", key.escape_debug()),
            )),
        });
        entries.collect()
    }

    fn base64(&mut self, field: &'static str) -> Result<BTreeMap<String, Vec<u8>>, Wrong> {
        let entries = self.strings(field)?.into_iter().map(|(key, text)| {
            let text: Vec<u8> =
                text.into_iter().filter(|byte| !byte.is_ascii_whitespace()).collect();
            match BASE64_STANDARD.decode(text) {
                Ok(bytes) => Ok((key, bytes)),
                Err(_) => Err((field, format!("key \"{}\" is not base64", key.escape_debug()))),
            }
        });
        entries.collect()
    }
}
