//! Certificates, a running server, and clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::routing::post;
use countersign::admission::{self, Admission, Decide, Kinds, Settings};
use countersign::review::{Request, Review};
use countersign::server::{PairOrigin, Readiness, ServeConfig, ServeError, Server};
use countersign::telemetry::{DecisionLog, Lines, Metrics};
use prometheus_client::registry::Registry;
use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
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

struct Nothing;

impl Decide for Nothing {
    async fn review<'a>(&'a self, _: &'a Request<'a>) -> Review {
        Review { images: Vec::new() }
    }
}

/// Answers AdmissionReviews; no image is reviewed.
pub(crate) fn allowing() -> Router {
    let metrics = Metrics::register(&mut Registry::default());
    let log = DecisionLog::new(Lines::to(std::io::sink()).unwrap());
    let settings = Settings::new(Kinds::new(&[]).unwrap());
    admission::router(Arc::new(Admission::new(Nothing, settings, metrics, log)))
}

pub(crate) fn start(pair: &Pair, change: impl FnOnce(&mut ServeConfig, &Folder)) -> Running {
    start_with(answers(), pair, change)
}

pub(crate) fn start_with(
    router: Router,
    pair: &Pair,
    change: impl FnOnce(&mut ServeConfig, &Folder),
) -> Running {
    let registry = Registry::with_prefix("countersign");
    start_by(router, Readiness::new(), registry, pair, change)
}

pub(crate) fn start_by(
    router: Router,
    readiness: Readiness,
    mut registry: Registry,
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
    let metrics = Metrics::register(&mut registry);
    let server = Server::bind(config, metrics).unwrap();
    let (address, probes) = (server.webhook_address().unwrap(), server.probe_address().unwrap());
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

/// A connection over TLS on which `protocol` is offered, and nothing else.
pub(crate) fn tls(
    address: SocketAddr,
    pair: &Pair,
    protocol: &[u8],
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = "localhost".try_into().unwrap();
    let connection = ClientConnection::new(Arc::new(config), name).unwrap();
    StreamOwned::new(connection, TcpStream::connect(address).unwrap())
}

/// How long until the server closes; a byte is sent every 100 ms where there is one.
pub(crate) fn closed_after(
    mut stream: impl Read + Write,
    socket: TcpStream,
    dribble: Option<u8>,
) -> Duration {
    socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(20) {
        let sent =
            dribble.map_or(Ok(()), |byte| stream.write_all(&[byte]).and_then(|()| stream.flush()));
        let mut buffer = [0; 4096];
        let closed = match stream.read(&mut buffer) {
            Ok(read) => read == 0,
            Err(error) => !matches!(
                error.kind(),
                std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut
            ),
        };
        if closed || sent.is_err() {
            break;
        }
    }
    start.elapsed()
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
