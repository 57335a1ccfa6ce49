//! Real servers on loopback for tests.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use axum_server::tls_rustls::RustlsConfig;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::{Ask, Basic, Endpoint, EndpointConfig};

/// A server's address, and the CA of its certificate.
pub(crate) struct TlsServer {
    pub(crate) address: SocketAddr,
    pub(crate) ca_pem: String,
}

/// Serves over TLS, with a certificate for `names` from a CA of its own.
pub(crate) async fn tls_server(router: Router, names: &[&str]) -> TlsServer {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut ca = CertificateParams::new(Vec::new()).expect("params");
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_key = KeyPair::generate().expect("key");
    let ca_pem = ca.self_signed(&ca_key).expect("CA").pem();
    let issuer = Issuer::new(ca, ca_key);

    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let key = KeyPair::generate().expect("key");
    let params = CertificateParams::new(names).expect("names");
    let certificate = params.signed_by(&key, &issuer).expect("certificate");
    let config = RustlsConfig::from_pem(certificate.pem().into(), key.serialize_pem().into());
    let config = config.await.expect("TLS configuration");

    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    listener.set_nonblocking(true).expect("nonblocking");
    let address = listener.local_addr().expect("address");
    let server = axum_server::from_tcp_rustls(listener, config).expect("server");
    tokio::spawn(server.serve(router.into_make_service()));
    TlsServer { address, ca_pem }
}

/// Serves over plain HTTP.
pub(crate) async fn plain_server(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Reads each connection's request head, then hands the connection to `answer`.
pub(crate) async fn raw_server<F, Fut>(answer: F) -> SocketAddr
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
    let address = listener.local_addr().expect("address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            tokio::spawn(answer(stream));
        }
    });
    address
}

/// Writes `bytes`, one each `pause`, until the other side is gone.
pub(crate) async fn drip(mut stream: TcpStream, bytes: impl Iterator<Item = u8>, pause: Duration) {
    for byte in bytes {
        if stream.write_all(&[byte]).await.is_err() {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// A listener that must never be contacted, and counts who does.
pub(crate) struct Trap {
    pub(crate) address: SocketAddr,
    contacts: Arc<AtomicUsize>,
}

impl Trap {
    pub(crate) async fn set() -> Self {
        let contacts = Arc::new(AtomicUsize::new(0));
        let counter = contacts.clone();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        tokio::spawn(async move {
            while listener.accept().await.is_ok() {
                counter.fetch_add(1, Ordering::SeqCst);
            }
        });
        Self { address, contacts }
    }

    pub(crate) async fn contacts(&self) -> usize {
        // Time for a connection that was begun to arrive.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.contacts.load(Ordering::SeqCst)
    }
}

/// What a server saw of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) uri: String,
    pub(crate) authorization: Option<String>,
}

/// The requests that a router saw.
#[derive(Debug, Clone, Default)]
pub(crate) struct Log(Arc<Mutex<Vec<Seen>>>);

impl Log {
    pub(crate) fn all(&self) -> Vec<Seen> {
        self.0.lock().expect("log").clone()
    }

    pub(crate) fn len(&self) -> usize {
        self.all().len()
    }
}

/// A router that answers every request with `answer`, which is given the request's number from 0.
pub(crate) fn scripted<F>(log: &Log, answer: F) -> Router
where
    F: Fn(usize, &Seen) -> Response + Clone + Send + Sync + 'static,
{
    let log = log.clone();
    Router::new().fallback(move |request: Request| {
        let authorization = request.headers().get(http::header::AUTHORIZATION);
        let seen = Seen {
            method: request.method().to_string(),
            // HTTP/2 has the whole URI here.
            uri: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
            authorization: authorization.map(|value| value.to_str().expect("text").to_owned()),
        };
        let mut all = log.0.lock().expect("log");
        let answer = answer(all.len(), &seen);
        all.push(seen);
        std::future::ready(answer)
    })
}

/// A response.
pub(crate) fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response {
    let mut builder = Response::builder().status(status);
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    builder.body(body.into()).expect("response")
}

/// An endpoint's configuration without CA, credentials and token hosts.
pub(crate) fn config(base: &str) -> EndpointConfig {
    EndpointConfig {
        base: base.parse().expect("base"),
        ca_pem: None,
        credentials: None,
        token_hosts: Vec::new(),
    }
}

/// An endpoint over plain HTTP, without credentials.
pub(crate) fn endpoint(address: SocketAddr) -> Endpoint {
    Endpoint::new(config(&format!("http://{address}"))).expect("endpoint")
}

/// User `ann` with password `secret`.
pub(crate) fn ann() -> Option<Basic> {
    Some(Basic { username: "ann".to_owned(), password: "secret".to_owned() })
}

/// [`ann`]'s header.
pub(crate) const ANN: &str = "Basic YW5uOnNlY3JldA==";

/// At most 1,000 bytes within `millis`.
pub(crate) fn ask(millis: u64) -> Ask<'static> {
    Ask {
        accept: None,
        scope: None,
        max_bytes: 1000,
        room: None,
        deadline: Instant::now() + Duration::from_millis(millis),
    }
}
