//! Decodes AdmissionReviews, finds their images, answers.

mod body;
mod handler;
mod owner;
mod read;
mod resources;
mod respond;
mod span;
mod wire;
mod workload;

use std::future::Future;

pub use handler::{Admission, Settings, resources_router, router};
pub use respond::Templates;
pub(crate) use wire::PodSpec;
pub(crate) use workload::pod_images;
pub use workload::{CustomKind, InvalidCustomKind, Kinds};

use crate::review;

/// What decides; `review::Reviewer` in production.
pub trait Decide: Send + Sync + 'static {
    /// Reviews every image of `request`: one verdict a use, in the request's order.
    ///
    /// A future that is ready when first polled costs no place among the waiting reviews. Another
    /// one has asked nobody for anything by then: it is dropped where no place is left.
    fn review<'a>(
        &'a self,
        request: &'a review::Request<'a>,
    ) -> impl Future<Output = review::Review> + Send + 'a;
}
