//! The one way from images to verdicts.

mod ask;
mod evidence;
mod judge;
mod pace;

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_verify::image::{Digest, Reference};
use countersign_verify::outcome::{Decision, Effect, PolicyVerdict, Unavailable};
use countersign_verify::policy::Action;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::admission::Decide;
use crate::clock::Clock;
use crate::cluster::pulls::PullSecrets;
use crate::cluster::{Labels, View};
use crate::metadata::Repositories;
use crate::registry::Registry;
use crate::snapshot::Snapshot;
use pace::Pace;

pub use judge::Question;

/// An image as an author wrote it, and where.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ImageUse {
    /// The path of its container or volume, as `spec.containers[name=api]`.
    pub path: String,
    /// The image string.
    pub image: String,
}

/// What the images are part of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    /// A pod before pinning: a tag is still fine where the policy pins it.
    PodToPin,
    /// A pod as it will be stored: the check that binds. A tag is `NotPinned` where the policy
    /// wants a digest.
    Pod,
    /// A template of pods, or an image on its own: tags are still fine where the policy pins them.
    Template,
}

/// As whom a pod's images are pulled, as its author wrote it: not checked by the API server yet.
#[derive(Debug, Clone, Copy, Default)]
pub struct Puller<'a> {
    /// `serviceAccountName`; empty where there is none.
    pub service_account: &'a str,
    /// The names in `imagePullSecrets`.
    pub secrets: &'a [&'a str],
}

/// What is to be reviewed.
#[derive(Debug)]
pub struct Request<'a> {
    /// The namespace that asks.
    pub namespace: Option<&'a str>,
    /// What the images are part of.
    pub subject: Subject,
    /// The images.
    pub uses: &'a [ImageUse],
    /// As whom they are pulled.
    pub puller: Puller<'a>,
    /// When the answer has to be there.
    pub deadline: Instant,
}

/// The verdict on one image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageReview {
    /// The image and its place.
    pub usage: ImageUse,
    /// Every matching policy's verdict.
    pub decision: Decision,
    /// The digest to fix a pod's tag to: set where the image verifies and a policy that pins
    /// speaks for it.
    pub pin: Option<Digest>,
    /// Remarks that are no refusals.
    pub notes: Vec<String>,
}

/// The verdict on every image of a request, in the request's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Review {
    /// One a use.
    pub images: Vec<ImageReview>,
}

impl Review {
    /// Nothing could be had: every image is refused as `unavailable`, whatever policies say.
    pub fn unavailable(uses: &[ImageUse], unavailable: &Unavailable) -> Self {
        let image = |usage: &ImageUse| ImageReview {
            decision: Decision {
                reference: Reference::parse(&usage.image).ok(),
                digest: None,
                verdicts: vec![PolicyVerdict::by_installation(Action::Deny, unavailable.clone())],
            },
            usage: usage.clone(),
            pin: None,
            notes: Vec::new(),
        };
        Self { images: uses.iter().map(image).collect() }
    }

    /// The strictest effect.
    pub fn effect(&self) -> Effect {
        self.images.iter().map(|image| image.decision.effect()).max().unwrap_or(Effect::Allow)
    }
}

/// Reviews images against the policies of the moment.
pub struct Reviewer {
    snapshot: ArcSwap<Snapshot>,
    repositories: Repositories,
    registry: Registry,
    unmatched: Action,
    clock: Arc<Clock>,
    cluster: Option<Arc<View>>,
    pull_secrets: Option<Arc<PullSecrets>>,
}

impl Reviewer {
    /// `unmatched` is what happens to images that no `Deny` policy matches. The namespaces' labels
    /// are not known.
    pub fn new(
        snapshot: Snapshot,
        repositories: Repositories,
        registry: Registry,
        unmatched: Action,
        clock: Arc<Clock>,
    ) -> Self {
        let snapshot = ArcSwap::from_pointee(snapshot);
        let (cluster, pull_secrets) = (None, None);
        Self { snapshot, repositories, registry, unmatched, clock, cluster, pull_secrets }
    }

    /// The same in a cluster: it knows the namespaces' labels, and denies everything while its
    /// policies may not be the cluster's.
    #[must_use]
    pub fn in_cluster(self, view: Arc<View>) -> Self {
        Self { cluster: Some(view), ..self }
    }

    /// The same with pods' pull secrets, where they may be used.
    #[must_use]
    pub fn with_pull_secrets(self, pull_secrets: Option<PullSecrets>) -> Self {
        Self { pull_secrets: pull_secrets.map(Arc::new), ..self }
    }

    /// Another one that goes by these policies and sources, and shares everything else: evidence
    /// that one has is at hand for the other.
    #[must_use]
    pub fn beside(&self, snapshot: Snapshot) -> Self {
        Self {
            snapshot: ArcSwap::from_pointee(snapshot),
            repositories: self.repositories.clone(),
            registry: self.registry.clone(),
            unmatched: self.unmatched,
            clock: Arc::clone(&self.clock),
            cluster: self.cluster.clone(),
            pull_secrets: self.pull_secrets.clone(),
        }
    }

    /// Puts new policies and sources in place. Reviews under way keep the ones they began with. What
    /// was read from sources that are gone, or are others now, is dropped.
    pub fn replace(&self, snapshot: Snapshot) {
        let sources = snapshot.sources.values().map(|source| source.fingerprint).collect();
        self.snapshot.store(Arc::new(snapshot));
        self.repositories.retain(&sources);
    }

    /// The policies and sources of the moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
    }

    /// The labels of the namespace that asks, where they can be known. One that the cluster's
    /// watch has not told yet is looked up, if a policy asks for its labels.
    async fn labels(&self, snapshot: &Snapshot, request: &Request<'_>) -> Option<Arc<Labels>> {
        let namespaces = &self.cluster.as_ref()?.namespaces;
        let name = request.namespace?;
        if let Some(labels) = namespaces.known(name) {
            return Some(labels);
        }
        let question = Question { snapshot, request, labels: None, unmatched: self.unmatched };
        if request.uses.iter().all(|usage| question.plan(usage).is_certain()) {
            return None;
        }
        pace::before_waiting().await;
        namespaces.look_up(name, request.deadline).await
    }

    /// What reviews take the time to be.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The live repositories, for telling what a verdict rests on.
    pub fn repositories(&self) -> &Repositories {
        &self.repositories
    }
}

impl Decide for Arc<Reviewer> {
    /// Reviews every image of the request. Each review sees one snapshot of the policies, and
    /// does no I/O where all evidence is at hand.
    async fn review(&self, request: &Request<'_>) -> Review {
        // Before the snapshot is taken: what was in place before the check may not have been the
        // API server's.
        if let Some(Err(cause)) = self.cluster.as_ref().map(|cluster| cluster.freshness.check()) {
            return Review::unavailable(request.uses, &Unavailable::PoliciesUnavailable { cause });
        }
        let snapshot = self.snapshot.load_full();
        let labels = self.labels(&snapshot, request).await;
        let unmatched = self.unmatched;
        let question =
            Question { snapshot: &snapshot, request, labels: labels.as_deref(), unmatched };
        let plans: Vec<judge::Plan<'_>> =
            request.uses.iter().map(|usage| question.plan(usage)).collect();
        let evidence = self.gather(&snapshot, &plans, request).await;
        // Only now: what expired while evidence was gathered proves nothing.
        let now = self.clock.now();
        let (mut images, mut pace) = (Vec::with_capacity(plans.len()), Pace::default());
        for plan in plans {
            pace.keep().await;
            images.push(question.judge(plan, &evidence, now));
        }
        Review { images }
    }
}

#[cfg(test)]
mod tests;
