//! Verified metadata in either dialect.

use countersign_verify::memory::Memory;
use countersign_verify::notary::{self, RoleInfo};
use countersign_verify::tuf;
use jiff::Timestamp;

/// A repository's verified metadata at one moment.
#[derive(Debug)]
pub enum Repository {
    /// A Notary server's.
    Notary(Box<notary::Repository>),
    /// A TUF repository's, as far as lookups have asked for its roles.
    Tuf(tuf::Repository),
}

impl Repository {
    /// Where it is a Notary server's.
    pub fn notary(&self) -> Option<&notary::Repository> {
        match self {
            Self::Notary(repository) => Some(repository),
            Self::Tuf(_) => None,
        }
    }

    /// Where it is a TUF repository's.
    pub fn tuf(&self) -> Option<&tuf::Repository> {
        match self {
            Self::Notary(_) => None,
            Self::Tuf(repository) => Some(repository),
        }
    }

    /// The sum of its verified files' lengths, without older roots.
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Notary(repository) => repository.bytes(),
            Self::Tuf(repository) => repository.bytes(),
        }
    }

    /// When the first of root, timestamp, snapshot and `targets` expires.
    pub fn expires(&self) -> Timestamp {
        match self {
            Self::Notary(repository) => repository.expires(),
            Self::Tuf(repository) => repository.expires(),
        }
    }

    /// Whether every role that was wanted could be fetched.
    pub fn is_complete(&self) -> bool {
        match self {
            Self::Notary(repository) => repository.is_complete(),
            Self::Tuf(repository) => repository.is_complete(),
        }
    }

    /// Every role that is loaded, good or bad.
    pub fn roles(&self) -> Vec<RoleInfo> {
        match self {
            Self::Notary(repository) => repository.roles().collect(),
            Self::Tuf(repository) => repository.roles().collect(),
        }
    }

    /// What an admin should know, one sentence each.
    pub fn warnings(&self) -> &[String] {
        match self {
            Self::Notary(repository) => repository.warnings(),
            Self::Tuf(_) => &[],
        }
    }

    /// What was remembered when this was verified.
    pub(super) fn memory(&self) -> &Memory {
        match self {
            Self::Notary(repository) => repository.memory(),
            Self::Tuf(repository) => repository.memory(),
        }
    }

    /// Whether something newer has been verified than this rests on.
    pub fn superseded_by(&self, memory: &Memory) -> bool {
        match self {
            Self::Notary(repository) => repository.superseded_by(memory),
            Self::Tuf(repository) => repository.superseded_by(memory),
        }
    }
}
