//! The CustomResourceDefinitions of all resources.

use kube::CustomResourceExt;
use serde_json::Value;

use super::{TrustCheckpoint, TrustPolicy, TrustSource};

/// The CustomResourceDefinitions as YAML documents, the same on every run.
pub fn crds() -> String {
    [TrustPolicy::crd(), TrustSource::crd(), TrustCheckpoint::crd()]
        .into_iter()
        .filter_map(|crd| {
            let mut crd = serde_json::to_value(crd).ok()?;
            structural(&mut crd);
            serde_saphyr::to_string(&crd).ok()
        })
        .map(|yaml| format!("---\n{yaml}"))
        .collect()
}

/// Makes schemas fit for the API server: a structural schema prunes unknown fields itself and
/// knows no `additionalProperties: false`, and without `nullable` a null is dropped before CEL's
/// `has()` could count it as given. Bounds of integers are written as integers, and descriptions
/// in one line.
fn structural(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("additionalProperties") == Some(&Value::Bool(false)) {
                object.remove("additionalProperties");
            }
            if object.get("type").is_some_and(Value::is_string) {
                object.remove("nullable");
                if let Some(Value::Array(values)) = object.get_mut("enum") {
                    values.retain(|value| !value.is_null());
                }
            }
            for (key, value) in object.iter_mut() {
                match (key.as_str(), &*value) {
                    ("minimum" | "maximum", Value::Number(number)) => {
                        if let Some(whole) = number.as_f64().filter(|number| number.fract() == 0.0)
                        {
                            *value = Value::from(whole as i64);
                        }
                    }
                    ("description", Value::String(text)) => {
                        *value = Value::from(text.replace('\n', " "));
                    }
                    _ => structural(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(structural),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use kube::CustomResourceExt;
    use serde_json::Value;

    use crate::api::{TrustCheckpoint, TrustPolicy, TrustSource};

    /// Every field below `schema` without a description, by its path.
    fn undescribed(schema: &Value, path: &str, found: &mut Vec<String>) {
        let properties = schema["properties"].as_object();
        for (name, field) in properties.into_iter().flatten() {
            let path = format!("{path}.{name}");
            if field["description"].as_str().is_none_or(|text| text.trim().is_empty()) {
                found.push(path.clone());
            }
            undescribed(field, &path, found);
        }
        for inner in ["items", "additionalProperties"] {
            if schema[inner].is_object() {
                undescribed(&schema[inner], path, found);
            }
        }
    }

    #[test]
    fn kubectl_explain_has_a_text_for_every_field() {
        for crd in [TrustPolicy::crd(), TrustSource::crd(), TrustCheckpoint::crd()] {
            let crd = serde_json::to_value(crd).expect("JSON");
            let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
            let kind = crd["spec"]["names"]["kind"].as_str().expect("a kind");
            assert!(schema["description"].is_string(), "{kind}");
            assert!(schema["properties"]["spec"]["properties"].is_object(), "{kind}");
            let mut found = Vec::new();
            undescribed(schema, kind, &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
    }

    #[test]
    fn the_checked_in_definitions_are_the_generated_ones() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/crds.yaml");
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            found == super::crds(),
            "deploy/crds.yaml is not what `countersign crds` prints; write its output there"
        );
    }
}
