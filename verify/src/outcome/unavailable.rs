//! The lack of evidence.

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
        /// It is not this repository alone: the server, or the way to it, failed.
        is_away: bool,
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
    /// What is known of the namespace does not tell which policies speak for it.
    #[error("the labels of namespace {namespace} are not known, and a TrustPolicy asks for them")]
    NamespaceUnavailable {
        /// The namespace's name; `-` where the request has none.
        namespace: String,
    },
    /// The policies that are known may not be those that hold: what the API server has could not
    /// be read, or nothing was heard of it for too long.
    #[error("the TrustPolicies that hold now are not known")]
    PoliciesUnavailable {
        /// What is not known.
        cause: String,
    },
    /// The review's time was over.
    #[error("not answered within the review's deadline")]
    DeadlineExceeded,
    /// Too much is waiting already, or there is no room for what is to be read.
    #[error("too much is under way or waiting; try again")]
    Overloaded,
}

impl Unavailable {
    /// What happened, where more is known than users are told.
    pub fn cause(&self) -> Option<&str> {
        match self {
            Self::RegistryUnavailable { cause, .. }
            | Self::SourceUnavailable { cause, .. }
            | Self::PoliciesUnavailable { cause } => Some(cause),
            _ => None,
        }
    }

    /// The stable code: the variant's name.
    pub fn code(&self) -> &'static str {
        match self {
            Self::RegistryUnavailable { .. } => "RegistryUnavailable",
            Self::RegistryNotAllowed { .. } => "RegistryNotAllowed",
            Self::SourceUnavailable { .. } => "SourceUnavailable",
            Self::SourceStale { .. } => "SourceStale",
            Self::CredentialsUnavailable { .. } => "CredentialsUnavailable",
            Self::NamespaceUnavailable { .. } => "NamespaceUnavailable",
            Self::PoliciesUnavailable { .. } => "PoliciesUnavailable",
            Self::DeadlineExceeded => "DeadlineExceeded",
            Self::Overloaded => "Overloaded",
        }
    }
}
