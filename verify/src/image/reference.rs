//! Image references by distribution's grammar and normalisation.

use std::fmt;

use super::Digest;

/// A normalised image reference: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    name: String,
    registry_len: usize,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Why a string is not a reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidReference(pub String);

impl Reference {
    /// Reads and normalises. Without tag and digest, the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        Err(InvalidReference(text.to_owned()))
    }

    /// `registry/repository`: Notary's GUN.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The registry's host, with its port: `docker.io`, `[::1]:5000`.
    pub fn registry(&self) -> &str {
        &self.name[..self.registry_len]
    }

    /// The repository below the registry: `library/nginx`.
    pub fn repository(&self) -> &str {
        &self.name[self.registry_len + 1..]
    }

    /// The tag.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The same image and tag, fixed to `digest`.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { digest: Some(digest), ..self.clone() }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
