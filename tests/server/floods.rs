//! O11: what one address holds is bounded, and the others do not notice.

use std::fmt;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use countersign::server::Readiness;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use crate::harness::{
    Pair, Running, allowing, builder, client, closed_after, start_by, start_with, tls, until,
};

/// Far less than what is waited for where nothing is bounded.
const SOON: Duration = Duration::from_secs(15);

/// Asks from another address than everybody else.
fn elsewhere(pair: &Pair) -> reqwest::Client {
    let address = IpAddr::from(Ipv4Addr::new(127, 0, 0, 2));
    builder(&[pair]).pool_max_idle_per_host(0).local_address(address).build().unwrap()
}

/// The first line of what a client reads, which reads no more.
fn first_line(stream: &mut impl Read) -> String {
    let mut line = [0; 12];
    let _ = stream.read_exact(&mut line);
    String::from_utf8_lossy(&line).into_owned()
}

async fn status(server: &Running, client: reqwest::Client, body: &str) -> u16 {
    let sent = client.post(server.url("/validate")).body(body.to_owned()).send().await;
    sent.map_or(0, |answer| answer.status().as_u16())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o11_unfinished_headers_of_one_address_are_bounded() {
    let pair = Pair::new();
    let server = start_with(allowing(), &pair, |config, _| config.max_connections = 64);
    let (address, at) = (server.address, pair.clone());
    let header = [b"POST /validate HTTP/1.1\r\nx: ".as_slice(), &[b'a'; 17 << 10]].concat();
    let attack = move || {
        let mut stream = tls(address, &at, b"http/1.1");
        stream.write_all(b"POST /no HTTP/1.1\r\ncontent-length: 0\r\n\r\n").unwrap();
        assert_eq!(first_line(&mut stream), "HTTP/1.1 404");
        stream.write_all(&header).unwrap();
        let socket = stream.sock.try_clone().unwrap();
        assert!(closed_after(stream, socket, None) < SOON, "it may be open for two minutes");
        let unfinished = |_| {
            let mut stream = tls(address, &at, b"http/1.1");
            let _ = stream.write_all(&header[..8 << 10]);
            stream
        };
        (0..64).map(unfinished).collect::<Vec<_>>()
    };
    let held = tokio::task::spawn_blocking(attack).await.unwrap();
    assert_eq!(status(&server, elsewhere(&pair), &review(1)).await, 200);
    drop(held);
}

fn review(uid_bytes: usize) -> String {
    let uid = "u".repeat(uid_bytes);
    format!(
        r#"{{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":
        {{"uid":"{uid}","kind":{{"group":"","kind":"Pod"}},"resource":{{"resource":"pods"}},
         "operation":"DELETE"}}}}"#
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o11_answers_that_nobody_reads_are_bounded() {
    let pair = Pair::new();
    let server = start_with(allowing(), &pair, |_, _| {});
    let large = review(4 << 20);
    let (address, at, body) = (server.address, pair.clone(), large.clone());
    let attack = move || {
        let unread = |_| {
            let mut stream = tls(address, &at, b"http/1.1");
            let head = format!("POST /validate HTTP/1.1\r\ncontent-length: {}\r\n\r\n", body.len());
            let _ =
                stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes()));
            (first_line(&mut stream), stream)
        };
        (0..10).map(unread).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (answers, held) = tokio::task::spawn_blocking(attack).await.unwrap();
    let answered = answers.iter().filter(|line| *line == "HTTP/1.1 200").count();
    assert_eq!(answered, 8, "as many as half of the bytes are: {answers:?}");
    assert_eq!(status(&server, client(&[&pair]), &review(1)).await, 200, "small ones go on");
    assert_eq!(status(&server, elsewhere(&pair), &large).await, 200);
    drop(held);
    until("it is given back", async || status(&server, client(&[&pair]), &large).await == 200)
        .await;
}

fn ask(probes: SocketAddr, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(probes).unwrap();
    stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    stream
}

fn probed(registry: Registry) -> Running {
    start_by(Router::new(), Readiness::new(), registry, &Pair::new(), |_, _| {})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o11_metrics_that_nobody_reads_are_bounded() {
    let mut registry = Registry::default();
    registry.register("large", "More than sockets hold", Info::new([("a", "b".repeat(16 << 20))]));
    let server = probed(registry);
    let probes = server.probes;
    let attack = move || {
        let unread = |_| {
            let mut stream = ask(probes, "/metrics");
            (first_line(&mut stream), stream)
        };
        let mut second = TcpStream::connect(probes).unwrap();
        second.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
        // The type of a frame of settings. Source: RFC 9113, sections 4.1 and 6.5.
        assert_ne!(first_line(&mut second).as_bytes()[3], 4, "HTTP/1 only");
        (0..8).map(unread).unzip::<_, _, Vec<_>, Vec<_>>()
    };
    let (answers, held) = tokio::task::spawn_blocking(attack).await.unwrap();
    assert_eq!(answers[..4], ["HTTP/1.1 200"; 4]);
    assert_eq!(answers[4..], ["HTTP/1.1 503"; 4]);
    for path in ["/livez", "/readyz"] {
        assert_eq!(server.probe(path).await.0, 200, "{path}");
    }
    let metrics = format!("http://{probes}/metrics");
    let text = elsewhere(&Pair::new()).get(metrics).send().await.unwrap().text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "others have theirs");
    drop(held);
    until("it is given back", async || server.probe("/metrics").await.0 == 200).await;
}

/// Takes until it may end, and knows how many do so at one time.
#[derive(Debug, Clone, Default)]
struct Slow(Arc<(AtomicBool, AtomicUsize, AtomicUsize)>);

impl Collector for Slow {
    fn encode(&self, _: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let (ended, running, begun) = &*self.0;
        assert_eq!(running.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
        begun.fetch_add(1, Ordering::SeqCst);
        while !ended.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        running.fetch_sub(1, Ordering::SeqCst);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o7_probes_wait_for_no_metrics() {
    let mut registry = Registry::default();
    let slow = Slow::default();
    registry.register_collector(Box::new(slow.clone()));
    let server = probed(registry);
    let mut asking: Vec<_> = (0..3).map(|_| ask(server.probes, "/metrics")).collect();
    let (ended, _, begun) = &*slow.0;
    until("the first is made", async || begun.load(Ordering::SeqCst) == 1).await;
    for path in ["/livez", "/readyz"] {
        let answer = tokio::time::timeout(SOON, server.probe(path)).await;
        assert_eq!(answer.map(|(status, _)| status), Ok(200), "{path}");
    }
    ended.store(true, Ordering::SeqCst);
    let answers =
        tokio::task::spawn_blocking(move || asking.iter_mut().map(first_line).collect::<Vec<_>>());
    assert_eq!(answers.await.unwrap(), ["HTTP/1.1 200"; 3]);
    assert_eq!(begun.load(Ordering::SeqCst), 3);
}
