//! What a review's verdicts rest on, gathered side by side before any of them is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use countersign_verify::image::Reference;
use countersign_verify::notary::Repository;
use countersign_verify::outcome::{Refusal, Unavailable};
use countersign_verify::policy::Authority;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::judge::{self, Plan, named_roles};
use super::{ImageReview, Request, Reviewer};
use crate::http::Basic;
use crate::metadata::Live;
use crate::registry::{Resolved, without_contact};
use crate::snapshot::Snapshot;
use crate::telemetry::SPANS;

type Found = Result<Resolved, Unavailable>;
/// The credentials of who asks; none where the installation's count.
type Own = Result<Option<Basic>, Unavailable>;
type Verified = Result<Arc<Repository>, Refusal>;

/// The digests that tags resolve to, and the repositories' verified metadata. Trees, for most
/// reviews have one image: a tree of one entry costs no more than a list.
#[derive(Default)]
pub(super) struct Evidence {
    digests: BTreeMap<Reference, Found>,
    /// By source and repository.
    repositories: BTreeMap<String, BTreeMap<String, Verified>>,
}

impl Evidence {
    /// What a tag resolves to; `None` where nobody asked.
    pub(super) fn digest(&self, reference: &Reference) -> Option<Found> {
        self.digests.get(reference).cloned()
    }

    /// A repository's metadata in a source; `None` where there is no such source.
    pub(super) fn repository(&self, source: &str, name: &str) -> Option<Verified> {
        self.repositories.get(source)?.get(name).cloned()
    }

    fn holds(&self, live: &Live) -> bool {
        let repositories = self.repositories.get(&live.source.name);
        repositories.is_some_and(|repositories| repositories.contains_key(&live.repository))
    }

    fn hold(&mut self, live: &Live, verified: Verified) {
        let source = self.repositories.entry(live.source.name.clone()).or_default();
        source.insert(live.repository.clone(), verified);
    }
}

impl Reviewer {
    /// Takes what is at hand, and fetches the rest side by side inside the deadline.
    pub(super) async fn gather(
        &self,
        snapshot: &Snapshot,
        plans: &[Plan<'_>],
        request: &Request<'_>,
    ) -> Evidence {
        let mut evidence = Evidence::default();
        let mut tags = BTreeSet::new();
        let mut repositories = BTreeMap::new();
        let mut known = BTreeMap::new();
        for (plan, reference) in
            plans.iter().filter_map(|plan| plan.to_verify().map(|reference| (plan, reference)))
        {
            if reference.digest().is_none() && !evidence.digests.contains_key(reference) {
                match self.at_hand(snapshot, request, reference, &mut known) {
                    Some(found) => drop(evidence.digests.insert(reference.clone(), found)),
                    None => drop(tags.insert(reference)),
                }
            }
            for live in lives(snapshot, plan.authorities(), reference) {
                if evidence.holds(&live) {
                    continue;
                }
                match self.repositories.current(&live) {
                    Some(current) => evidence.hold(&live, Ok(current)),
                    // Sources of different names answer each for itself, though they be the same.
                    None => {
                        let key = (live.source.name.clone(), live.repository.clone());
                        repositories.entry(key).or_insert(live);
                    }
                }
            }
        }
        if tags.is_empty() && repositories.is_empty() {
            return evidence;
        }
        let span = tracing::info_span!(
            target: SPANS,
            "gather",
            tags = tags.len(),
            repositories = repositories.len(),
        );
        let gathering = async {
            tokio::join!(
                self.resolved(snapshot, request, &tags),
                join_all(repositories.values().map(|live| self.verified(live, request.deadline))),
            )
        };
        let (digests, verified) = gathering.instrument(span).await;
        evidence.digests.extend(tags.into_iter().cloned().zip(digests));
        for (live, verified) in repositories.values().zip(verified) {
            evidence.hold(live, verified);
        }
        evidence
    }

    /// What a tag resolves to, where nobody has to be asked.
    fn at_hand<'r>(
        &self,
        snapshot: &Snapshot,
        request: &Request<'_>,
        image: &'r Reference,
        known: &mut BTreeMap<&'r str, Option<Own>>,
    ) -> Option<Found> {
        let allowed = &snapshot.registries;
        let Some(secrets) = &self.pull_secrets else {
            return self.registry.cached(image, None, allowed);
        };
        // No Secret is read for a registry that nobody named.
        if let Some(answer) = without_contact(image, allowed) {
            return Some(answer);
        }
        let registry = image.registry();
        let look = || secrets.at_hand(request.namespace, request.puller, registry);
        match known.entry(registry).or_insert_with(look).clone()? {
            Ok(own) => self.registry.cached(image, own, allowed),
            Err(unavailable) => Some(Err(unavailable)),
        }
    }

    /// What tags resolve to. Credentials are chosen once a registry, however many tags it has.
    async fn resolved(
        &self,
        snapshot: &Snapshot,
        request: &Request<'_>,
        tags: &BTreeSet<&Reference>,
    ) -> Vec<Found> {
        let Request { namespace, puller, deadline, .. } = *request;
        let mut chosen: BTreeMap<&str, Own> = BTreeMap::new();
        if let Some(secrets) = &self.pull_secrets {
            let registries: BTreeSet<&str> = tags.iter().map(|tag| tag.registry()).collect();
            let choosing = registries
                .iter()
                .map(|registry| secrets.credentials(namespace, puller, registry, deadline));
            let credentials = join_all(choosing).await;
            chosen.extend(registries.into_iter().zip(credentials));
        }
        let resolving = tags.iter().map(|tag| async {
            let own = chosen.get(tag.registry()).cloned().unwrap_or(Ok(None))?;
            self.registry.resolve(tag, own, &snapshot.registries, deadline).await
        });
        join_all(resolving).await
    }

    async fn verified(&self, live: &Live, deadline: Instant) -> Verified {
        let updated = self.repositories.update(live);
        timeout_at(deadline, updated).await.unwrap_or_else(|_| {
            let at_hand = self.repositories.without_update(live);
            at_hand.unwrap_or(Err(Unavailable::DeadlineExceeded.into()))
        })
    }

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
            .filter_map(|live| {
                let current = self.repositories.current(&live)?;
                Some((live, current))
            })
            .collect()
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

#[cfg(test)]
mod tests;
