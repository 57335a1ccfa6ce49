//! Notary v1 (Docker Content Trust): a TUF dialect older than the specification.
//!
//! [`Update`] takes a repository's files one by one and ends in a [`Repository`], whose
//! [`Repository::find`] answers for images. Every chain of trust starts at a [`Pin`]; [`Memory`]
//! only ever restricts.

use crate::hash::{hex, sha256, sha512};
use crate::image::Digest;

mod certificate;
mod inspect;
mod key;
mod lookup;
mod metadata;
mod pin;
mod repository;
mod role;
mod root;
mod update;

pub use crate::memory::{Floor, Memory, RootFloor};
pub use inspect::{UntrustedRoot, UntrustedRootKey, untrusted_root};
pub use key::public_key_fingerprint;
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
