//! The one way from images to verdicts.

use countersign_verify::image::Digest;
use countersign_verify::outcome::{Decision, Effect};
use tokio::time::Instant;

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
