//! One image's review, as of a template: a tag that is pinned when a pod is made is no reason to be
//! denied.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::admission::Decide as _;
use crate::review::{ImageReview, ImageUse, Puller, Request, Reviewer, Subject};

/// The verdict on an image in a namespace, within `timeout`: one, in a list.
pub(super) async fn review(
    reviewer: &Arc<Reviewer>,
    namespace: &str,
    image: &str,
    timeout: Duration,
) -> Vec<ImageReview> {
    let usage = ImageUse { path: "image".to_owned(), image: image.to_owned() };
    let request = Request {
        namespace: Some(namespace),
        subject: Subject::Template,
        uses: std::slice::from_ref(&usage),
        puller: Puller::default(),
        deadline: Instant::now() + timeout,
    };
    reviewer.review(&request).await.images
}
