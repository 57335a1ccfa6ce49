//! Liveness, readiness and metrics, on a port of their own.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use axum_server::Handle;
use axum_server::accept::DefaultAcceptor;
use prometheus_client::registry::Registry;

use super::connections::{self, Capped, Connections};
use super::{FIRST_REQUEST, PROBE_CONNECTIONS, ServeError};

/// Whether this replica should be sent requests: it is ready while nothing holds it back.
/// Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Readiness {
    /// Ready: nothing holds it back yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Not ready, because of `what`, until that is released. `/readyz` shows the reason.
    pub fn hold(&self, what: &'static str, reason: impl Into<String>) {
        self.lock().insert(what, reason.into());
    }

    /// `what` no longer holds it back.
    pub fn release(&self, what: &'static str) {
        self.lock().remove(what);
    }

    /// Everything that holds it back, a line each, or `None`.
    pub fn held(&self) -> Option<String> {
        let held = self.lock();
        if held.is_empty() {
            return None;
        }
        Some(held.iter().map(|(what, reason)| format!("{what}: {reason}\n")).collect())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `GET /livez`, `/readyz` and `/metrics`.
pub(super) fn router(readiness: Readiness, registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/livez", get(async || "ok\n"))
        .route("/readyz", get(ready).with_state(readiness))
        .route("/metrics", get(metrics).with_state(registry))
}

async fn ready(State(readiness): State<Readiness>) -> (StatusCode, String) {
    match readiness.held() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reasons) => (StatusCode::SERVICE_UNAVAILABLE, reasons),
    }
}

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

async fn metrics(State(registry): State<Arc<Registry>>) -> impl IntoResponse {
    let mut text = String::new();
    let encoded = prometheus_client::encoding::text::encode(&mut text, &registry);
    let status = encoded.map_or(StatusCode::INTERNAL_SERVER_ERROR, |()| StatusCode::OK);
    (status, [(header::CONTENT_TYPE, OPEN_METRICS)], text)
}

/// Serves from a thread of its own, so that reviews that keep every worker busy delay no probe.
pub(super) fn serve(
    listener: TcpListener,
    router: Router,
    handle: Handle<SocketAddr>,
) -> Result<JoinHandle<()>, ServeError> {
    let stopped = |source: io::Error| ServeError::Stopped { purpose: "probes", source };
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(stopped)?;
    let entered = runtime.enter();
    let connections = Connections::new(PROBE_CONNECTIONS);
    let mut server = axum_server::from_tcp(listener)
        .map_err(stopped)?
        .acceptor(Capped::new(DefaultAcceptor::new(), connections))
        .handle(handle)
        .first_request_timeout(FIRST_REQUEST);
    drop(entered);
    connections::limit(server.http_builder());
    let run = move || {
        if let Err(error) = runtime.block_on(server.serve(router.into_make_service())) {
            tracing::error!(%error, "the server for probes stopped");
        }
    };
    std::thread::Builder::new().name("probes".to_owned()).spawn(run).map_err(stopped)
}
