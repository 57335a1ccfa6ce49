//! What a review's verdicts rest on, gathered side by side before any of them is made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use countersign_verify::image::Reference;
use countersign_verify::outcome::{Refusal, Unavailable};
use countersign_verify::policy::{Authority, Lookup};
use countersign_verify::tuf::Image;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout_at};
use tracing::Instrument as _;

use super::ask::named_roles;
use super::judge::{self, Part, Plan};
use super::pace::{self, Pace};
use super::{ImageReview, Request, Reviewer};
use crate::api::SourceKind;
use crate::http::Basic;
use crate::metadata::{Live, Repository, Want};
use crate::registry::{Resolved, without_contact};
use crate::snapshot::Snapshot;
use crate::telemetry::SPANS;

/// Policies that only warn or audit have this part of a review's time for what is not at hand: they
/// never cost a deployment the whole of it.
const LOOKING_ON: u32 = 4;

type Found = Result<Resolved, Unavailable>;
/// The credentials of who asks; none where the installation's count.
type Own = Result<Option<Basic>, Unavailable>;
type Verified = Result<Arc<Repository>, Refusal>;

/// The digests that tags resolve to, and the repositories' verified metadata. Trees, for most
/// reviews have one image: a tree of one entry costs no more than a list.
#[derive(Default)]
pub(super) struct Evidence {
    digests: BTreeMap<Reference, Found>,
    /// Where a signature says nothing of the digest's algorithm; by `@digest`.
    manifests: BTreeMap<Reference, Result<Bytes, Unavailable>>,
    /// By source, and by what is asked of it: see [`subject`].
    repositories: BTreeMap<String, BTreeMap<String, Verified>>,
}

/// The evidence of both parts: apart, so that policies that deny wait for nothing of the others'.
pub(super) struct Gathered {
    deciding: Evidence,
    looking_on: Evidence,
}

impl Gathered {
    pub(super) fn of(&self, part: Part) -> &Evidence {
        match part {
            Part::Deciding => &self.deciding,
            Part::LookingOn => &self.looking_on,
        }
    }

    /// What a tag resolves to; `None` where nobody asked.
    pub(super) fn digest(&self, reference: &Reference) -> Option<Found> {
        self.deciding.digest(reference).or_else(|| self.looking_on.digest(reference))
    }
}

impl Evidence {
    /// What a tag resolves to; `None` where nobody asked.
    pub(super) fn digest(&self, reference: &Reference) -> Option<Found> {
        self.digests.get(reference).cloned()
    }

    /// An image's manifest; `None` where nobody asked.
    pub(super) fn manifest(&self, by_digest: &Reference) -> Option<Result<Bytes, Unavailable>> {
        self.manifests.get(by_digest).cloned()
    }

    /// The metadata that an authority's signature of an image is in; `None` where there is no such
    /// source.
    pub(super) fn repository(
        &self,
        authority: &Authority,
        reference: &Reference,
    ) -> Option<Verified> {
        let subject = subject(&authority.lookup, reference);
        self.repositories.get(&authority.source)?.get(&subject).cloned()
    }

    fn holds(&self, asked: &Asked) -> bool {
        let repositories = self.repositories.get(&asked.live.source.name);
        repositories.is_some_and(|repositories| repositories.contains_key(&asked.subject))
    }

    fn hold(&mut self, asked: &Asked, verified: Verified) {
        let source = self.repositories.entry(asked.live.source.name.clone()).or_default();
        source.insert(asked.subject.clone(), verified);
    }
}

impl Reviewer {
    /// Takes what is at hand, and fetches the rest side by side inside the deadline, of which only a
    /// part is for policies that do not deny.
    pub(super) async fn gather(
        &self,
        snapshot: &Snapshot,
        plans: &[Plan<'_>],
        request: &Request<'_>,
    ) -> Gathered {
        let now = Instant::now();
        let time = request.deadline.saturating_duration_since(now) / LOOKING_ON;
        let soon = Request { deadline: now + time, ..*request };
        let (deciding, looking_on) = tokio::join!(
            self.gather_part(Part::Deciding, snapshot, plans, request),
            self.gather_part(Part::LookingOn, snapshot, plans, &soon),
        );
        Gathered { deciding, looking_on }
    }

    async fn gather_part(
        &self,
        part: Part,
        snapshot: &Snapshot,
        plans: &[Plan<'_>],
        request: &Request<'_>,
    ) -> Evidence {
        let mut evidence = Evidence::default();
        let mut tags = BTreeSet::new();
        let mut repositories = BTreeMap::new();
        let mut known = BTreeMap::new();
        let mut pace = Pace::default();
        for (plan, reference) in
            plans.iter().filter_map(|plan| plan.to_verify(part).map(|reference| (plan, reference)))
        {
            pace.keep().await;
            if reference.digest().is_none() && !evidence.digests.contains_key(reference) {
                match self.at_hand(snapshot, request, reference, &mut known) {
                    Some(found) => drop(evidence.digests.insert(reference.clone(), found)),
                    None => drop(tags.insert(reference)),
                }
            }
            for asked in asked_of(snapshot, plan.authorities(part), reference) {
                if evidence.holds(&asked) {
                    continue;
                }
                match self.repositories.current(&asked.live) {
                    Some(current) => evidence.hold(&asked, Ok(current)),
                    // Sources of different names answer each for itself, though they be the same.
                    None => {
                        let key = (asked.live.source.name.clone(), asked.subject.clone());
                        repositories.entry(key).or_insert(asked);
                    }
                }
            }
        }
        if !tags.is_empty() || !repositories.is_empty() {
            pace::before_waiting().await;
            let span = tracing::info_span!(
                target: SPANS,
                "gather",
                tags = tags.len(),
                repositories = repositories.len(),
            );
            let gathering = async {
                tokio::join!(
                    self.resolved(snapshot, request, &tags),
                    join_all(repositories.values().map(|asked| self.verified(asked, request))),
                )
            };
            let (digests, verified) = gathering.instrument(span).await;
            evidence.digests.extend(tags.into_iter().cloned().zip(digests));
            for (asked, verified) in repositories.values().zip(verified) {
                evidence.hold(asked, verified);
            }
        }
        self.add_manifests(part, &mut evidence, snapshot, plans, request).await;
        evidence
    }

    /// Fetches the manifests that signatures are to be compared with where their digests do not
    /// tell: of targets that list another hash only.
    async fn add_manifests(
        &self,
        part: Part,
        evidence: &mut Evidence,
        snapshot: &Snapshot,
        plans: &[Plan<'_>],
        request: &Request<'_>,
    ) {
        let (mut needed, mut pace) = (BTreeSet::new(), Pace::default());
        for plan in plans {
            pace.keep().await;
            needed.extend(self.manifest_of(part, evidence, plan));
        }
        let mut wanted = Vec::new();
        for image in needed {
            let own = self.at_hand_credentials(request, image.registry());
            let known = own.and_then(|own| match own {
                Ok(own) => self.registry.cached_manifest(&image, own, &snapshot.registries),
                Err(unavailable) => Some(Err(unavailable)),
            });
            match known {
                Some(known) => drop(evidence.manifests.insert(image, known)),
                None => wanted.push(image),
            }
        }
        if wanted.is_empty() {
            return;
        }
        pace::before_waiting().await;
        let chosen = self.credentials(request, wanted.iter()).await;
        let (namespace, allowed) = (request.namespace.unwrap_or_default(), &snapshot.registries);
        let fetching = wanted.iter().map(|image| async {
            let own = chosen.get(image.registry()).cloned().unwrap_or(Ok(None))?;
            self.registry.manifest(image, namespace, own, allowed, request.deadline).await
        });
        let fetched = join_all(fetching).await;
        evidence.manifests.extend(wanted.iter().cloned().zip(fetched));
    }

    /// The image by its digest, where an authority needs its manifest.
    fn manifest_of(&self, part: Part, evidence: &Evidence, plan: &Plan<'_>) -> Option<Reference> {
        let reference = plan.to_verify(part)?;
        let mut tuf = plan
            .authorities(part)
            .filter_map(|authority| match &authority.lookup {
                Lookup::Tuf(lookup) => Some((authority, lookup)),
                Lookup::Notary(_) => None,
            })
            .peekable();
        tuf.peek()?;
        let found = evidence.digest(reference);
        let digest = reference.digest().cloned().or_else(|| Some(found?.ok()?.digest))?;
        let now = self.clock.now();
        let mut needs = tuf.filter_map(|(authority, lookup)| {
            let repository = evidence.repository(authority, reference)?.ok()?;
            let image = Image { reference, digest: &digest, size: None, manifest: None };
            repository.tuf()?.needs_manifest(lookup, image, now).then_some(())
        });
        needs.next()?;
        Some(reference.with_digest(digest))
    }

    /// As whom manifests are read, where nobody has to be asked.
    fn at_hand_credentials(&self, request: &Request<'_>, registry: &str) -> Option<Own> {
        match &self.pull_secrets {
            Some(secrets) => secrets.at_hand(request.namespace, request.puller, registry),
            None => Some(Ok(None)),
        }
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
        let chosen = self.credentials(request, tags.iter().copied()).await;
        let (namespace, allowed) = (request.namespace.unwrap_or_default(), &snapshot.registries);
        let resolving = tags.iter().map(|tag| async {
            let own = chosen.get(tag.registry()).cloned().unwrap_or(Ok(None))?;
            self.registry.resolve(tag, namespace, own, allowed, request.deadline).await
        });
        join_all(resolving).await
    }

    async fn credentials<'r>(
        &self,
        request: &Request<'_>,
        images: impl Iterator<Item = &'r Reference>,
    ) -> BTreeMap<&'r str, Own> {
        let Some(secrets) = &self.pull_secrets else { return BTreeMap::new() };
        let Request { namespace, puller, deadline, .. } = *request;
        let registries: BTreeSet<&str> = images.map(|image| image.registry()).collect();
        let choosing = registries
            .iter()
            .map(|registry| secrets.credentials(namespace, puller, registry, deadline));
        let credentials = join_all(choosing).await;
        registries.into_iter().zip(credentials).collect()
    }

    async fn verified(&self, asked: &Asked, request: &Request<'_>) -> Verified {
        let live = &asked.live;
        let updated = self.repositories.update(live, request.namespace.unwrap_or_default());
        let at_deadline = |_| self.repositories.at_deadline(live);
        timeout_at(request.deadline, updated).await.unwrap_or_else(at_deadline)
    }

    /// The metadata at hand that a review rested on, for telling it.
    pub fn evidence_at_hand(&self, review: &ImageReview) -> Vec<(Live, Arc<Repository>)> {
        let snapshot = self.snapshot();
        let Some(reference) = &review.decision.reference else { return Vec::new() };
        let names: BTreeSet<&str> =
            review.decision.verdicts.iter().filter_map(|v| v.policy.as_deref()).collect();
        let policies = snapshot.policies.policies().iter();
        let asked = policies.filter(|policy| names.contains(policy.name.as_str()));
        asked_of(&snapshot, asked.flat_map(judge::authorities), reference)
            .into_iter()
            .filter_map(|Asked { live, .. }| {
                let current = self.repositories.current(&live)?;
                Some((live, current))
            })
            .collect()
    }
}

/// Metadata, and what is asked of it.
struct Asked {
    live: Live,
    subject: String,
}

/// What is asked of a source: a Notary repository answers for all its images, and of a TUF
/// repository each image needs other roles.
fn subject(lookup: &Lookup, reference: &Reference) -> String {
    match lookup {
        Lookup::Notary(_) => reference.name().to_owned(),
        Lookup::Tuf(_) => reference.to_string(),
    }
}

/// The metadata that authorities read, one a source, with all that any of them needs of it.
fn asked_of<'a>(
    snapshot: &Snapshot,
    authorities: impl Iterator<Item = &'a Authority>,
    reference: &Reference,
) -> Vec<Asked> {
    let mut all: Vec<Asked> = Vec::new();
    for authority in authorities {
        let Some(source) = snapshot.sources.get(&authority.source) else { continue };
        let new = match (&authority.lookup, &source.kind) {
            (Lookup::Notary(lookup), SourceKind::Notary { .. }) => {
                let roles = named_roles(lookup).iter().cloned().collect();
                Live::notary(Arc::clone(source), reference.name().to_owned(), roles)
            }
            (Lookup::Tuf(lookup), SourceKind::Tuf { .. }) => {
                let want = |reference| Want { lookup: Arc::clone(lookup), reference };
                // Where the digest counts, whether its tag agrees is told as well.
                let by_tag = reference.by_tag().filter(|_| reference.digest().is_some());
                let wanted = [Some(reference.clone()), by_tag].into_iter().flatten();
                Live::tuf(Arc::clone(source), wanted.map(want).collect())
            }
            // The authority says so itself.
            (Lookup::Notary(_), _) | (Lookup::Tuf(_), _) => continue,
        };
        match all.iter_mut().find(|asked| asked.live.source.name == source.name) {
            Some(Asked { live, .. }) => {
                live.roles.extend(new.roles);
                live.wants.extend(new.wants);
            }
            None => {
                all.push(Asked { live: new, subject: subject(&authority.lookup, reference) });
            }
        }
    }
    all
}

#[cfg(test)]
mod tests;
