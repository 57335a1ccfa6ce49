//! What verification ends in: a [`Proof`], a [`Denial`] or [`Unavailable`], and what the policies
//! make of them, a [`Decision`].

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::image::{Digest, Reference};
use crate::policy::Action;

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

/// The evidence says no. A variant's name is its stable code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// No accepted role has signed this tag or digest.
    #[error("{wanted} is not signed in {}", .looked_in.join(" or "))]
    Unsigned {
        /// `tag "1.4"` or `digest sha256:...`.
        wanted: String,
        /// The roles that could have signed it.
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
        /// The root keys found.
        found: Vec<KeyFingerprint>,
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

/// No evidence could be had. A variant's name is its stable code. `cause` is for logs, never for
/// users: it may tell what a caller has no right to know.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The registry did not tell the tag's digest.
    #[error(
        "registry {registry} gave no digest for this tag (it does not exist, is not readable, or the registry is unreachable)"
    )]
    RegistryUnavailable {
        /// The registry's host.
        registry: String,
        /// What happened.
        cause: String,
    },
    /// Neither a policy nor the configuration names this registry.
    #[error("registry {registry} is not contacted: no policy names it literally")]
    RegistryNotAllowed {
        /// The registry's host.
        registry: String,
    },
    /// The trust source could not be read.
    #[error("TrustSource \"{source_name}\" could not be read")]
    SourceUnavailable {
        /// The source's name.
        source_name: String,
        /// What happened.
        cause: String,
    },
    /// The source has not been read completely for too long.
    #[error("TrustSource \"{source_name}\" was last read completely {age_seconds} s ago")]
    SourceStale {
        /// The source's name.
        source_name: String,
        /// Seconds since its last complete update.
        age_seconds: u64,
    },
    /// Credentials that are configured could not be read.
    #[error("credentials could not be read: {what}")]
    CredentialsUnavailable {
        /// What was tried.
        what: String,
    },
    /// The review's time was over.
    #[error("not answered within the review's deadline")]
    DeadlineExceeded,
    /// Too much is waiting already.
    #[error("too many reviews are waiting; try again")]
    Overloaded,
}

impl Unavailable {
    /// The stable code: the variant's name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RegistryUnavailable { .. } => "RegistryUnavailable",
            Self::RegistryNotAllowed { .. } => "RegistryNotAllowed",
            Self::SourceUnavailable { .. } => "SourceUnavailable",
            Self::SourceStale { .. } => "SourceStale",
            Self::CredentialsUnavailable { .. } => "CredentialsUnavailable",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Overloaded => "Overloaded",
        }
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

/// What one authority said of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityOutcome {
    /// The authority's name in its policy.
    pub authority: String,
    /// Its proof, or why there is none.
    pub outcome: Result<Proof, Refusal>,
}

/// What one policy makes of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// Enough independent authorities have signed it.
    Verified,
    /// The policy lets it in without a signature.
    AllowedUnverified {
        /// The policy's reason.
        reason: String,
    },
    /// It does not verify, but a current exception covers it.
    Excepted {
        /// The exception's name.
        exception: String,
        /// When the exception ends.
        expires: Timestamp,
        /// What it would have been refused for.
        refusal: Refusal,
    },
    /// The policy is not satisfied.
    Refused(Refusal),
}

/// One policy's finding, with what its authorities said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyVerdict {
    /// The policy's name; `None` for the installation's setting for images that no `Deny`
    /// policy matches.
    pub policy: Option<String>,
    /// What a refusal means.
    pub action: Action,
    /// What the policy makes of the image.
    pub finding: Finding,
    /// Each authority's outcome, in the policy's order; empty where none was asked.
    pub authorities: Vec<AuthorityOutcome>,
    /// Whether a rejection may name other tags, digests and key ids.
    pub disclose: bool,
    /// Where the developer finds help.
    pub help: Option<String>,
}

impl PolicyVerdict {
    /// A refusal by the installation itself rather than by a policy.
    pub fn by_installation(action: Action, refusal: impl Into<Refusal>) -> Self {
        Self {
            policy: None,
            action,
            finding: Finding::Refused(refusal.into()),
            authorities: Vec::new(),
            disclose: false,
            help: None,
        }
    }

    /// The refusal, if the policy is not satisfied.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.finding {
            Finding::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }
}

/// What happens to the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effect {
    /// Nothing.
    Allow,
    /// It is let in, with a warning.
    Warn,
    /// It is refused.
    Deny,
}

/// Every matching policy's verdict on one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The image as read; `None` where it is no reference.
    pub reference: Option<Reference>,
    /// The digest that the verdicts are about, where one is known.
    pub digest: Option<Digest>,
    /// Never empty: the installation's setting is a verdict too.
    pub verdicts: Vec<PolicyVerdict>,
}

impl Decision {
    /// The strictest effect of all verdicts; no verdict lifts another's.
    pub fn effect(&self) -> Effect {
        if self.verdicts.is_empty() {
            return Effect::Deny;
        }
        let effect = |verdict: &PolicyVerdict| match (&verdict.finding, verdict.action) {
            (Finding::Refused(_), Action::Deny) => Effect::Deny,
            (Finding::Refused(_), Action::Warn) | (Finding::Excepted { .. }, _) => Effect::Warn,
            _ => Effect::Allow,
        };
        self.verdicts.iter().map(effect).max().unwrap_or(Effect::Deny)
    }

    /// The verdicts that make the effect [`Effect::Deny`], with their refusals.
    pub fn denying(&self) -> impl Iterator<Item = (&PolicyVerdict, &Refusal)> {
        self.verdicts
            .iter()
            .filter(|verdict| verdict.action == Action::Deny)
            .filter_map(|verdict| Some((verdict, verdict.refusal()?)))
    }

    /// Whether the image is denied only because evidence could not be had.
    pub fn denied_for_want_of_evidence(&self) -> bool {
        let mut denying = self.denying().map(|(_, refusal)| refusal).peekable();
        denying.peek().is_some()
            && denying.all(|refusal| matches!(refusal, Refusal::Unavailable(_)))
    }
}

#[cfg(test)]
mod tests;
