//! Image references by distribution's grammar and normalisation.

use std::fmt;

use super::Digest;
use super::grammar::{is_host, is_path_component, is_tag, looks_like_host};
use crate::limits::REFERENCE_BYTES;

/// Docker Hub's host in normalised references.
pub(super) const DOCKER_HUB: &str = "docker.io";

/// Its former host, which still is its other name.
pub(super) const DOCKER_HUB_LEGACY: &str = "index.docker.io";

/// Longest `registry/repository`, in bytes. Source: distribution (`NameTotalLengthMax`).
const NAME_BYTES: usize = 255;

/// A normalised image reference: `nginx` is `docker.io/library/nginx:latest`.
///
/// The host is kept in lower case, for DNS does not know cases and patterns must not be evaded by
/// them.
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
    /// Reads and normalises. Without tag and digest, the tag is `latest`; with both, both are
    /// kept, and the digest is what a runtime pulls.
    ///
    /// Stricter than distribution where two spellings could mean one registry or one spelling
    /// two: ports have no leading zeros, Docker Hub's host and hosts of one label are written in
    /// lower case.
    pub fn parse(text: &str) -> Result<Self, InvalidReference> {
        check_shape(text)?;
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = Digest::parse(digest).map_err(|error| InvalidReference(error.0))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, rest) = split_registry(rest)?;
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        let path = check_path(path)?;
        if let Some(tag) = tag {
            check_tag(tag)?;
        }
        let registry_len = registry.len();
        let official = registry == DOCKER_HUB && !path.contains('/');
        let name = format!("{registry}/{}{path}", if official { "library/" } else { "" });
        if name.len() > NAME_BYTES {
            return invalid(format!(
                "its name has {} characters, at most {NAME_BYTES} are allowed",
                name.len()
            ));
        }
        let tag = match (tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            (tag, _) => tag.map(str::to_owned),
        };
        Ok(Self { name, registry_len, tag, digest })
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

    /// The same image by its tag; `None` where it has none.
    pub fn by_tag(&self) -> Option<Self> {
        self.tag.is_some().then(|| Self { digest: None, ..self.clone() })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

fn invalid<T>(reason: impl Into<String>) -> Result<T, InvalidReference> {
    Err(InvalidReference(reason.into()))
}

fn check_shape(text: &str) -> Result<(), InvalidReference> {
    if text.is_empty() {
        return invalid("it is empty");
    }
    if text.len() > REFERENCE_BYTES {
        return invalid(format!(
            "it has {} characters, at most {REFERENCE_BYTES} are allowed",
            text.chars().count()
        ));
    }
    if text.contains(|character: char| character.is_whitespace() || character.is_control()) {
        return invalid("it contains a space or a control character");
    }
    if text.contains("://") {
        return invalid("it is a URL; write it without the scheme, as registry/repository:tag");
    }
    if text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return invalid("64 hex digits are an image's identifier, not its name");
    }
    Ok(())
}

/// `splitDockerDomain`: the normalised registry and the rest.
fn split_registry(text: &str) -> Result<(String, &str), InvalidReference> {
    let hub = || Ok((DOCKER_HUB.to_owned(), text));
    let Some((first, rest)) = text.split_once('/') else {
        return hub();
    };
    let has_upper_case = first.chars().any(char::is_uppercase);
    if !looks_like_host(first) && !has_upper_case {
        return hub();
    }
    let host = first.to_ascii_lowercase();
    if !is_host(&host) {
        return invalid(format!("\"{}\" is not a registry's host", first.escape_debug()));
    }
    if !looks_like_host(&host) {
        // Distribution takes it for a host; in lower case it would be a path on Docker Hub.
        return invalid(format!(
            "\"{first}\" is neither a registry's host, which has a dot or a port, nor a lower-case repository path"
        ));
    }
    let docker_hub = host == DOCKER_HUB || host == DOCKER_HUB_LEGACY;
    if docker_hub && has_upper_case {
        // Runtimes know Docker Hub by the lower-case spelling only and would pull elsewhere.
        return invalid(format!("\"{first}\" has to be written as {DOCKER_HUB}"));
    }
    Ok((if docker_hub { DOCKER_HUB.to_owned() } else { host }, rest))
}

fn check_path(path: &str) -> Result<&str, InvalidReference> {
    if path.is_empty() {
        return invalid("it names no repository");
    }
    if path.chars().any(char::is_uppercase) {
        return invalid(format!("repository \"{}\" has to be in lower case", path.escape_debug()));
    }
    match path.split('/').find(|component| !is_path_component(component)) {
        None => Ok(path),
        Some("") => {
            invalid(format!("repository \"{}\" has an empty path component", path.escape_debug()))
        }
        Some(component) => invalid(format!(
            "\"{}\" is not a repository path component: lower-case letters and digits, separated by one dot, one or two underscores, or dashes",
            component.escape_debug()
        )),
    }
}

fn check_tag(tag: &str) -> Result<(), InvalidReference> {
    if is_tag(tag) {
        return Ok(());
    }
    invalid(format!(
        "\"{}\" is not a tag: 1 to 128 letters, digits, underscores, dots and dashes, the first a letter, digit or underscore",
        tag.escape_debug()
    ))
}

#[cfg(test)]
mod tests;
