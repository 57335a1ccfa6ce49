//! How a server that shuts down lets go of its clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, HeaderValue};
use axum::http::{Response, Version};
use axum::middleware::{self, Next};

/// Whether the server is shutting down. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Draining(Arc<AtomicBool>);

impl Draining {
    /// From now on.
    pub(super) fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// While draining, answers on HTTP/1 say that their connection closes, so that the client's
    /// next request takes another one. A connection that is closed while it idles may have just been
    /// sent a request: the client cannot know whether it was seen, and the API server, which speaks
    /// HTTP/1 to webhooks, does not send it again. HTTP/2 has GOAWAY for this.
    pub(super) fn tell(self, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self, close))
    }
}

async fn close(
    State(draining): State<Draining>,
    request: Request,
    next: Next,
) -> Response<axum::body::Body> {
    let by_header = request.version() <= Version::HTTP_11;
    let mut response = next.run(request).await;
    if by_header && draining.0.load(Ordering::Relaxed) {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}
