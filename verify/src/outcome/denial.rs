//! Denials: the evidence says no.

use jiff::Timestamp;

use super::KeyFingerprint;

/// The evidence says no. A variant's name is its stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No accepted role has signed this tag or digest.
    #[error("{wanted} is not signed in {}", .looked_in.join(" or "))]
    Unsigned {
        /// `tag "1.4"` or `digest sha256:...`.
        wanted: String,
        /// The roles that could have signed it; where the signer wrote their names, at most
        /// [`crate::limits::LISTED`], and how many more.
        looked_in: Vec<String>,
    },
    /// A signature exists, in a role that the authority does not accept.
    #[error("{wanted} is signed only by {role}, which this authority does not accept")]
    UntrustedSigner {
        /// `tag "1.4"` or `digest sha256:...`.
        wanted: String,
        /// The role found.
        role: String,
    },
    /// The tag is signed for another digest, or another size.
    #[error(
        "tag \"{name}\" is signed in {role} for another image: {found} was found, not the signed {signed}"
    )]
    DigestMismatch {
        /// The role that signed the tag.
        role: String,
        /// The tag.
        name: String,
        /// What was signed: a digest, or a size in bytes.
        signed: String,
        /// What the registry or the reference named.
        found: String,
    },
    /// Fewer valid signatures than the role asks for.
    #[error("{role} has {found} of {wanted} signatures that it needs")]
    ThresholdNotMet {
        /// The role.
        role: String,
        /// Distinct keys with a valid signature.
        found: usize,
        /// The role's threshold.
        wanted: u64,
    },
    /// A file of the chain is past its expiry.
    #[error("{role} expired at {expired} (this machine's clock says {now})")]
    Expired {
        /// The role.
        role: String,
        /// Its expiry.
        expired: Timestamp,
        /// The time it was checked at.
        now: Timestamp,
    },
    /// A file is older than one already seen, or is gone.
    #[error("{role} went back to version {found}; version {remembered} was seen before")]
    Rollback {
        /// The role.
        role: String,
        /// The version found; 0 where the role is gone.
        found: u64,
        /// The highest version seen.
        remembered: u64,
    },
    /// A required role is not delegated to, or not for this name.
    #[error("{role} is not delegated to for {wanted}")]
    NotDelegated {
        /// The role.
        role: String,
        /// `tag "1.4"` or `digest sha256:...`.
        wanted: String,
    },
    /// No pin covers the repository, or no chain leads from the pinned keys to the root.
    #[error("{}", root_not_pinned(.repository, .pin.as_deref()))]
    RootNotPinned {
        /// The repository.
        repository: String,
        /// The pin that speaks for it; `None` where there is none.
        pin: Option<String>,
        /// The root keys found, at most [`crate::limits::LISTED`].
        found: Vec<KeyFingerprint>,
        /// How many more there are.
        more: usize,
    },
    /// A pod names a tag where the policy wants a digest.
    #[error("the image is named by tag; this policy wants a digest")]
    NotPinned,
    /// Metadata that breaks its format.
    #[error("{file} cannot be trusted: {reason}")]
    MalformedMetadata {
        /// The file, as `root`, `targets/releases`.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A bound of [`crate::limits`] was passed.
    #[error("{what} is over the limit of {limit}")]
    LimitExceeded {
        /// What was too large, with its unit.
        what: String,
        /// The bound.
        limit: u64,
    },
    /// No policy matches, and the installation denies such images.
    #[error("no TrustPolicy matches this image")]
    NoMatchingPolicy,
    /// The policy names a TrustSource that does not exist.
    #[error("TrustSource \"{source_name}\" does not exist")]
    SourceNotFound {
        /// The name in the policy.
        source_name: String,
    },
    /// The policy, or a source that it names, cannot be read.
    #[error("{field}: {reason}")]
    InvalidPolicy {
        /// The field's path.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image string is not a reference.
    #[error("\"{image}\" is not an image reference: {reason}")]
    InvalidReference {
        /// The string.
        image: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An exception matches, but its time is over, and the image does not verify.
    #[error("exception \"{exception}\" expired at {expired}")]
    ExceptionExpired {
        /// The exception's name.
        exception: String,
        /// When it ended.
        expired: Timestamp,
    },
}

fn root_not_pinned(repository: &str, pin: Option<&str>) -> String {
    match pin {
        None => format!("no pin covers {repository}"),
        Some(pin) => format!("the root of {repository} is not signed as pin \"{pin}\" demands"),
    }
}

impl Denial {
    /// The stable code: the variant's name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsigned { .. } => "Unsigned",
            Self::UntrustedSigner { .. } => "UntrustedSigner",
            Self::DigestMismatch { .. } => "DigestMismatch",
            Self::ThresholdNotMet { .. } => "ThresholdNotMet",
            Self::Expired { .. } => "Expired",
            Self::Rollback { .. } => "Rollback",
            Self::NotDelegated { .. } => "NotDelegated",
            Self::RootNotPinned { .. } => "RootNotPinned",
            Self::NotPinned => "NotPinned",
            Self::MalformedMetadata { .. } => "MalformedMetadata",
            Self::LimitExceeded { .. } => "LimitExceeded",
            Self::NoMatchingPolicy => "NoMatchingPolicy",
            Self::SourceNotFound { .. } => "SourceNotFound",
            Self::InvalidPolicy { .. } => "InvalidPolicy",
            Self::InvalidReference { .. } => "InvalidReference",
            Self::ExceptionExpired { .. } => "ExceptionExpired",
        }
    }
}
