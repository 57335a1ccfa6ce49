//! What the policies make of an image.

use jiff::Timestamp;

use super::{Proof, Refusal};
use crate::image::{Digest, Reference};
use crate::policy::Action;

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

    /// What it comes to on its own.
    pub fn effect(&self) -> Effect {
        match (&self.finding, self.action) {
            (Finding::Refused(_), Action::Deny) => Effect::Deny,
            (Finding::Refused(_), Action::Warn) | (Finding::Excepted { .. }, _) => Effect::Warn,
            _ => Effect::Allow,
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
        self.verdicts.iter().map(PolicyVerdict::effect).max().unwrap_or(Effect::Deny)
    }

    /// The verdicts that make this effect, with what each refuses the image for, or would if no
    /// exception covered it. Nothing makes [`Effect::Allow`] but the lack of these.
    pub fn making(&self, effect: Effect) -> impl Iterator<Item = (&PolicyVerdict, &Refusal)> {
        let making =
            move |verdict: &&PolicyVerdict| effect != Effect::Allow && verdict.effect() == effect;
        self.verdicts.iter().filter(making).filter_map(|verdict| match &verdict.finding {
            Finding::Refused(refusal) | Finding::Excepted { refusal, .. } => {
                Some((verdict, refusal))
            }
            Finding::Verified | Finding::AllowedUnverified { .. } => None,
        })
    }

    /// The verdicts that make the effect [`Effect::Deny`], with their refusals.
    pub fn denying(&self) -> impl Iterator<Item = (&PolicyVerdict, &Refusal)> {
        self.making(Effect::Deny)
    }

    /// Whether the image is denied only because evidence could not be had.
    pub fn denied_for_want_of_evidence(&self) -> bool {
        let mut denying = self.denying().map(|(_, refusal)| refusal).peekable();
        denying.peek().is_some()
            && denying.all(|refusal| matches!(refusal, Refusal::Unavailable(_)))
    }
}
