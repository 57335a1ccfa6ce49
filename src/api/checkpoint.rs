//! TrustCheckpoint: the newest versions seen of a repository's metadata.

use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The newest versions that Countersign has verified of a repository's metadata.
///
/// The rules are what [`countersign_verify::notary::Memory::merged`] makes of any two memories, as
/// far as the API server can tell: they stop old backups and slips of the hand. Whoever may write
/// checkpoints can still raise them, which denies, and whoever may delete them resets.
#[derive(Debug, Clone, PartialEq, Eq, CustomResource, Deserialize, Serialize, JsonSchema)]
#[kube(
    group = "countersign.dev",
    version = "v1alpha1",
    kind = "TrustCheckpoint",
    shortname = "tcp",
    derive = "PartialEq",
    doc = "The newest versions that Countersign has verified of a repository's metadata: older ones are refused as Rollback. Written by Countersign only; deleting it forgets them.",
    printcolumn = r#"{"name":"Source","type":"string","jsonPath":".spec.source"}"#,
    printcolumn = r#"{"name":"Repository","type":"string","jsonPath":".spec.repository"}"#,
    printcolumn = r#"{"name":"Root","type":"integer","jsonPath":".spec.root.version"}"#,
    printcolumn = r#"{"name":"Age","type":"date","jsonPath":".metadata.creationTimestamp"}"#
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.source == oldSelf.source && self.repository == oldSelf.repository && self.anchor == oldSelf.anchor",
     "message": "source, repository and anchor are immutable"},
    {"rule": "self.root.version > oldSelf.root.version || (self.root.version == oldSelf.root.version && self.root.sha256 == oldSelf.root.sha256)",
     "message": "root only rises, and one version of it has one hash"},
    {"rule": "oldSelf.roles.all(old, self.roles.exists(new, new.name == old.name))",
     "message": "no role is taken away"},
    {"rule": "self.root.version > oldSelf.root.version || self.roles.all(new, new.name.startsWith('targets/') || oldSelf.roles.all(old, old.name != new.name || old.version <= new.version))",
     "message": "a version falls only together with a newer root; to start over, delete the TrustCheckpoint"},
    {"rule": "self.root.version > oldSelf.root.version || self.roles.all(new, !new.name.startsWith('targets/') || oldSelf.roles.all(old, old.name != new.name || old.version <= new.version)) || self.roles.exists(new, (new.name == 'targets' || new.name.startsWith('targets/')) && !oldSelf.roles.exists(old, old.name == new.name && old.version >= new.version))",
     "message": "a delegated role's version falls only together with a newer root or delegating role; to start over, delete the TrustCheckpoint"},
]))]
pub struct TrustCheckpointSpec {
    /// The TrustSource.
    #[schemars(length(min = 1, max = 253))]
    pub source: String,
    /// The repository, as registry.example.com/payments/api; * of a TUF source, which has one for
    /// all images.
    #[schemars(length(min = 1, max = 1024))]
    pub repository: String,
    /// sha256 in hex of the source's pin for the repository: another one is another beginning. The
    /// same for all TUF sources, whichever root they begin with.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$", "maxLength" = 64))]
    pub anchor: String,
    /// The newest verified root.
    pub root: CheckpointRoot,
    /// The newest verified version of every other role.
    #[schemars(
        length(max = 128),
        extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"])
    )]
    pub roles: Vec<CheckpointRole>,
}

/// The newest verified root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointRoot {
    /// Its version.
    #[schemars(range(min = 1))]
    pub version: i64,
    /// sha256 of its file, in hex.
    #[schemars(extend("pattern" = "^[0-9a-f]{64}$", "maxLength" = 64))]
    pub sha256: String,
    /// Of a TUF source: who may sign by this root. A version that was signed by others counts no
    /// more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signers: Option<Box<CheckpointSigners>>,
}

/// Who may sign by a root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointSigners {
    /// The timestamp, and the snapshot's version that it lists.
    pub timestamp: CheckpointKeys,
    /// The snapshot, and the versions of all roles that it lists.
    pub snapshot: CheckpointKeys,
}

/// A role's keys by a root.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CheckpointKeys {
    /// As sha256:..., with commas between them.
    #[schemars(extend(
        "pattern" = "^(sha256:[0-9a-f]{64}(,sha256:[0-9a-f]{64})*)?$",
        "maxLength" = 73728
    ))]
    pub keys: String,
    /// So many of them have to sign.
    #[schemars(range(min = 1))]
    pub threshold: i64,
}

/// The newest verified version of a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": "self.version >= oldSelf.version || self.keys != oldSelf.keys",
     "message": "a version falls only when the role's keys change; to start over, delete the TrustCheckpoint"},
]))]
pub struct CheckpointRole {
    /// The role, as timestamp or targets/releases; of a TUF source as its file is named.
    #[schemars(length(min = 1, max = 512))]
    pub name: String,
    /// Its version; 0 where none was verified yet under the keys that a newer root or delegating
    /// role lists.
    #[schemars(range(min = 0))]
    pub version: i64,
    /// sha256 in hex that names the role's keys and threshold; of a TUF source the keys that
    /// signed, as sha256:..., with commas between them.
    #[schemars(extend(
        "pattern" = "^([0-9a-f]{64}|sha256:[0-9a-f]{64}(,sha256:[0-9a-f]{64})*)$",
        "maxLength" = 4608
    ))]
    pub keys: String,
}
