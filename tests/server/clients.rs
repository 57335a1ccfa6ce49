//! O11: slow, silent and hostile clients are dropped, and the others do not notice.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use crate::harness::{Pair, allowing, client, closed_after, start, start_with, tls};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn k12_a_thousand_garbage_bodies_leave_the_server_well() {
    let pair = Pair::new();
    let server = start_with(allowing(), &pair, |_, _| {});
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
