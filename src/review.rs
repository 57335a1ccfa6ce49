//! The one way from images to verdicts.

mod evidence;
mod judge;

use std::sync::Arc;

use arc_swap::ArcSwap;
use countersign_verify::image::Digest;
use countersign_verify::outcome::{Decision, Effect};
use countersign_verify::policy::Action;
use tokio::time::Instant;

use crate::admission::Decide;
use crate::clock::Clock;
use crate::metadata::Repositories;
use crate::registry::Registry;
use crate::snapshot::Snapshot;

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

/// What is to be reviewed.
#[derive(Debug)]
pub struct Request<'a> {
    /// The namespace that asks.
    pub namespace: Option<&'a str>,
    /// What the images are part of.
    pub subject: Subject,
    /// The images.
    pub uses: &'a [ImageUse],
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
}

impl Reviewer {
    /// `unmatched` is what happens to images that no `Deny` policy matches.
    pub fn new(
        snapshot: Snapshot,
        repositories: Repositories,
        registry: Registry,
        unmatched: Action,
        clock: Arc<Clock>,
    ) -> Self {
        Self { snapshot: ArcSwap::from_pointee(snapshot), repositories, registry, unmatched, clock }
    }

    /// Puts new policies and sources in place. Reviews under way keep the ones they began with.
    pub fn replace(&self, snapshot: Snapshot) {
        self.snapshot.store(Arc::new(snapshot));
    }

    /// The policies and sources of the moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshot.load_full()
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
        let snapshot = self.snapshot.load_full();
        let now = self.clock.now();
        let labels = request.namespace.and_then(|name| snapshot.namespaces.get(name));
        let unmatched = self.unmatched;
        let question =
            Question { snapshot: &snapshot, request, labels: labels.map(Arc::as_ref), unmatched };
        let plans: Vec<judge::Plan<'_>> =
            request.uses.iter().map(|usage| question.plan(usage)).collect();
        let evidence = self.gather(&snapshot, &plans, request.deadline).await;
        let images = plans.into_iter().map(|plan| question.judge(plan, &evidence, now)).collect();
        Review { images }
    }
}

#[cfg(test)]
mod tests;
