//! The CustomResourceDefinitions of all resources.

use kube::CustomResourceExt;
use serde_json::Value;

use super::{TrustPolicy, TrustSource};

/// The CustomResourceDefinitions as YAML documents, the same on every run.
pub fn crds() -> String {
    [TrustPolicy::crd(), TrustSource::crd()]
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
/// `has()` could count it as given.
fn structural(value: &mut Value) {
    match value {
        Value::Object(object) => {
            if object.get("additionalProperties") == Some(&Value::Bool(false)) {
                object.remove("additionalProperties");
            }
            if object.contains_key("type") {
                object.remove("nullable");
            }
            object.values_mut().for_each(structural);
        }
        Value::Array(items) => items.iter_mut().for_each(structural),
        _ => {}
    }
}
