//! Notary v1 (Docker Content Trust): a TUF dialect older than the specification.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::image::{Digest, Pattern};
use crate::outcome::{Denial, Proof, Refusal};

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

/// Who may sign the roots of a source's repositories.
#[derive(Debug, Clone, Default)]
pub struct Pins(pub Vec<Pin>);

/// Who may sign the roots of some repositories.
#[derive(Debug, Clone)]
pub struct Pin {
    /// Its name in the source.
    pub name: String,
    /// The repositories it speaks for.
    pub repositories: Vec<Pattern>,
    /// The keys.
    pub keys: PinnedKeys,
}

/// The keys of a pin.
#[derive(Debug, Clone)]
pub enum PinnedKeys {
    /// DER SubjectPublicKeyInfo of keys, so many of which must have signed.
    PublicKeys {
        /// Each key's DER SubjectPublicKeyInfo.
        keys: Vec<Vec<u8>>,
        /// At least 1.
        threshold: usize,
    },
    /// DER certificates of authorities that issue the root keys' certificates.
    CertificateAuthorities(Vec<Vec<u8>>),
    /// Key ids as root.json lists them.
    RootKeyIds {
        /// 64 lower-case hex digits each.
        ids: Vec<String>,
        /// At least 1.
        threshold: usize,
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

/// A repository's verified metadata at one moment.
#[derive(Debug)]
pub struct Repository {
    roles: BTreeMap<String, Arc<Result<(), Refusal>>>,
}

impl Repository {
    /// Looks an image up.
    pub fn find(&self, lookup: &Lookup, wanted: Wanted<'_>, now: Timestamp) -> Result<Proof, Refusal> {
        let _ = (lookup, wanted, now, &self.roles);
        Err(Denial::NoMatchingPolicy.into())
    }
}
