//! TUF 1.0: any repository that keeps to the specification.
//!
//! [`Update`] tells which file it needs next and takes it, until it needs none, and ends in a
//! [`Repository`], whose [`Repository::find`] answers for images. Every chain of trust starts at
//! an [`InitialRoot`]; [`crate::memory::Memory`] only ever restricts. Clauses in comments are
//! those of the specification, 1.0.

mod compare;
mod delegation;
mod document;
mod glob;
mod kept;
mod key;
mod lookup;
mod metadata;
mod repository;
mod template;
mod tree;
mod update;

use crate::hash::unhex;
use crate::image::{Digest, Reference};

pub use document::Listed;
pub use kept::{Covers, Kept, KeptDelegation, KeptFile, KeptRole, ReadFile, unknown_keys};
pub use repository::{Repository, Target};
pub use template::{InvalidTemplate, Template};
pub use update::{Answer, File, InitialRoot, Update};

const TIMESTAMP: &str = "timestamp";
const SNAPSHOT: &str = "snapshot";
const TARGETS: &str = "targets";

/// Which targets stand for an image, and whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    /// The target of a tag.
    pub target: Template,
    /// The target of a digest, where digests have their own.
    pub digest_target: Option<Template>,
    /// The roles.
    pub accept: Accept,
}

/// Whose signatures count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Accept {
    /// The role that answers for the name has to be one of these; `*` is any.
    Any(Vec<String>),
    /// Every one of these has signed the image; never empty.
    All(Vec<String>),
}

/// An image, and what is known of it.
#[derive(Debug, Clone, Copy)]
pub struct Image<'a> {
    /// As the pod names it. With a digest in it, the digest is what counts.
    pub reference: &'a Reference,
    /// Its digest: the reference's own, or what the registry resolves its tag to.
    pub digest: &'a Digest,
    /// Its manifest's size in bytes, where it is known.
    pub size: Option<u64>,
    /// Its manifest, where it was fetched: see [`Repository::needs_manifest`].
    pub manifest: Option<&'a [u8]>,
}

/// A role's name as files and URLs have it: every byte that RFC 3986 does not leave unreserved is
/// escaped, so that no name leads anywhere else. As python-tuf does it.
pub fn file_name(role: &str) -> String {
    let mut name = String::new();
    for byte in role.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            name.push(char::from(byte));
        } else {
            name.push_str(&format!("%{byte:02X}"));
        }
    }
    name
}

/// The role of a [`file_name`].
pub fn role_name(file_name: &str) -> String {
    let mut parts = file_name.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        // Two digits of an escaped byte, and what follows it.
        match part.split_at_checked(2).and_then(|(byte, rest)| Some((unhex(byte)?, rest))) {
            Some((byte, rest)) => {
                bytes.extend(byte);
                bytes.extend(rest.as_bytes());
            }
            None => bytes.extend(format!("%{part}").as_bytes()),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
