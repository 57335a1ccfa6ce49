//! The validated forms of policies, and which of them speak for an image.

mod judge;
mod namespace;
mod set;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use crate::image::{Pattern, Reference};
use crate::outcome::Denial;
use crate::{notary, tuf};

pub use judge::independent;
pub use namespace::{Namespace, NamespaceSelector, Operator, Requirement};
pub use set::{PolicySet, Selected};

/// What a refusal by a policy means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Nothing visible: it is counted and logged.
    Audit,
    /// The request is let in, with a warning.
    Warn,
    /// The request is refused.
    Deny,
}

/// What becomes of tags in pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tags {
    /// A tag is enough: only "signed when admitted" is promised.
    Float,
    /// Pods get `tag@digest` from the mutating webhook.
    PinDigest,
    /// The author has to write a digest.
    RequireDigest,
}

/// One TrustPolicy, validated.
#[derive(Debug, Clone)]
pub struct Policy {
    /// The resource's name.
    pub name: String,
    /// Images it speaks for: any of these...
    pub include: Vec<Pattern>,
    /// ...and none of these.
    pub exclude: Vec<Pattern>,
    /// Namespaces it speaks for.
    pub namespaces: NamespaceSelector,
    /// What a refusal means.
    pub action: Action,
    /// What becomes of tags.
    pub tags: Tags,
    /// What it asks for.
    pub rule: Rule,
    /// Time-boxed holes.
    pub exceptions: Vec<Exception>,
    /// Whether rejections may name other tags, digests and key ids.
    pub disclose: bool,
    /// Where the developer finds help; ends every rejection.
    pub help: Option<String>,
}

/// What a policy asks for.
#[derive(Debug, Clone)]
pub enum Rule {
    /// Signatures of so many independent authorities.
    Verify {
        /// At least 1.
        min_authorities: usize,
        /// At least one, at most [`crate::limits::AUTHORITIES`].
        authorities: Vec<Authority>,
    },
    /// Nothing, for this reason.
    AllowUnverified {
        /// Why.
        reason: String,
    },
    /// The policy could not be compiled: it refuses whatever it matches.
    Invalid(Denial),
}

/// Someone whose signature a policy asks for.
#[derive(Debug, Clone)]
pub struct Authority {
    /// Its name in the policy.
    pub name: String,
    /// The name of the TrustSource that holds its signatures.
    pub source: String,
    /// Why the source cannot be used, where it cannot.
    pub usable: Result<(), Denial>,
    /// What counts as its signature.
    pub lookup: Lookup,
}

/// What counts as an authority's signature, in the dialect of its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lookup {
    /// In a Notary server.
    Notary(notary::Lookup),
    /// In a TUF repository.
    Tuf(Arc<tuf::Lookup>),
}

/// A time-boxed hole in a policy.
#[derive(Debug, Clone)]
pub struct Exception {
    /// Its name in the policy.
    pub name: String,
    /// The images it covers; here a pattern may end in a tag or a digest.
    pub images: Vec<Pattern>,
    /// The namespaces it covers, by name; never empty.
    pub namespaces: BTreeSet<String>,
    /// When it ends.
    pub expires: Timestamp,
    /// Why it exists.
    pub reason: String,
}

impl Policy {
    /// Whether the policy speaks for this image in this namespace; `None` where that hangs on what
    /// cannot be looked up of the namespace.
    pub fn matches(&self, image: &Reference, namespace: Namespace<'_>) -> Option<bool> {
        let by_image = self.include.iter().any(|pattern| pattern.matches(image))
            && !self.exclude.iter().any(|pattern| pattern.matches(image));
        if by_image { self.namespaces.matches(namespace) } else { Some(false) }
    }

    /// The exception that covers this image in this namespace and ends last, whether or not it is
    /// over. A request without a namespace is covered by none.
    pub fn exception(&self, image: &Reference, namespace: Namespace<'_>) -> Option<&Exception> {
        let covers = |exception: &&Exception| {
            namespace.name.is_some_and(|name| exception.namespaces.contains(name))
                && exception.images.iter().any(|pattern| pattern.matches(image))
        };
        self.exceptions.iter().filter(covers).max_by_key(|exception| exception.expires)
    }
}
