//! Reads an AdmissionReview in one pass.
//!
//! An object is read by the place where its kind keeps the pod spec, and everything else in it is
//! skipped. Members that are there twice are an error, never last-wins.

use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};

use super::wire::{GroupName, Object, ObjectSeed, Operation, Text};
use super::workload::{Kinds, Place};

/// Why a body is not an AdmissionReview that can be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Malformed {
    #[error("the body is not an AdmissionReview that Countersign can read: {0}")]
    Json(#[from] serde_json::Error),
    #[error(
        "the body is {kind:?} of {api_version:?}; Countersign reads AdmissionReview of \
         admission.k8s.io/v1 (set admissionReviewVersions: [v1])"
    )]
    Version { api_version: String, kind: String },
    #[error("the AdmissionReview has no request")]
    NoRequest,
    #[error("the AdmissionReview's request has no uid")]
    NoUid,
    #[error("the AdmissionReview's request has the unknown operation {0:?}")]
    Operation(String),
    #[error("the AdmissionReview's request has no object")]
    NoObject,
}

/// The request of an AdmissionReview.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) uid: Text<'a>,
    pub(super) kind: GroupName<'a>,
    pub(super) name: Text<'a>,
    pub(super) namespace: Text<'a>,
    pub(super) operation: Operation,
    pub(super) dry_run: bool,
    pub(super) place: Place,
    pub(super) object: Object<'a>,
    pub(super) old_object: Object<'a>,
}

/// Reads a review's request. Bytes that are no AdmissionReview of v1 are an error; an old object
/// that cannot be read is not: it is `Skipped`.
pub(super) fn read<'a>(body: &'a [u8], kinds: &Kinds) -> Result<Request<'a>, Malformed> {
    let first = ReviewSeed { kinds, place: None, read_old: true };
    let review = match parse(body, first) {
        Ok(review) => review,
        Err(_) => parse(body, ReviewSeed { kinds, place: None, read_old: false })?,
    };
    let place = review.request.as_ref().filter(|request| request.late).map(|raw| raw.place(kinds));
    let review = match place {
        None => review,
        // What says where the pod spec is came after the object: once more, knowing it.
        Some(place) => {
            let again = |read_old| parse(body, ReviewSeed { kinds, place: Some(place), read_old });
            again(true).or_else(|_| again(false))?
        }
    };
    finish(review, kinds)
}

fn parse<'a>(body: &'a [u8], seed: ReviewSeed<'_>) -> Result<RawReview<'a>, serde_json::Error> {
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let review = seed.deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(review)
}

fn finish<'a>(review: RawReview<'a>, kinds: &Kinds) -> Result<Request<'a>, Malformed> {
    if &*review.api_version != "admission.k8s.io/v1" || &*review.kind != "AdmissionReview" {
        let short = |text: &str| text.chars().take(64).collect();
        let (api_version, kind) = (short(&review.api_version), short(&review.kind));
        return Err(Malformed::Version { api_version, kind });
    }
    let raw = review.request.ok_or(Malformed::NoRequest)?;
    if raw.uid.is_empty() {
        return Err(Malformed::NoUid);
    }
    let unknown = || Malformed::Operation(raw.operation.chars().take(32).collect());
    Ok(Request {
        place: raw.place(kinds),
        operation: Operation::read(&raw.operation).ok_or_else(unknown)?,
        uid: raw.uid,
        kind: raw.kind,
        name: raw.name,
        namespace: raw.namespace,
        dry_run: raw.dry_run,
        object: raw.object,
        old_object: raw.old_object,
    })
}

#[derive(Default)]
struct RawReview<'a> {
    api_version: Text<'a>,
    kind: Text<'a>,
    request: Option<RawRequest<'a>>,
}

#[derive(Default)]
struct RawRequest<'a> {
    uid: Text<'a>,
    kind: GroupName<'a>,
    resource: GroupName<'a>,
    sub_resource: Text<'a>,
    name: Text<'a>,
    namespace: Text<'a>,
    operation: Text<'a>,
    dry_run: bool,
    object: Object<'a>,
    old_object: Object<'a>,
    /// Something that says where the pod spec is came after an object.
    late: bool,
}

impl RawRequest<'_> {
    fn place(&self, kinds: &Kinds) -> Place {
        if matches!(&*self.operation, "DELETE" | "CONNECT") {
            return Place::Unaffected;
        }
        kinds.place(&self.kind, &self.resource.kind, &self.sub_resource)
    }
}

#[derive(Clone, Copy)]
struct ReviewSeed<'k> {
    kinds: &'k Kinds,
    /// Where the pod spec is, if an earlier pass has found that out.
    place: Option<Place>,
    read_old: bool,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum ReviewField {
    ApiVersion,
    Kind,
    Request,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for ReviewSeed<'_> {
    type Value = RawReview<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReviewSeed<'_> {
    type Value = RawReview<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AdmissionReview")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut review = RawReview::default();
        let mut seen = Seen::default();
        while let Some(field) = map.next_key()? {
            match field {
                ReviewField::ApiVersion => {
                    seen.once(0, "apiVersion")?;
                    review.api_version = map.next_value()?;
                }
                ReviewField::Kind => {
                    seen.once(1, "kind")?;
                    review.kind = map.next_value()?;
                }
                ReviewField::Request => {
                    seen.once(2, "request")?;
                    review.request = map.next_value_seed(RequestSeed(self))?;
                }
                ReviewField::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(review)
    }
}

#[derive(Clone, Copy)]
struct RequestSeed<'k>(ReviewSeed<'k>);

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum RequestField {
    Uid,
    Kind,
    Resource,
    SubResource,
    Name,
    Namespace,
    Operation,
    DryRun,
    Object,
    OldObject,
    #[serde(other)]
    Other,
}

impl<'de> DeserializeSeed<'de> for RequestSeed<'_> {
    type Value = Option<RawRequest<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_option(self)
    }
}

impl<'de> Visitor<'de> for RequestSeed<'_> {
    type Value = Option<RawRequest<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an AdmissionRequest")
    }

    fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        use RequestField as Field;

        let mut request = RawRequest::default();
        let mut seen = Seen::default();
        let mut objects = false;
        while let Some(field) = map.next_key()? {
            match field {
                Field::Kind | Field::Resource | Field::SubResource | Field::Operation => {
                    request.late |= objects;
                }
                Field::Object | Field::OldObject => objects = true,
                _ => {}
            }
            match field {
                Field::Uid => {
                    seen.once(0, "uid")?;
                    request.uid = map.next_value()?;
                }
                Field::Kind => {
                    seen.once(1, "kind")?;
                    request.kind = map.next_value()?;
                }
                Field::Resource => {
                    seen.once(2, "resource")?;
                    request.resource = map.next_value()?;
                }
                Field::SubResource => {
                    seen.once(3, "subResource")?;
                    request.sub_resource = map.next_value()?;
                }
                Field::Name => {
                    seen.once(4, "name")?;
                    request.name = map.next_value()?;
                }
                Field::Namespace => {
                    seen.once(5, "namespace")?;
                    request.namespace = map.next_value()?;
                }
                Field::Operation => {
                    seen.once(6, "operation")?;
                    request.operation = map.next_value()?;
                }
                Field::DryRun => {
                    seen.once(7, "dryRun")?;
                    request.dry_run = map.next_value::<Option<bool>>()?.unwrap_or(false);
                }
                Field::Object => {
                    seen.once(8, "object")?;
                    request.object = map.next_value_seed(self.0.object(&request, true))?;
                }
                Field::OldObject => {
                    seen.once(9, "oldObject")?;
                    let seed = self.0.object(&request, self.0.read_old);
                    request.old_object = map.next_value_seed(seed)?;
                }
                Field::Other => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Some(request))
    }
}

impl<'k> ReviewSeed<'k> {
    fn object(&self, request: &RawRequest<'_>, wanted: bool) -> ObjectSeed<'k> {
        let place = self.place.unwrap_or_else(|| request.place(self.kinds));
        ObjectSeed(wanted.then(|| self.kinds.steps(place)).flatten())
    }
}

/// Which members of an object were there.
#[derive(Default)]
struct Seen(u16);

impl Seen {
    fn once<E: Error>(&mut self, bit: u8, field: &'static str) -> Result<(), E> {
        if self.0 & (1 << bit) != 0 {
            return Err(E::duplicate_field(field));
        }
        self.0 |= 1 << bit;
        Ok(())
    }
}
