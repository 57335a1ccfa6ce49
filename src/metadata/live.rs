//! What is asked of the metadata that is at hand.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_verify::image::{Digest, Pattern, Reference};
use countersign_verify::tuf;
use jiff::Timestamp;
use url::Url;

use super::Repository;
use crate::api::{Source, SourceKind};

/// The repository of a TUF source: there is one, for all images.
pub(crate) const WHOLE: &str = "*";

/// A repository in a source, and what is needed of it.
#[derive(Debug, Clone)]
pub struct Live {
    /// The source.
    pub source: Arc<Source>,
    /// In a Notary source `registry/repository`, in a TUF source `*`.
    pub repository: String,
    /// Delegated roles that policies name, worth fetching with a Notary repository's first files.
    pub roles: BTreeSet<String>,
    /// Whose roles have to be loaded of a TUF repository.
    pub wants: Vec<Want>,
}

/// An image that is looked up in a TUF repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Want {
    /// How.
    pub lookup: Arc<tuf::Lookup>,
    /// The image.
    pub reference: Reference,
}

/// The source's fingerprint, so that what is asked through another URL, CA or pin is asked anew; and
/// the repository.
pub(super) type Key = ([u8; 32], String);

/// The source's name and the repository: a set outlives a change of how its source is read.
pub(super) type SetKey = (String, String);

/// What a repository's trust begins with, and where.
#[derive(PartialEq)]
enum Beginning<'s> {
    Pin {
        anchor: String,
        /// Those of the pin that match the repository: they say which names its root's certificate
        /// may have.
        patterns: BTreeSet<&'s str>,
        url: &'s Url,
    },
    /// All mirrors of it are alike.
    Root { anchor: String, max_delegations: usize },
}

impl Live {
    /// A Notary server's repository.
    pub fn notary(source: Arc<Source>, repository: String, roles: BTreeSet<String>) -> Self {
        Self { source, repository, roles, wants: Vec::new() }
    }

    /// A TUF repository.
    pub fn tuf(source: Arc<Source>, wants: Vec<Want>) -> Self {
        Self { source, repository: WHOLE.to_owned(), roles: BTreeSet::new(), wants }
    }

    pub(super) fn key(&self) -> Key {
        (self.source.fingerprint, self.repository.clone())
    }

    pub(super) fn set_key(&self) -> SetKey {
        (self.source.name.clone(), self.repository.clone())
    }

    /// Whether what was verified of the repository in this source holds in `source` too: it begins
    /// with the same pin, for the same names, at the same server, or with the same initial root. How
    /// we connect and log in says nothing of what is signed.
    pub(super) fn holds_in(&self, source: &Arc<Source>) -> bool {
        if Arc::ptr_eq(&self.source, source) || self.source.fingerprint == source.fingerprint {
            return true;
        }
        let here = self.beginning(&self.source);
        here.is_some() && here == self.beginning(source)
    }

    /// What the repository's trust begins with in a source, and where; `None` where there is nothing.
    fn beginning<'s>(&self, source: &'s Source) -> Option<Beginning<'s>> {
        match &source.kind {
            SourceKind::Notary { url, pins } => {
                let pin = pins.find(&self.repository).ok()?;
                let patterns = pin.repositories.iter();
                let patterns = patterns.filter(|it| it.matches_name(&self.repository));
                let patterns = patterns.map(Pattern::as_str).collect();
                Some(Beginning::Pin { anchor: pin.anchor(), patterns, url })
            }
            SourceKind::Tuf { initial, max_delegations, .. } => {
                let (anchor, max_delegations) = (initial.as_ref()?.anchor(), *max_delegations);
                Some(Beginning::Root { anchor, max_delegations })
            }
        }
    }

    /// Whether everything that is needed of it is loaded.
    pub(super) fn is_met_by(&self, repository: &Repository, now: Timestamp) -> bool {
        repository.tuf().is_none_or(|tuf| self.wants.iter().all(|want| want.is_met_by(tuf, now)))
    }
}

impl Want {
    pub(super) fn is_met_by(&self, repository: &tuf::Repository, now: Timestamp) -> bool {
        // Which roles answer for a tag does not hang on the digest.
        let any = Digest::sha256(b"");
        let digest = self.reference.digest().unwrap_or(&any);
        let image = tuf::Image { reference: &self.reference, digest, size: None, manifest: None };
        !repository.needs_roles(&self.lookup, image, now)
    }
}
