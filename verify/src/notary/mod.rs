//! Notary v1 (Docker Content Trust): a TUF dialect older than the specification.
//!
//! [`Update`] takes a repository's files one by one and ends in a [`Repository`], whose
//! [`Repository::find`] answers for images. Every chain of trust starts at a [`Pin`]; [`Memory`]
//! only ever restricts.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use serde::{Deserialize, Serialize};

use crate::image::Digest;

mod canonical;
mod certificate;
mod key;
mod listed;
mod lookup;
mod metadata;
mod node;
mod pin;
mod repository;
mod role;
mod root;
mod update;

pub use key::public_key_fingerprint;
pub use listed::{ListedKey, listed_root_keys};
pub use metadata::FileMeta;
pub use pin::{Pin, PinnedKeys, Pins};
pub use repository::{Repository, RoleDetail, RoleInfo};
pub use role::{RELEASES, TARGETS, is_targets_role};
pub use update::{RootStep, SnapshotStep, Update};

/// Which roles' signatures count for an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// Docker's: the subtree of `targets/releases`, then `targets`.
    Docker,
    /// Every one of these roles, and no other; never empty.
    RequireRoles(Vec<String>),
}

/// What is asked of a repository's signed metadata.
#[derive(Debug, Clone, Copy)]
pub enum Wanted<'a> {
    /// The tag must be signed for this digest, as resolved from the registry, and for this
    /// manifest size in bytes where it is known.
    Tag {
        /// The tag.
        tag: &'a str,
        /// What the registry resolves it to.
        digest: &'a Digest,
        /// The manifest's size in bytes.
        size: Option<u64>,
    },
    /// Some tag must be signed for this digest.
    Digest {
        /// The digest.
        digest: &'a Digest,
    },
}

/// What is remembered of a repository; it only ever restricts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Memory {
    /// The newest verified root.
    pub root: Option<RootFloor>,
    /// The newest verified version of every other role.
    pub roles: BTreeMap<String, Floor>,
}

/// The newest verified root.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RootFloor {
    /// Its version.
    pub version: u64,
    /// sha256 of its file, in hex.
    pub sha256: String,
}

/// The newest verified version of a role.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Floor {
    /// The version.
    pub version: u64,
    /// What names the role's keys: when a verified root or delegating role changes them, the
    /// floor falls.
    pub keys: String,
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn sha512(bytes: &[u8]) -> [u8; 64] {
    let mut hash = [0; 64];
    hash.copy_from_slice(digest::digest(&digest::SHA512, bytes).as_ref());
    hash
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
