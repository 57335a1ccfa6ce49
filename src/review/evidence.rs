//! What a review's verdicts rest on, gathered side by side before any of them is made.

use std::collections::BTreeSet;
use std::sync::Arc;

use countersign_verify::image::Reference;
use countersign_verify::notary::Repository;
use countersign_verify::outcome::{Refusal, Unavailable};
use countersign_verify::policy::Authority;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};

use super::judge::{self, Plan, named_roles};
use super::{ImageReview, Reviewer};
use crate::metadata::Live;
use crate::registry::Resolved;
use crate::snapshot::Snapshot;

type Found = Result<Resolved, Unavailable>;
type Verified = Result<Arc<Repository>, Refusal>;

/// The digests that tags resolve to, and the repositories' verified metadata. A handful of
/// entries: searched in order.
#[derive(Default)]
pub(super) struct Evidence {
    digests: Vec<(Reference, Found)>,
    repositories: Vec<(String, String, Verified)>,
}

impl Evidence {
    /// What a tag resolves to; `None` where nobody asked.
    pub(super) fn digest(&self, reference: &Reference) -> Option<Found> {
        self.digests.iter().find(|(asked, _)| asked == reference).map(|(_, found)| found.clone())
    }

    /// A repository's metadata in a source; `None` where there is no such source.
    pub(super) fn repository(&self, source: &str, name: &str) -> Option<Verified> {
        self.repositories
            .iter()
            .find(|(asked, repository, _)| asked == source && repository == name)
            .map(|(_, _, verified)| verified.clone())
    }
}

impl Reviewer {
    /// Takes what is at hand, and fetches the rest side by side inside the deadline.
    pub(super) async fn gather(
        &self,
        snapshot: &Snapshot,
        plans: &[Plan<'_>],
        deadline: Instant,
    ) -> Evidence {
        let mut evidence = Evidence::default();
        let mut tags = Vec::new();
        let mut repositories = Vec::new();
        for (plan, reference) in
            plans.iter().filter_map(|plan| plan.to_verify().map(|reference| (plan, reference)))
        {
            if reference.digest().is_none() && !tags.contains(&reference) {
                match self.registry.cached(reference, &snapshot.registries) {
                    Some(found) => evidence.digests.push((reference.clone(), found)),
                    None => tags.push(reference),
                }
            }
            for live in lives(snapshot, plan.authorities(), reference) {
                match self.repositories.current(&live) {
                    Some(current) => evidence.hold(&live, Ok(current)),
                    None if repositories.iter().any(|asked: &Live| asked.same(&live)) => {}
                    None => repositories.push(live),
                }
            }
        }
        if tags.is_empty() && repositories.is_empty() {
            return evidence;
        }
        let (digests, verified) = tokio::join!(
            join_all(tags.iter().map(|tag| self.resolve(tag, snapshot, deadline))),
            join_all(repositories.iter().map(|live| self.verified(live, deadline))),
        );
        evidence.digests.extend(tags.into_iter().cloned().zip(digests));
        for (live, verified) in repositories.iter().zip(verified) {
            evidence.hold(live, verified);
        }
        evidence
    }

    async fn resolve(&self, tag: &Reference, snapshot: &Snapshot, deadline: Instant) -> Found {
        let resolved = self.registry.resolve(tag, &snapshot.registries, deadline);
        timeout_at(deadline, resolved).await.unwrap_or(Err(Unavailable::DeadlineExceeded))
    }

    async fn verified(&self, live: &Live, deadline: Instant) -> Verified {
        let updated = self.repositories.update(live);
        timeout_at(deadline, updated)
            .await
            .unwrap_or_else(|_| Err(Unavailable::DeadlineExceeded.into()))
    }
}

impl Reviewer {
    /// The metadata at hand that a review rested on, for telling it.
    pub fn evidence_at_hand(&self, review: &ImageReview) -> Vec<(Live, Arc<Repository>)> {
        let snapshot = self.snapshot();
        let Some(reference) = &review.decision.reference else { return Vec::new() };
        let names: BTreeSet<&str> =
            review.decision.verdicts.iter().filter_map(|v| v.policy.as_deref()).collect();
        let policies = snapshot.policies.policies().iter();
        let asked = policies.filter(|policy| names.contains(policy.name.as_str()));
        lives(&snapshot, asked.flat_map(judge::authorities), reference)
            .into_iter()
            .filter_map(|live| Some((live.clone(), self.repositories.current(&live)?)))
            .collect()
    }
}

impl Evidence {
    fn hold(&mut self, live: &Live, verified: Verified) {
        if self.repository(&live.source.name, &live.repository).is_none() {
            self.repositories.push((live.source.name.clone(), live.repository.clone(), verified));
        }
    }
}

/// The repositories that authorities read, one a source, with all roles that any of them names.
fn lives<'a>(
    snapshot: &Snapshot,
    authorities: impl Iterator<Item = &'a Authority>,
    reference: &Reference,
) -> Vec<Live> {
    let mut lives: Vec<Live> = Vec::new();
    for authority in authorities {
        let Some(source) = snapshot.sources.get(&authority.source) else { continue };
        let roles = named_roles(authority).iter().cloned();
        match lives.iter_mut().find(|live| live.source.name == source.name) {
            Some(live) => live.roles.extend(roles),
            None => lives.push(Live {
                source: Arc::clone(source),
                repository: reference.name().to_owned(),
                roles: BTreeSet::from_iter(roles),
            }),
        }
    }
    lives
}
