//! Whom a refused object belongs to, and what they are told. Only read once something was refused.

use std::fmt;

use countersign_verify::outcome::Effect;
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::read;
use super::respond::Answer;
use super::wire::Text;
use crate::cluster::events::{Owner, Refusal};
use crate::review;

#[derive(Deserialize)]
struct Review<'a> {
    #[serde(borrow)]
    request: Request<'a>,
}

#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    object: Object<'a>,
}

#[derive(Deserialize)]
struct Object<'a> {
    #[serde(borrow)]
    metadata: Metadata<'a>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, rename = "ownerReferences")]
    owners: Controller<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Reference<'a> {
    #[serde(borrow)]
    api_version: Text<'a>,
    #[serde(borrow)]
    kind: Text<'a>,
    #[serde(borrow)]
    name: Text<'a>,
    #[serde(borrow)]
    uid: Text<'a>,
    #[serde(default)]
    controller: Option<bool>,
}

/// The first owner that manages the object; the API server takes objects with one at most. The
/// others are not kept, however many there are.
struct Controller<'a>(Option<Reference<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Controller<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct References;

        impl<'de> Visitor<'de> for References {
            type Value = Controller<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("owner references")
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(Controller(None))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut owners: A) -> Result<Self::Value, A::Error> {
                let mut found = None;
                while let Some(owner) = owners.next_element::<Reference<'de>>()? {
                    if owner.controller == Some(true) {
                        found = found.or(Some(owner));
                    }
                }
                Ok(Controller(found))
            }
        }

        deserializer.deserialize_any(References)
    }
}

/// What the owner that manages the object of this AdmissionReview is told of the answer; `None`
/// where none does.
pub(super) fn told(
    request: &read::Request<'_>,
    review: &review::Review,
    answer: &Answer,
    body: &[u8],
) -> Option<Refusal> {
    let owner = controller(body)?;
    let text = answer.text();
    let subject = subject(review).unwrap_or_else(|| text.clone());
    Refusal::new(&request.namespace, owner, answer.code, &subject, &text)
}

/// Which images are refused or warned of, and by which policies; `None` where it is about no image.
fn subject(review: &review::Review) -> Option<String> {
    let told = review.images.iter().filter(|image| image.decision.effect() != Effect::Allow);
    let lines = told.map(|image| {
        let refused = image.decision.verdicts.iter().filter(|verdict| verdict.refusal().is_some());
        let policies: Vec<&str> = refused.map(|it| it.policy.as_deref().unwrap_or("-")).collect();
        let usage = &image.usage;
        format!("{} {} {}", usage.path, usage.image, policies.join(" "))
    });
    let lines: Vec<String> = lines.collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// The owner that manages the object of this AdmissionReview. `None` where none does, and where it
/// cannot be read.
fn controller(body: &[u8]) -> Option<Owner> {
    let review: Review<'_> = serde_json::from_slice(body).ok()?;
    let Reference { api_version, kind, name, uid, .. } = review.request.object.metadata.owners.0?;
    Owner::checked(&api_version, &kind, &name, &uid)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn of(metadata: Value) -> Option<Owner> {
        let review = json!({"request": {"object": {"metadata": metadata, "spec": {}}}});
        controller(review.to_string().as_bytes())
    }

    fn job(name: &str) -> Value {
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": "u-1",
            "controller": true, "blockOwnerDeletion": true,
        })
    }

    #[test]
    fn the_controller_counts_and_no_other_owner() {
        let owner = Owner::checked("batch/v1", "Job", "a", "u-1");
        assert!(owner.is_some());
        assert_eq!(of(json!({"name": "x", "ownerReferences": [job("a")]})), owner);
        let mut other = job("b");
        for controller in [json!(false), Value::Null] {
            other["controller"] = controller;
            assert_eq!(of(json!({"ownerReferences": [other, job("a"), job("c")]})), owner);
            assert_eq!(of(json!({"ownerReferences": [other]})), None);
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_owner() {
        let without = |field: &str| {
            let mut owner = job("a");
            owner.as_object_mut().expect("an object").remove(field);
            owner
        };
        for owners in [
            Value::Null,
            json!({}),
            json!("a"),
            json!(1),
            json!([]),
            json!([null]),
            json!([1]),
            json!([{"controller": "true"}]),
            json!([{"controller": true}]),
            json!([job("../../a")]),
            json!([job("")]),
            json!([without("uid")]),
            json!([without("kind")]),
            json!([without("controller")]),
        ] {
            assert_eq!(of(json!({"ownerReferences": owners})), None, "{owners}");
        }
        assert_eq!(of(Value::Null), None);
        assert_eq!(of(json!({"name": "x"})), None);
        assert_eq!(controller(b""), None);
        assert_eq!(controller(br#"{"request": null}"#), None);
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let deep =
            format!(r#"{{"request":{{"object":{{"metadata":{{"ownerReferences":{deep}}}}}}}}}"#);
        assert_eq!(controller(deep.as_bytes()), None);
    }
}
