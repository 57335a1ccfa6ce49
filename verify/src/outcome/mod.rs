//! What verification ends in: a [`Proof`], a [`Denial`] or [`Unavailable`], and what the policies
//! make of them, a [`Decision`].

mod decision;
mod denial;
#[cfg(test)]
mod tests;
mod text;
mod unavailable;

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::image::Digest;

pub use decision::{AuthorityOutcome, Decision, Effect, Finding, PolicyVerdict};
pub use denial::Denial;
pub(crate) use text::listed;
pub use text::shortened;
pub use unavailable::Unavailable;

/// Evidence that an image is signed by an authority. Only this crate's verifiers can make one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proof {
    digest: Digest,
    role: String,
    name: String,
    keys: BTreeSet<KeyFingerprint>,
    expires: Timestamp,
}

impl Proof {
    /// `keys` are those whose valid signatures made the accepted role trusted; a proof by nobody
    /// is not a proof, hence the `Option`.
    pub(crate) fn new(
        digest: Digest,
        role: String,
        name: String,
        keys: BTreeSet<KeyFingerprint>,
        expires: Timestamp,
    ) -> Option<Self> {
        if keys.is_empty() {
            return None;
        }
        Some(Self { digest, role, name, keys, expires })
    }

    /// The digest that was signed.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The role whose signature counted; several, where all of them were required, joined by `, `.
    pub fn role(&self) -> &str {
        &self.role
    }

    /// The signed entry's name: the tag, in Notary.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The keys that signed the accepted roles.
    pub fn keys(&self) -> &BTreeSet<KeyFingerprint> {
        &self.keys
    }

    /// When the first file of the chain expires.
    pub fn expires(&self) -> Timestamp {
        self.expires
    }
}

/// sha256 of a public key's own bytes, the same for one key under every key id and encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyFingerprint(pub [u8; 32]);

impl std::fmt::Display for KeyFingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Why there is no [`Proof`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The evidence says no.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// No evidence could be had.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl Refusal {
    /// The stable code: the inner variant's name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Denied(denial) => denial.code(),
            Self::Unavailable(unavailable) => unavailable.code(),
        }
    }
}
