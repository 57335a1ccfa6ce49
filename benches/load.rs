//! A load generator that costs little itself: HTTP/1.1 by hand, on connections that stay open,
//! each of which sends its next request when it has the answer to the last one.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::{Context, Failure, Outcome};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::machine;

/// Longest time for one answer: far beyond any that is worth measuring.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// What is asked, of whom, and what the answer has to hold.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    port: u16,
    request: Arc<[u8]>,
    wanted: &'static [u8],
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
        let request = format!(
            "POST {path}?timeout=10s HTTP/1.1\r\nhost: localhost:{port}\r\naccept: application/json\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{review}",
            review.len()
        );
        let request = request.into_bytes().into();
        Ok(Self { port, request, wanted: wanted.as_bytes(), tls: Arc::new(tls) })
    }
}

/// An open connection to a target.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    target: Target,
    buffer: Vec<u8>,
}

impl Connection {
    /// Connects, and ends the TLS handshake.
    pub(crate) async fn open(target: &Target) -> Outcome<Self> {
        let stream = TcpStream::connect((Ipv4Addr::LOCALHOST, target.port)).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::try_from("localhost")?;
        let stream = TlsConnector::from(Arc::clone(&target.tls)).connect(name, stream).await?;
        Ok(Self { stream, target: target.clone(), buffer: vec![0; ANSWER_BYTES] })
    }

    /// Sends the review and waits for its answer; fails where it is not the wanted one.
    pub(crate) async fn ask(&mut self) -> Outcome<()> {
        tokio::time::timeout(TIMEOUT, self.exchange()).await.context("waiting for an answer")?
    }

    async fn exchange(&mut self) -> Outcome<()> {
        self.stream.write_all(&self.target.request).await?;
        self.stream.flush().await?;
        let mut filled = 0;
        loop {
            let read = self.stream.read(&mut self.buffer[filled..]).await?;
            if read == 0 {
                return Err(Failure::new("the connection ended before the answer did"));
            }
            filled += read;
            let received = &self.buffer[..filled];
            let Some(head) = position(received, b"\r\n\r\n") else { continue };
            let (head, body) = received.split_at(head + 4);
            if body.len() < content_length(head)? {
                continue;
            }
            let good = head.starts_with(b"HTTP/1.1 200 ");
            if good && position(body, self.target.wanted).is_some() {
                return Ok(());
            }
            let answer = String::from_utf8_lossy(received);
            return Err(Failure::new(format!("a wrong answer: {answer}")));
        }
    }
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn content_length(head: &[u8]) -> Outcome<usize> {
    let head = std::str::from_utf8(head)?;
    let mut headers = head.lines().filter_map(|line| line.split_once(':'));
    let length = headers.find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    Ok(length.context("an answer without a length")?.1.trim().parse()?)
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

/// Sends `requests` requests over `connections` connections from these processors.
pub(crate) fn run(
    target: &Target,
    connections: usize,
    requests: usize,
    cores: &[usize],
) -> Outcome<Sample> {
    let threads = cores.len().min(connections);
    let start = Barrier::new(threads);
    let left = AtomicUsize::new(requests);
    let rounds: Vec<Outcome<Round>> = thread::scope(|scope| {
        let drivers: Vec<_> = (0..threads)
            .map(|index| {
                let share = connections / threads + usize::from(index < connections % threads);
                let (start, left) = (&start, &left);
                scope.spawn(move || drive(target, share, cores[index], start, left))
            })
            .collect();
        let join = |driver: thread::ScopedJoinHandle<'_, _>| {
            driver.join().unwrap_or_else(|_| Err(Failure::new("the load generator panicked")))
        };
        drivers.into_iter().map(join).collect()
    });
    let rounds = rounds.into_iter().collect::<Outcome<Vec<Round>>>()?;
    let begun = rounds.iter().map(|round| round.begun).min().context("no load")?;
    let ended = rounds.iter().map(|round| round.ended).max().context("no load")?;
    let mut nanos: Vec<u64> = rounds.into_iter().flat_map(|round| round.nanos).collect();
    nanos.sort_unstable();
    Ok(Sample { throughput: nanos.len() as f64 / (ended - begun).as_secs_f64(), nanos })
}

struct Round {
    begun: Instant,
    ended: Instant,
    nanos: Vec<u64>,
}

fn drive(
    target: &Target,
    connections: usize,
    core: usize,
    start: &Barrier,
    left: &AtomicUsize,
) -> Outcome<Round> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let opened = machine::bind(&[core]).and_then(|()| runtime.block_on(open(target, connections)));
    // Every driver gets here, also one that could not connect: the others wait for it.
    start.wait();
    let opened = opened?;
    let begun = Instant::now();
    let nanos = runtime.block_on(async {
        let asked = opened.into_iter().map(|connection| ask_until_none_is_left(connection, left));
        futures_util::future::try_join_all(asked).await
    })?;
    Ok(Round { begun, ended: Instant::now(), nanos: nanos.concat() })
}

/// Opens connections, and asks once on each: a round is to find them warm.
async fn open(target: &Target, connections: usize) -> Outcome<Vec<Connection>> {
    let mut opened = Vec::new();
    for _ in 0..connections {
        let mut connection = Connection::open(target).await?;
        connection.ask().await?;
        opened.push(connection);
    }
    Ok(opened)
}

async fn ask_until_none_is_left(
    mut connection: Connection,
    left: &AtomicUsize,
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
