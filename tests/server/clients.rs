//! O11: slow, silent and hostile clients are dropped, and the others do not notice.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::admission::{Admission, Decide, Kinds, Settings, router};
use countersign::review::{Request, Review};
use countersign::telemetry::{DecisionLog, Lines, Metrics};
use futures_util::{StreamExt, stream};
use prometheus_client::registry::Registry;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::harness::{Pair, client, start, start_with};

fn tls(
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
fn closed_after(mut stream: impl Read + Write, socket: TcpStream, dribble: Option<u8>) -> Duration {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o11_slow_and_silent_clients_are_dropped() {
    let pair = Pair::new();
    let server = start(&pair, |_, _| {});
    let address = server.address;
    let plain = |dribble: Option<u8>| {
        tokio::task::spawn_blocking(move || {
            let socket = TcpStream::connect(address).unwrap();
            closed_after(socket.try_clone().unwrap(), socket, dribble)
        })
    };
    let after_handshake = |protocol: &'static [u8], sent: &'static [u8], dribble: Option<u8>| {
        let pair = pair.clone();
        tokio::task::spawn_blocking(move || {
            let mut stream = tls(address, &pair, protocol);
            stream.write_all(sent).unwrap();
            stream.flush().unwrap();
            let socket = stream.sock.try_clone().unwrap();
            closed_after(stream, socket, dribble)
        })
    };
    let slow = vec![
        ("says nothing", plain(None)),
        // A TLS record that announces more than ever comes.
        ("dribbles its handshake", plain(Some(22))),
        ("says nothing after the handshake", after_handshake(b"http/1.1", b"", None)),
        (
            "dribbles a header",
            after_handshake(b"http/1.1", b"POST /fast HTTP/1.1\r\nx: ", Some(b'a')),
        ),
        ("says nothing in HTTP/2", after_handshake(b"h2", b"", None)),
        (
            "stops after the preface",
            after_handshake(b"h2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None),
        ),
    ];
    let good = client(&[&pair]);
    for _ in 0..20 {
        let start = Instant::now();
        assert_eq!(server.post(&good, "/fast", "x").await, "x");
        assert!(start.elapsed() < Duration::from_secs(2), "others are unaffected");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for (what, closed) in slow {
        assert!(closed.await.unwrap() < Duration::from_secs(8), "{what}");
    }
}

#[tokio::test]
async fn connections_are_capped() {
    let pair = Pair::new();
    let server = start(&pair, |config, _| config.max_connections = 2);
    let held: Vec<_> = (0..2).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let good = client(&[&pair]);
    assert!(good.post(server.url("/fast")).send().await.is_err(), "one too many");
    drop(held);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(server.post(&good, "/fast", "x").await, "x", "places are given back");
}

struct Nothing;

impl Decide for Nothing {
    async fn review<'a>(&'a self, _: &'a Request<'a>) -> Review {
        Review { images: Vec::new() }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k12_a_thousand_garbage_bodies_leave_the_server_well() {
    let metrics = Metrics::register(&mut Registry::default());
    let log = DecisionLog::new(Lines::to(std::io::sink()).unwrap());
    let settings = Settings::new(Kinds::new(&[]).unwrap());
    let admission = Admission::new(Nothing, settings, metrics, log);
    let pair = Pair::new();
    let server = start_with(router(Arc::new(admission)), &pair, |_, _| {});
    let client = crate::harness::builder(&[&pair]).build().unwrap();
    let garbage = |n: usize| {
        // Bytes that depend on `n` only, some of them JSON to begin with.
        let mut state = n as u64 + 1;
        let mut body = br#"{"request":{"object":{"spec":"#[..n % 30].to_vec();
        body.extend((0..n).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        }));
        let request = client.post(server.url("/validate")).body(body).send();
        async move { request.await.unwrap().status().as_u16() }
    };
    let statuses: Vec<u16> =
        stream::iter(0..1000).map(garbage).buffer_unordered(50).collect().await;
    assert!(statuses.iter().all(|status| *status == 400));
    assert_eq!(server.probe("/livez").await.0, 200);
    let review = r#"{"kind":"AdmissionReview","apiVersion":"admission.k8s.io/v1","request":
        {"uid":"u","kind":{"group":"","kind":"Pod"},"resource":{"resource":"pods"},
         "operation":"DELETE"}}"#;
    assert!(server.post(&client, "/validate", review).await.contains(r#""allowed":true"#));
}
