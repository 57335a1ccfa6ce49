//! Load: connections that stay open, each of which sends its next review when it has the answer
//! to the last one.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_e2e::{Context, Failure, Outcome};
use futures_util::future::try_join_all;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Longest time for one answer: far beyond any that is worth measuring.
const TIMEOUT: Duration = Duration::from_secs(30);

/// What is asked, of whom, and what the answer has to hold.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    port: u16,
    path: String,
    review: Bytes,
    wanted: &'static str,
    tls: Arc<ClientConfig>,
}

impl Target {
    /// Reviews sent to `path` on a loopback port; every answer has to be a 200 that contains
    /// `wanted`. `authority` is the PEM file of the server's authority.
    pub(crate) fn new(
        port: u16,
        path: &str,
        review: &str,
        wanted: &'static str,
        authority: &Path,
    ) -> Outcome<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&fs::read(authority)?)?)?;
        let tls = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Ok(Self {
            port,
            path: format!("{path}?timeout=10s"),
            review: Bytes::copy_from_slice(review.as_bytes()),
            wanted,
            tls: Arc::new(tls),
        })
    }
}

/// An open connection to a target.
pub(crate) struct Connection {
    sender: SendRequest<Full<Bytes>>,
    target: Target,
}

impl Connection {
    /// Connects, and ends the TLS handshake.
    pub(crate) async fn open(target: &Target) -> Outcome<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, stream).await?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // What ends the connection fails the request that is under way.
        tokio::spawn(connection);
        Ok(Self { sender, target: target.clone() })
    }

    /// Sends the review and waits for its answer; fails where it is not the wanted one.
    pub(crate) async fn ask(&mut self) -> Outcome<()> {
        tokio::time::timeout(TIMEOUT, self.exchange()).await.context("waiting for an answer")?
    }

    async fn exchange(&mut self) -> Outcome<()> {
        let target = &self.target;
        let request = Request::post(&target.path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(target.review.clone()))?;
        self.sender.ready().await?;
        let answer = self.sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status == StatusCode::OK && contains(&body, target.wanted) {
            return Ok(());
        }
        let body = String::from_utf8_lossy(&body);
        Err(Failure::new(format!("a wrong answer, {status}: {body}")))
    }
}

fn contains(body: &[u8], wanted: &str) -> bool {
    body.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

/// What one round of load found.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    /// Answers a second.
    pub(crate) throughput: f64,
    /// Every answer's time in nanoseconds, in ascending order.
    nanos: Vec<u64>,
}

impl Sample {
    /// The time within which this share of answers came, in microseconds.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (self.nanos.len() as f64 * share).ceil() as usize;
        let nanos = self.nanos[rank.clamp(1, self.nanos.len()) - 1];
        nanos as f64 / 1_000.0
    }
}

/// Sends `requests` requests over `connections` connections, which a first request has warmed.
pub(crate) fn run(target: &Target, connections: usize, requests: usize) -> Outcome<Sample> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let opened = try_join_all((0..connections).map(|_| open_warm(target))).await?;
        let left = Arc::new(AtomicUsize::new(requests));
        let begun = Instant::now();
        let asking = opened
            .into_iter()
            .map(|connection| tokio::spawn(ask_until_none_is_left(connection, Arc::clone(&left))));
        let asked = try_join_all(asking.collect::<Vec<_>>()).await?;
        let took = begun.elapsed();
        let mut nanos = asked.into_iter().collect::<Outcome<Vec<_>>>()?.concat();
        nanos.sort_unstable();
        Ok(Sample { throughput: nanos.len() as f64 / took.as_secs_f64(), nanos })
    })
}

async fn open_warm(target: &Target) -> Outcome<Connection> {
    let mut connection = Connection::open(target).await?;
    connection.ask().await?;
    Ok(connection)
}

async fn ask_until_none_is_left(
    mut connection: Connection,
    left: Arc<AtomicUsize>,
) -> Outcome<Vec<u64>> {
    let mut nanos = Vec::new();
    let take = |left: usize| left.checked_sub(1);
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
        let begun = Instant::now();
        connection.ask().await?;
        nanos.push(begun.elapsed().as_nanos() as u64);
    }
    Ok(nanos)
}
