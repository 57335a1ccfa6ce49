//! Liveness, readiness and metrics, on a port of their own.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::JoinHandle;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::connections::{self, Capped, Connections, Peer};
use super::{FIRST_REQUEST, PROBE_CONNECTIONS, Readiness, ServeError};
use crate::fair::{self, Place, Places};

/// Most texts of metrics at one time, being made or sent: one may be megabytes. Half of them are the
/// most for one address.
const TEXTS: usize = 8;

/// `GET /livez`, `/readyz` and `/metrics`.
pub(super) fn router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    let texts = Texts { registry, places: Places::new(TEXTS) };
    Router::new()
        .route("/livez", get(live).with_state(readiness.clone()))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(metrics).with_state(texts))
}

async fn live(State(readiness): State<Readiness>) -> (StatusCode, String) {
    ok_without(readiness.broken())
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    ok_without(readiness.held())
}

fn ok_without(reasons: Option<String>) -> (StatusCode, String) {
    match reasons {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Debug, Clone)]
struct Texts {
    registry: Arc<Registry>,
    places: Arc<Places<IpAddr>>,
}

async fn metrics(State(texts): State<Texts>, Extension(peer): Extension<Peer>) -> Response {
    let Some(place) = texts.places.try_take(peer.0) else {
        return (StatusCode::SERVICE_UNAVAILABLE, "too many are asking for metrics\n")
            .into_response();
    };
    // On the runtime's other thread: probes do not wait for it.
    let made = tokio::task::spawn_blocking(move || text(&texts.registry, place)).await;
    match made {
        Ok(Ok(text)) => ([(header::CONTENT_TYPE, OPEN_METRICS)], text).into_response(),
        Ok(Err(_)) | Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

fn text(registry: &Registry, place: Place<IpAddr>) -> Result<bytes::Bytes, std::fmt::Error> {
    let mut text = String::new();
    encode(&mut text, registry)?;
    Ok(fair::until_sent(text, place))
}

/// Serves from a thread of its own, so that reviews that keep every worker busy delay no probe.
pub(super) fn serve(
    listener: TcpListener,
    router: Router,
    handle: Handle<SocketAddr>,
) -> Result<JoinHandle<()>, ServeError> {
    let stopped = |source: io::Error| ServeError::Stopped { purpose: "probes", source };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .map_err(stopped)?;
    let entered = runtime.enter();
    let connections = Connections::new(PROBE_CONNECTIONS);
    let mut server = axum_server::from_tcp(listener)
        .map_err(stopped)?
        .acceptor(Capped::new(DefaultAcceptor::new(), connections))
        .handle(handle)
        .first_request_timeout(FIRST_REQUEST)
        // A connection has one request.
        .http1_only();
    drop(entered);
    connections::limit(server.http_builder());
    let run = move || {
        if let Err(error) = runtime.block_on(server.serve(router.into_make_service())) {
            tracing::error!(%error, "the server for probes stopped");
        }
    };
    std::thread::Builder::new().name("probes".to_owned()).spawn(run).map_err(stopped)
}
