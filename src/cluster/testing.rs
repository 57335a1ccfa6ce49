//! An API server that answers what a test says.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::{Body as AnyBody, Bytes};
use axum::http::{Request, Response};
use futures_util::{StreamExt as _, stream};
use kube::Client;
use kube::client::Body;

/// A client whose requests, as their URI, are answered by `answer`: a status and a body, or none
/// for an answer that never comes. What answers a watch well stays open. And the URIs so far.
pub(crate) fn api_server(
    answer: impl Fn(&str) -> Option<(u16, String)> + Clone + Send + 'static,
) -> (Client, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let uris = Arc::clone(&asked);
    let service = tower::service_fn(move |request: Request<Body>| {
        let uri = request.uri().to_string();
        let is_watch = uri.contains("watch=true");
        let answered = answer(&uri);
        uris.lock().expect("no panic").push(uri);
        async move {
            let Some((status, body)) = answered else { return std::future::pending().await };
            let body = stream::iter([Ok::<_, Infallible>(Bytes::from(body))]);
            let body = match is_watch && status == 200 {
                true => AnyBody::from_stream(body.chain(stream::pending())),
                false => AnyBody::from_stream(body),
            };
            let answer = Response::builder().status(status).body(body);
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    (Client::new(service, "default"), asked)
}
