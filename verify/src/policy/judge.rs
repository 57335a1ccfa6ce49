//! What a policy makes of its authorities' outcomes.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::{Exception, Policy, Rule};
use crate::outcome::{
    AuthorityOutcome, Denial, Finding, KeyFingerprint, PolicyVerdict, Proof, Refusal,
};

/// The largest number of proofs of which no two share a key: authorities that rest on one key are
/// one authority, however many names it has.
pub fn independent(proofs: &[&Proof]) -> usize {
    let keys: Vec<&BTreeSet<KeyFingerprint>> = proofs.iter().map(|proof| proof.keys()).collect();
    largest_disjoint(&keys, &mut Vec::new())
}

// At most 2^AUTHORITIES steps, and in practice one per authority.
fn largest_disjoint<'k>(
    rest: &[&'k BTreeSet<KeyFingerprint>],
    chosen: &mut Vec<&'k BTreeSet<KeyFingerprint>>,
) -> usize {
    let Some((first, rest)) = rest.split_first() else {
        return chosen.len();
    };
    if chosen.iter().any(|keys| !keys.is_disjoint(first)) {
        return largest_disjoint(rest, chosen);
    }
    chosen.push(first);
    let with = largest_disjoint(rest, chosen);
    chosen.pop();
    if rest.iter().all(|keys| keys.is_disjoint(first)) {
        return with;
    }
    with.max(largest_disjoint(rest, chosen))
}

impl Policy {
    /// The verdict, from what each authority of the policy said, in the policy's order.
    /// `tag_refused` says that the image is named by tag where [`Policy::tags`] wants a digest;
    /// `exception` is the one that covers the image, whether or not it is over.
    pub fn judge(
        &self,
        authorities: Vec<AuthorityOutcome>,
        tag_refused: bool,
        exception: Option<&Exception>,
        now: Timestamp,
    ) -> PolicyVerdict {
        let finding = match &self.rule {
            Rule::AllowUnverified { reason } => {
                Finding::AllowedUnverified { reason: reason.clone() }
            }
            Rule::Invalid(denial) => Finding::Refused(denial.clone().into()),
            Rule::Verify { min_authorities, .. } => match shortfall(*min_authorities, &authorities)
            {
                None if tag_refused => Finding::Refused(Denial::NotPinned.into()),
                None => Finding::Verified,
                Some(refusal) => excuse(refusal, exception, now),
            },
        };
        PolicyVerdict {
            policy: Some(self.name.clone()),
            action: self.action,
            finding,
            authorities,
            disclose: self.disclose,
            help: self.help.clone(),
        }
    }
}

/// Why the outcomes are not enough; `None` where they are.
fn shortfall(min_authorities: usize, authorities: &[AuthorityOutcome]) -> Option<Refusal> {
    let outcomes = || authorities.iter().map(|authority| &authority.outcome);
    let proofs: Vec<&Proof> = outcomes().flatten().collect();
    let signed = independent(&proofs);
    // No success over an empty set.
    let wanted = min_authorities.max(1);
    if signed >= wanted {
        return None;
    }
    let refusals = || outcomes().filter_map(|outcome| outcome.as_ref().err());
    let unavailable = || refusals().filter(|refusal| matches!(refusal, Refusal::Unavailable(_)));
    let denied = || refusals().filter(|refusal| matches!(refusal, Refusal::Denied(_)));
    // "Could not be had" only where what could not be had might have been enough.
    let missing = wanted - signed;
    let first =
        if unavailable().count() >= missing { unavailable().next() } else { denied().next() };
    Some(first.cloned().unwrap_or_else(|| {
        Denial::ThresholdNotMet {
            role: "the policy".to_owned(),
            found: signed,
            wanted: wanted as u64,
        }
        .into()
    }))
}

fn excuse(refusal: Refusal, exception: Option<&Exception>, now: Timestamp) -> Finding {
    match exception {
        Some(exception) if now < exception.expires => Finding::Excepted {
            exception: exception.name.clone(),
            expires: exception.expires,
            refusal,
        },
        Some(exception) if matches!(refusal, Refusal::Denied(_)) => Finding::Refused(
            Denial::ExceptionExpired {
                exception: exception.name.clone(),
                expired: exception.expires,
            }
            .into(),
        ),
        _ => Finding::Refused(refusal),
    }
}
