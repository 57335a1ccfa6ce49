//! From evidence to decisions: no I/O here.

use countersign_verify::image::Reference;
use countersign_verify::notary::{Lookup, Wanted};
use countersign_verify::outcome::{
    AuthorityOutcome, Decision, Denial, Effect, Finding, PolicyVerdict, Proof, Refusal, Unavailable,
};
use countersign_verify::policy::{Action, Authority, Namespace, Policy, Rule, Tags};
use jiff::Timestamp;

use super::evidence::Evidence;
use super::{ImageReview, ImageUse, Request, Subject};
use crate::message;
use crate::snapshot::Snapshot;

/// A request, and what it is asked of.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The policies and sources.
    pub snapshot: &'a Snapshot,
    /// The request.
    pub request: &'a Request<'a>,
    /// What happens to images that no `Deny` policy matches.
    pub unmatched: Action,
}

/// An image and the policies that speak for it.
pub(super) struct Plan<'a> {
    usage: &'a ImageUse,
    image: Result<(Reference, Vec<&'a Policy>), Denial>,
}

impl<'a> Plan<'a> {
    /// The image, where some policy wants it verified.
    pub(super) fn to_verify(&self) -> Option<&Reference> {
        let (reference, policies) = self.image.as_ref().ok()?;
        policies
            .iter()
            .any(|policy| matches!(policy.rule, Rule::Verify { .. }))
            .then_some(reference)
    }

    /// Every authority that is asked about the image.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &'a Authority> + '_ {
        self.image
            .iter()
            .flat_map(|(_, policies)| policies.iter())
            .flat_map(|policy| authorities(policy))
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
        Namespace { name: self.request.namespace, labels: None }
    }

    pub(super) fn plan(&self, usage: &'a ImageUse) -> Plan<'a> {
        let image = match Reference::parse(&usage.image) {
            Ok(reference) => {
                let policies = self.snapshot.policies.select(&reference, self.namespace());
                Ok((reference, policies))
            }
            Err(error) => Err(Denial::InvalidReference {
                image: message::one_line(&usage.image),
                reason: error.to_string(),
            }),
        };
        Plan { usage, image }
    }

    pub(super) fn judge(&self, plan: Plan<'a>, evidence: &Evidence, now: Timestamp) -> ImageReview {
        let usage = plan.usage.clone();
        let (reference, policies) = match plan.image {
            Ok(image) => image,
            Err(denial) => {
                let verdicts = vec![PolicyVerdict::by_installation(Action::Deny, denial)];
                let decision = Decision { reference: None, digest: None, verdicts };
                return ImageReview { usage, decision, pin: None, notes: Vec::new() };
            }
        };
        let mut notes = Vec::new();
        let mut verdicts: Vec<PolicyVerdict> = policies
            .iter()
            .map(|policy| self.verdict(policy, &reference, evidence, now, &mut notes))
            .collect();
        if !policies.iter().any(|policy| policy.action == Action::Deny) {
            verdicts.push(PolicyVerdict::by_installation(self.unmatched, Denial::NoMatchingPolicy));
        }
        let digest = match reference.digest() {
            Some(digest) => Some(digest.clone()),
            None => evidence.digest(&reference).and_then(Result::ok).map(|found| found.digest),
        };
        let decision = Decision { reference: Some(reference), digest, verdicts };
        let pin = pins(&policies, &decision).then(|| decision.digest.clone()).flatten();
        ImageReview { usage, decision, pin, notes }
    }

    fn verdict(
        &self,
        policy: &Policy,
        reference: &Reference,
        evidence: &Evidence,
        now: Timestamp,
        notes: &mut Vec<String>,
    ) -> PolicyVerdict {
        let outcomes = authorities(policy)
            .iter()
            .map(|authority| AuthorityOutcome {
                authority: authority.name.clone(),
                outcome: ask(authority, reference, evidence, now, notes),
            })
            .collect();
        let exception = policy.exception(reference, self.namespace());
        let tag_refused = reference.digest().is_none()
            && match policy.tags {
                Tags::Float => false,
                Tags::PinDigest => self.request.subject == Subject::Pod,
                Tags::RequireDigest => true,
            };
        policy.judge(outcomes, tag_refused, exception, now)
    }
}

/// Whether a pod's tag is to be fixed to the decision's digest: it verified under a policy that
/// pins, and nothing refuses it. Where an author has to write the digest we do not do it for them.
fn pins(policies: &[&Policy], decision: &Decision) -> bool {
    let named_by_tag =
        decision.reference.as_ref().is_some_and(|reference| reference.digest().is_none());
    let verified_by_a_pinning_policy =
        policies.iter().zip(&decision.verdicts).any(|(policy, verdict)| {
            policy.tags == Tags::PinDigest && verdict.finding == Finding::Verified
        });
    named_by_tag
        && verified_by_a_pinning_policy
        && !policies.iter().any(|policy| policy.tags == Tags::RequireDigest)
        && decision.effect() != Effect::Deny
}

fn ask(
    authority: &Authority,
    reference: &Reference,
    evidence: &Evidence,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Result<Proof, Refusal> {
    authority.pins.as_ref().map_err(|denial| denial.clone())?;
    let repository = evidence
        .repository(&authority.source, reference.name())
        .ok_or_else(|| Denial::SourceNotFound { source_name: authority.source.clone() })??;
    let find = |wanted: Wanted<'_>| repository.find(&authority.lookup, wanted, now);
    match (reference.digest(), reference.tag()) {
        (Some(digest), tag) => {
            let proof = find(Wanted::Digest { digest })?;
            if let Some(tag) = tag
                && find(Wanted::Tag { tag, digest, size: None }).is_err()
            {
                notes.push(format!(
                    "the digest counts: tag \"{tag}\" is not signed for it by {}",
                    authority.name
                ));
            }
            Ok(proof)
        }
        (None, Some(tag)) => {
            let found = evidence.digest(reference).unwrap_or_else(|| {
                Err(Unavailable::RegistryNotAllowed { registry: reference.registry().to_owned() })
            })?;
            find(Wanted::Tag { tag, digest: &found.digest, size: found.size })
        }
        (None, None) => Err(Denial::InvalidReference {
            image: reference.to_string(),
            reason: "it has neither a tag nor a digest".to_owned(),
        }
        .into()),
    }
}

/// The roles below `targets` that an authority asks for by name, so that they can be fetched with
/// the first files rather than after them.
pub(super) fn named_roles(authority: &Authority) -> &[String] {
    match &authority.lookup {
        Lookup::Docker => &[],
        Lookup::RequireRoles(roles) => roles,
    }
}
