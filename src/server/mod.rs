//! Serves the webhooks over TLS, and probes and metrics beside them.

mod connections;
mod drain;
mod probes;
mod readiness;
mod tls;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::RustlsAcceptor;
use prometheus_client::registry::Registry;

pub use connections::Peer;
pub use readiness::Readiness;
pub use tls::{CERTIFICATE, CheckedPair, Pair, PairOrigin, TlsError, certificates};

use crate::telemetry::Metrics;
use connections::{Capped, Connections};
use drain::Draining;
use tls::Certificates;

/// Longest TLS handshake, and longest wait for a connection's first request after it.
const FIRST_REQUEST: Duration = Duration::from_secs(5);

/// Most connections to the probes' port at one time.
const PROBE_CONNECTIONS: usize = 64;

/// Where and how to serve.
#[derive(Debug, Clone)]
pub struct ServeConfig {
    /// Where the webhooks listen, TLS only.
    pub listen: SocketAddr,
    /// Where `/livez`, `/readyz` and `/metrics` listen, plain HTTP.
    pub probe_listen: SocketAddr,
    /// The serving certificate and its key.
    pub pair: PairOrigin,
    /// Where set, clients need a certificate of one of these authorities, in PEM.
    pub client_ca: Option<PathBuf>,
    /// How often the certificates are looked at for changes.
    pub reload_every: Duration,
    /// How long to serve on after readiness is withdrawn, until nobody sends new connections.
    pub drain_delay: Duration,
    /// How long requests that have begun may take after that.
    pub drain_timeout: Duration,
    /// Most connections to the webhooks at one time; more are closed at once. Half of them are the
    /// most from one address.
    pub max_connections: usize,
}

impl ServeConfig {
    /// Certificates looked at every second, drained for 3 s and 10 s, at most 4096 connections.
    pub fn new(listen: SocketAddr, probe_listen: SocketAddr, pair: PairOrigin) -> Self {
        Self {
            listen,
            probe_listen,
            pair,
            client_ca: None,
            reload_every: Duration::from_secs(1),
            drain_delay: Duration::from_secs(3),
            drain_timeout: Duration::from_secs(10),
            max_connections: 4096,
        }
    }
}

/// Why the server cannot start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The certificate, its key or the clients' authorities cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port cannot be listened on.
    #[error("cannot listen on {address} for {purpose}: {source}")]
    Listen {
        /// What for.
        purpose: &'static str,
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A server ended that should not have.
    #[error("the server for {purpose} stopped: {source}")]
    Stopped {
        /// What it served.
        purpose: &'static str,
        /// What the system says.
        source: io::Error,
    },
}

/// A server that listens, and does not answer yet.
#[derive(Debug)]
pub struct Server {
    config: ServeConfig,
    certificates: Certificates,
    webhooks: TcpListener,
    probes: TcpListener,
}

impl Server {
    /// Reads the certificate and takes both ports. A file that cannot be used and a port that
    /// cannot be had are errors here, not later.
    pub fn bind(config: ServeConfig, metrics: Metrics) -> Result<Self, ServeError> {
        let certificates = Certificates::load(&config, metrics)?;
        let listen = |purpose, address| {
            TcpListener::bind(address).map_err(|source| ServeError::Listen {
                purpose,
                address,
                source,
            })
        };
        let webhooks = listen("webhooks", config.listen)?;
        let probes = listen("probes and metrics", config.probe_listen)?;
        Ok(Self { config, certificates, webhooks, probes })
    }

    /// Where the webhooks listen: tells the port where 0 was configured.
    pub fn webhook_address(&self) -> io::Result<SocketAddr> {
        self.webhooks.local_addr()
    }

    /// Where the probes listen: tells the port where 0 was configured.
    pub fn probe_address(&self) -> io::Result<SocketAddr> {
        self.probes.local_addr()
    }

    /// Serves until `shutdown` is ready, and then until everything that has begun is answered:
    /// readiness is withdrawn first, new connections are taken for `drain_delay` more while clients
    /// are told to let go of theirs, and requests that run get `drain_timeout`. Needs a Tokio runtime.
    pub async fn run(
        self,
        router: Router,
        readiness: Readiness,
        registry: Arc<Registry>,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let Self { config, certificates, webhooks, probes } = self;
        let probe_handle = Handle::new();
        let probe_router = probes::router(readiness.clone(), registry);
        let probing = probes::serve(probes, probe_router, probe_handle.clone())?;

        let handle = Handle::new();
        let tls = RustlsAcceptor::new(certificates.rustls())
            .handshake_timeout(FIRST_REQUEST)
            .acceptor(NoDelayAcceptor::new());
        let connections = Connections::new(config.max_connections);
        let mut server = axum_server::from_tcp(webhooks)
            .map_err(|source| ServeError::Stopped { purpose: "webhooks", source })?
            .acceptor(Capped::new(tls, connections))
            .handle(handle.clone())
            .first_request_timeout(FIRST_REQUEST);
        connections::limit(server.http_builder());
        let beating = tokio::spawn(readiness.clone().beat());

        let draining = Draining::default();
        let router = draining.clone().tell(router);
        let drain = async {
            shutdown.await;
            draining.begin();
            readiness.hold("shutdown", "this replica is shutting down");
            tracing::info!("shutting down: not ready, still serving");
            tokio::time::sleep(config.drain_delay).await;
            handle.graceful_shutdown(Some(config.drain_timeout));
            std::future::pending().await
        };
        let served = tokio::select! {
            served = server.serve(router.into_make_service()) => served,
            never = drain => never,
            never = certificates.keep_current(readiness.clone()) => never,
        };
        beating.abort();
        probe_handle.shutdown();
        // It ends by itself now; a probe that is being answered is not worth waiting for.
        drop(probing);
        served.map_err(|source| ServeError::Stopped { purpose: "webhooks", source })
    }
}
