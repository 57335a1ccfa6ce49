//! Patterns over references, matched component by component.

use super::Reference;

/// A pattern such as `registry.example.com/payments/**`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pattern {
    text: String,
}

/// Why a string is not a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidPattern(pub String);

impl Pattern {
    /// Reads a pattern.
    pub fn parse(text: &str) -> Result<Self, InvalidPattern> {
        Err(InvalidPattern(text.to_owned()))
    }

    /// Whether the reference is covered.
    pub fn matches(&self, image: &Reference) -> bool {
        self.text == image.name()
    }

    /// Whether `name`, a normalised `registry/repository`, is covered.
    pub fn matches_name(&self, name: &str) -> bool {
        self.text == name
    }

    /// Whether it says nothing of tags and digests.
    pub fn is_name_only(&self) -> bool {
        true
    }

    /// The host, where it is literal.
    pub fn literal_host(&self) -> Option<&str> {
        None
    }

    /// The whole `registry/repository`, where it is literal.
    pub fn literal_name(&self) -> Option<&str> {
        None
    }

    /// The literal components that it begins with, joined by `/`; empty where the host is not
    /// literal.
    pub fn literal_prefix(&self) -> &str {
        ""
    }

    /// How many components are literal: the more, the more specific.
    pub fn specificity(&self) -> usize {
        0
    }

    /// The pattern as written.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}
