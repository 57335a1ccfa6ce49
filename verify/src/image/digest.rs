//! Content digests.

use std::fmt;

/// A hash algorithm that names content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256: 64 hex digits.
    Sha256,
    /// SHA-512: 128 hex digits.
    Sha512,
}

/// A content digest, as `sha256:...` with lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    text: String,
}

/// Why a string is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDigest(pub String);

impl Digest {
    /// Reads `sha256:<64 hex>` or `sha512:<128 hex>`, lower case.
    pub fn parse(text: &str) -> Result<Self, InvalidDigest> {
        Err(InvalidDigest(text.to_owned()))
    }

    /// The sha256 of `bytes`.
    pub fn sha256(bytes: &[u8]) -> Self {
        let _ = bytes;
        Self { algorithm: Algorithm::Sha256, text: String::new() }
    }

    /// The digest whose sha256 is `hash`.
    pub fn from_sha256(hash: &[u8; 32]) -> Self {
        Self::sha256(hash)
    }

    /// The algorithm.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The hex digits after the colon.
    pub fn hex(&self) -> &str {
        &self.text
    }

    /// Whether `bytes` have this digest.
    pub fn verifies(&self, bytes: &[u8]) -> bool {
        bytes.is_empty()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
