//! Certificates, a running server, and clients.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::routing::post;
use countersign::server::{PairOrigin, Readiness, ServeConfig, ServeError, Server};
use countersign::telemetry::Metrics;
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// A folder that goes with the test.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("countersign-server-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, contents: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, contents).unwrap();
        path
    }

    pub(crate) fn write_pair(&self, pair: &Pair) -> (PathBuf, PathBuf) {
        (self.write("tls.crt", &pair.certificate), self.write("tls.key", &pair.key))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A self-signed certificate for `localhost` and its key, in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        change(&mut params);
        let signing_key = KeyPair::generate().unwrap();
        let cert = params.self_signed(&signing_key).unwrap();
        let made = CertifiedKey { cert, signing_key };
        Self { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }
}

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) probes: SocketAddr,
    pub(crate) readiness: Readiness,
    pub(crate) shutdown: Option<oneshot::Sender<()>>,
    pub(crate) served: JoinHandle<Result<(), ServeError>>,
    pub(crate) folder: Folder,
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Answers `POST /fast` at once and `POST /slow` after 1 s, reading bodies.
fn answers() -> Router {
    Router::new().route("/fast", post(async |body: String| body)).route(
        "/slow",
        post(async || {
            tokio::time::sleep(Duration::from_secs(1)).await;
            "done"
        }),
    )
}

pub(crate) fn start(pair: &Pair, change: impl FnOnce(&mut ServeConfig, &Folder)) -> Running {
    start_with(answers(), pair, change)
}

pub(crate) fn start_with(
    router: Router,
    pair: &Pair,
    change: impl FnOnce(&mut ServeConfig, &Folder),
) -> Running {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = Folder::new();
    let (certificate, key) = folder.write_pair(pair);
    let mut config =
        ServeConfig::new(any_port(), any_port(), PairOrigin::Files { certificate, key });
    config.reload_every = Duration::from_millis(20);
    config.drain_delay = Duration::from_millis(500);
    change(&mut config, &folder);
    let mut registry = Registry::with_prefix("countersign");
    let metrics = Metrics::register(&mut registry);
    let server = Server::bind(config, metrics).unwrap();
    let (address, probes) = (server.webhook_address().unwrap(), server.probe_address().unwrap());
    let readiness = Readiness::new();
    let (shutdown, stopped) = oneshot::channel::<()>();
    let stop = async {
        let _ = stopped.await;
    };
    let running = server.run(router, readiness.clone(), Arc::new(registry), stop);
    let served = tokio::spawn(running);
    Running { address, probes, readiness, shutdown: Some(shutdown), served, folder }
}

impl Running {
    pub(crate) fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.address.port())
    }

    pub(crate) async fn probe(&self, path: &str) -> (u16, String) {
        let response = reqwest::get(format!("http://{}{path}", self.probes)).await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    pub(crate) async fn post(&self, client: &reqwest::Client, path: &str, body: &str) -> String {
        let request = client.post(self.url(path)).body(body.to_owned());
        request.send().await.unwrap().text().await.unwrap()
    }
}

/// A client that trusts these and nothing else; it keeps no idle connections.
pub(crate) fn client(trusted: &[&Pair]) -> reqwest::Client {
    builder(trusted).pool_max_idle_per_host(0).build().unwrap()
}

pub(crate) fn builder(trusted: &[&Pair]) -> reqwest::ClientBuilder {
    let roots: Vec<_> = trusted
        .iter()
        .map(|pair| reqwest::Certificate::from_pem(pair.certificate.as_bytes()).unwrap())
        .collect();
    reqwest::Client::builder()
        .tls_certs_only(roots)
        .no_proxy()
        .timeout(Duration::from_secs(20))
        .resolve("localhost", SocketAddr::from(([127, 0, 0, 1], 0)))
}

/// Waits until this is so; fails after 10 s.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while !holds().await {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
