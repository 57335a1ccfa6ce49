//! From evidence to decisions: no I/O here.

use countersign_verify::image::Reference;
use countersign_verify::outcome::{
    AuthorityOutcome, Decision, Denial, Effect, Finding, PolicyVerdict, Refusal, Unavailable,
};
use countersign_verify::policy::{Action, Authority, Namespace, Policy, Rule, Selected, Tags};
use jiff::Timestamp;

use super::ask::ask;
use super::evidence::Gathered;
use super::{ImageReview, ImageUse, Request, Subject};
use crate::cluster::Labels;
use crate::message;
use crate::snapshot::Snapshot;

/// A request, and what it is asked of.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The policies and sources.
    pub snapshot: &'a Snapshot,
    /// The request.
    pub request: &'a Request<'a>,
    /// The labels of the namespace that asks; `None` where they are not known.
    pub labels: Option<&'a Labels>,
    /// What happens to images that no `Deny` policy matches.
    pub unmatched: Action,
}

/// Whose evidence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// Of policies that deny.
    Deciding,
    /// Of policies that only warn or audit.
    LookingOn,
}

impl Part {
    fn of(policy: &Policy) -> Self {
        if policy.action == Action::Deny { Self::Deciding } else { Self::LookingOn }
    }
}

/// An image and the policies that speak for it.
pub(super) struct Plan<'a> {
    usage: &'a ImageUse,
    image: Result<(Reference, Vec<Selected<'a>>), Denial>,
}

impl<'a> Plan<'a> {
    /// The image, where some policy of this part wants it verified.
    pub(super) fn to_verify(&self, part: Part) -> Option<&Reference> {
        let (reference, _) = self.image.as_ref().ok()?;
        let verifies = |policy: &Policy| matches!(policy.rule, Rule::Verify { .. });
        self.policies(part).any(verifies).then_some(reference)
    }

    /// Whether no policy's matching hangs on labels that are not known.
    pub(super) fn is_certain(&self) -> bool {
        self.image.iter().flat_map(|(_, selected)| selected).all(|selected| selected.certain)
    }

    /// Every authority that policies of this part ask about the image.
    pub(super) fn authorities(&self, part: Part) -> impl Iterator<Item = &'a Authority> + '_ {
        self.policies(part).flat_map(authorities)
    }

    fn policies(&self, part: Part) -> impl Iterator<Item = &'a Policy> + '_ {
        let selected = self.image.iter().flat_map(|(_, selected)| selected.iter());
        selected.map(|it| it.policy).filter(move |policy| Part::of(policy) == part)
    }
}

pub(super) fn authorities(policy: &Policy) -> &[Authority] {
    match &policy.rule {
        Rule::Verify { authorities, .. } => authorities,
        Rule::AllowUnverified { .. } | Rule::Invalid(_) => &[],
    }
}

impl<'a> Question<'a> {
    fn namespace(&self) -> Namespace<'a> {
        Namespace { name: self.request.namespace, labels: self.labels }
    }

    pub(super) fn plan(&self, usage: &'a ImageUse) -> Plan<'a> {
        let image = match Reference::parse(&usage.image) {
            Ok(reference) => {
                let selected = self.snapshot.policies.select(&reference, self.namespace());
                Ok((reference, selected))
            }
            Err(error) => Err(Denial::InvalidReference {
                image: message::one_line(&usage.image),
                reason: error.to_string(),
            }),
        };
        Plan { usage, image }
    }

    pub(super) fn judge(&self, plan: Plan<'a>, evidence: &Gathered, now: Timestamp) -> ImageReview {
        let usage = plan.usage.clone();
        let (reference, selected) = match plan.image {
            Ok(image) => image,
            Err(denial) => {
                let verdicts = vec![PolicyVerdict::by_installation(Action::Deny, denial)];
                let decision = Decision { reference: None, digest: None, verdicts };
                return ImageReview { usage, decision, pin: None, notes: Vec::new() };
            }
        };
        let mut notes = Vec::new();
        let mut verdicts: Vec<PolicyVerdict> = selected
            .iter()
            .map(|it| self.verdict(it.policy, &reference, evidence, now, &mut notes))
            .collect();
        verdicts.extend(self.own_verdict(&selected));
        let digest = match reference.digest() {
            Some(digest) => Some(digest.clone()),
            None => evidence.digest(&reference).and_then(Result::ok).map(|found| found.digest),
        };
        let decision = Decision { reference: Some(reference), digest, verdicts };
        let pin = pins(&selected, &decision).then(|| decision.digest.clone()).flatten();
        ImageReview { usage, decision, pin, notes }
    }

    /// The installation's verdict, where no `Deny` policy surely speaks for the image.
    fn own_verdict(&self, selected: &[Selected<'_>]) -> Option<PolicyVerdict> {
        let denying = || selected.iter().filter(|it| it.policy.action == Action::Deny);
        if denying().any(|it| it.certain) {
            return None;
        }
        let refusal = if denying().next().is_some() {
            let namespace = self.request.namespace.unwrap_or("-").to_owned();
            Unavailable::NamespaceUnavailable { namespace }.into()
        } else {
            Refusal::from(Denial::NoMatchingPolicy)
        };
        Some(PolicyVerdict::by_installation(self.unmatched, refusal))
    }

    fn verdict(
        &self,
        policy: &Policy,
        reference: &Reference,
        evidence: &Gathered,
        now: Timestamp,
        notes: &mut Vec<String>,
    ) -> PolicyVerdict {
        let part = Part::of(policy);
        let outcomes = authorities(policy)
            .iter()
            .map(|authority| AuthorityOutcome {
                authority: authority.name.clone(),
                outcome: ask(authority, reference, evidence.of(part), now, notes),
            })
            .collect();
        let exception = policy.exception(reference, self.namespace());
        let tag_refused = reference.digest().is_none()
            && match policy.tags {
                Tags::Float => false,
                // Only a policy that denies changes pods, so others do not miss the change.
                Tags::PinDigest => {
                    self.request.subject == Subject::Pod && policy.action == Action::Deny
                }
                Tags::RequireDigest => true,
            };
        policy.judge(outcomes, tag_refused, exception, now)
    }
}

/// Whether a pod's tag is to be fixed to the decision's digest: it verified under a policy that
/// pins, and nothing refuses it. Where an author has to write the digest we do not do it for them.
/// Policies that only warn or audit neither change a pod nor keep it from being changed.
fn pins(selected: &[Selected<'_>], decision: &Decision) -> bool {
    let named_by_tag =
        decision.reference.as_ref().is_some_and(|reference| reference.digest().is_none());
    let mut denying = selected
        .iter()
        .zip(&decision.verdicts)
        .filter(|(it, _)| it.policy.action == Action::Deny)
        .map(|(it, verdict)| (it.policy.tags, verdict.finding == Finding::Verified));
    let verified_by_a_pinning_policy =
        denying.clone().any(|(tags, verified)| tags == Tags::PinDigest && verified);
    named_by_tag
        && verified_by_a_pinning_policy
        && !denying.any(|(tags, _)| tags == Tags::RequireDigest)
        && decision.effect() != Effect::Deny
}

#[cfg(test)]
mod tests {
    use countersign_verify::image::Digest;
    use countersign_verify::policy::NamespaceSelector;

    use super::*;

    fn policy(action: Action, tags: Tags) -> Policy {
        Policy {
            name: "p".to_owned(),
            include: Vec::new(),
            exclude: Vec::new(),
            namespaces: NamespaceSelector::default(),
            action,
            tags,
            rule: Rule::Verify { min_authorities: 1, authorities: Vec::new() },
            exceptions: Vec::new(),
            disclose: false,
            help: None,
        }
    }

    fn pinned(image: &str, policies: &[(Action, Tags, Finding)]) -> bool {
        let compiled: Vec<Policy> =
            policies.iter().map(|(action, tags, _)| policy(*action, *tags)).collect();
        let selected: Vec<Selected<'_>> =
            compiled.iter().map(|policy| Selected { policy, certain: true }).collect();
        let verdict = |(action, _, finding): &(Action, Tags, Finding)| PolicyVerdict {
            finding: finding.clone(),
            ..PolicyVerdict::by_installation(*action, Denial::NoMatchingPolicy)
        };
        let decision = Decision {
            reference: Reference::parse(image).ok(),
            digest: Some(Digest::sha256(b"")),
            verdicts: policies.iter().map(verdict).collect(),
        };
        pins(&selected, &decision)
    }

    #[test]
    fn only_policies_that_deny_pin_tags_or_ask_authors_for_digests() {
        let deny = |tags| (Action::Deny, tags, Finding::Verified);
        let audit = |tags| (Action::Audit, tags, Finding::Verified);
        let refused =
            (Action::Deny, Tags::PinDigest, Finding::Refused(Denial::NoMatchingPolicy.into()));
        let table = [
            (vec![deny(Tags::PinDigest)], true),
            (vec![deny(Tags::Float)], false),
            (vec![deny(Tags::RequireDigest)], false),
            (vec![deny(Tags::PinDigest), deny(Tags::RequireDigest)], false),
            (vec![deny(Tags::PinDigest), audit(Tags::RequireDigest)], true),
            (vec![deny(Tags::Float), audit(Tags::PinDigest)], false),
            (vec![audit(Tags::PinDigest)], false),
            (vec![deny(Tags::PinDigest), refused], false),
        ];
        for (policies, wanted) in table {
            assert_eq!(pinned("example.com/app:1", &policies), wanted, "{policies:?}");
        }
        let by_digest = format!("example.com/app:1@{}", Digest::sha256(b""));
        assert!(!pinned(&by_digest, &[deny(Tags::PinDigest)]));
    }
}
