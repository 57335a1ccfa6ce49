//! TrustCheckpoints as the API server has them.

use countersign_verify::memory::{Floor, Keys, Memory, RootFloor, Signers};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::{
    CheckpointKeys, CheckpointRole, CheckpointRoot, CheckpointSigners, Document,
    TrustCheckpointSpec,
};
use crate::metadata::Place;

/// Longest part of a name that is the source's: a name may have 253 characters.
const SOURCE_CHARS: usize = 200;

/// The name of a place's checkpoint.
pub(super) fn name(place: &Place) -> String {
    place.name(SOURCE_CHARS)
}

/// The source in a checkpoint's name, as far as it is in there.
pub(super) fn source(name: &str) -> &str {
    name.rsplit_once('-').map_or(name, |(source, _)| source)
}

/// What is written of a place; `None` before any root was verified. The API server's integers have
/// 63 bits: a larger version counts as the largest of them.
pub(super) fn spec(place: &Place, memory: &Memory) -> Option<TrustCheckpointSpec> {
    let version = |version: u64| i64::try_from(version).unwrap_or(i64::MAX);
    let keys = |keys: &Keys| CheckpointKeys {
        keys: keys.keys.clone(),
        threshold: version(keys.threshold),
    };
    let root = memory.root.as_ref()?;
    let roles = memory.roles.iter().map(|(name, floor)| CheckpointRole {
        name: name.clone(),
        version: version(floor.version),
        keys: floor.keys.clone(),
    });
    Some(TrustCheckpointSpec {
        source: place.source.clone(),
        repository: place.repository.clone(),
        anchor: place.anchor.clone(),
        root: CheckpointRoot {
            version: version(root.version),
            sha256: root.sha256.clone(),
            signers: root.signers.as_ref().map(|signers| {
                Box::new(CheckpointSigners {
                    timestamp: keys(&signers.timestamp),
                    snapshot: keys(&signers.snapshot),
                })
            }),
        },
        roles: roles.collect(),
    })
}

/// What a checkpoint remembers.
pub(super) fn memory(spec: &TrustCheckpointSpec) -> Memory {
    let version = |version: i64| u64::try_from(version).unwrap_or(0);
    let keys = |keys: &CheckpointKeys| Keys {
        keys: keys.keys.clone(),
        threshold: version(keys.threshold),
    };
    let root = &spec.root;
    let roles = spec.roles.iter().map(|role| {
        (role.name.clone(), Floor { version: version(role.version), keys: role.keys.clone() })
    });
    Memory {
        root: Some(RootFloor {
            version: version(root.version),
            sha256: root.sha256.clone(),
            signers: root.signers.as_ref().map(|signers| {
                Box::new(Signers {
                    timestamp: keys(&signers.timestamp),
                    snapshot: keys(&signers.snapshot),
                })
            }),
        }),
        roles: roles.collect(),
    }
}

/// A checkpoint as read.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Read {
    pub(super) uid: String,
    /// `metadata.resourceVersion`.
    pub(super) version: String,
    /// Or why it is none of ours.
    pub(super) spec: Result<TrustCheckpointSpec, String>,
}

/// Reads an object, whatever its shape: one that is bad must not hide the others.
pub(super) fn read(mut object: DynamicObject) -> (String, Read) {
    let found = object.name_any();
    let spec = object.data.get_mut("spec").map(Value::take).unwrap_or_default();
    let document: Document<TrustCheckpointSpec> = Document::new(found.as_str(), None, spec);
    let spec = document
        .spec
        .map_err(|unreadable| format!("{}: {}", unreadable.field, unreadable.reason))
        .and_then(|spec| {
            let TrustCheckpointSpec { source, repository, anchor, .. } = spec.clone();
            let wanted = name(&Place { source, repository, anchor });
            if wanted == found {
                return Ok(spec);
            }
            Err(format!(
                "it is about {} of {}, whose checkpoint is named {wanted}",
                spec.repository, spec.source
            ))
        });
    let read = Read {
        uid: object.metadata.uid.unwrap_or_default(),
        version: object.metadata.resource_version.unwrap_or_default(),
        spec,
    };
    (found, read)
}
