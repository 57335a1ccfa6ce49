//! Size, time, retries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::http::testing::{
    Log, ask, config, drip, endpoint, plain_server, raw_server, reply, scripted, tls_server,
};
use crate::http::{Endpoint, FetchError};

#[tokio::test]
async fn t2_an_endless_body_is_cut() {
    let endless = || async {
        let chunks = std::iter::repeat_with(|| Ok::<_, std::io::Error>("0123456789".repeat(10)));
        Body::from_stream(futures_util::stream::iter(chunks))
    };
    let endpoint = endpoint(plain_server(Router::new().route("/", get(endless))).await);
    let result = endpoint.get("/", &ask(5000)).await;
    assert_eq!(result.expect_err("cut"), FetchError::TooLarge { limit: 1000 });
}

#[tokio::test]
async fn t2_a_body_may_be_as_long_as_the_limit_and_no_longer() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| {
        let length = seen.uri.trim_start_matches('/').parse().expect("a length");
        reply(200, &[], "x".repeat(length))
    });
    let endpoint = endpoint(plain_server(router).await);
    let answer = endpoint.get("/1000", &ask(5000)).await.expect("fits");
    assert_eq!(answer.body.len(), 1000);
    let result = endpoint.get("/1001", &ask(5000)).await;
    assert_eq!(result.expect_err("too long"), FetchError::TooLarge { limit: 1000 });
}

#[tokio::test]
async fn t2_a_huge_declared_length_is_refused_at_once() {
    let address = raw_server(|mut stream| async move {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n";
        let _ = stream.write_all(head).await;
        std::future::pending::<()>().await;
    })
    .await;
    let result = endpoint(address).get("/", &ask(5000)).await;
    assert_eq!(result.expect_err("refused"), FetchError::TooLarge { limit: 1000 });
}

async fn cut_at_the_deadline(endpoint: &Endpoint) {
    let start = Instant::now();
    let result = endpoint.get("/", &ask(300)).await;
    assert_eq!(result.expect_err("cut"), FetchError::Deadline);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn t9_one_byte_a_second_is_cut_at_the_deadline() {
    let address = raw_server(|mut stream| async move {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n").await;
        drip(stream, std::iter::repeat(b'x'), Duration::from_secs(1)).await;
    })
    .await;
    cut_at_the_deadline(&endpoint(address)).await;
}

#[tokio::test]
async fn t9_slow_headers_are_cut_at_the_deadline() {
    let address = raw_server(|stream| async move {
        let head = b"HTTP/1.1 200 OK\r\nX: ".iter().copied().chain(std::iter::repeat(b'x'));
        drip(stream, head, Duration::from_millis(20)).await;
    })
    .await;
    cut_at_the_deadline(&endpoint(address)).await;
}

#[tokio::test]
async fn t9_a_silent_server_is_cut_at_the_deadline() {
    let address = raw_server(|stream| async move {
        std::future::pending::<()>().await;
        drop(stream);
    })
    .await;
    cut_at_the_deadline(&endpoint(address)).await;
}

#[tokio::test]
async fn o2_failures_are_retried_twice_at_most() {
    let log = Log::default();
    let router = scripted(&log, |number, _| match number {
        0 => reply(503, &[], ""),
        1 => reply(429, &[("retry-after", "0")], ""),
        2 => reply(200, &[], "here"),
        _ => reply(500, &[], ""),
    });
    let endpoint = endpoint(plain_server(router).await);
    assert_eq!(endpoint.get("/", &ask(10_000)).await.expect("third time").body, "here");
    assert_eq!(log.len(), 3);
    let result = endpoint.get("/", &ask(10_000)).await;
    assert_eq!(result.expect_err("broken"), FetchError::Status(500));
    assert_eq!(log.len(), 6);
}

#[tokio::test]
async fn o2_retry_after_is_honoured_where_it_fits() {
    let log = Log::default();
    let router = scripted(&log, |number, seen| match (number, seen.uri.as_str()) {
        (0, _) => reply(429, &[("retry-after", "1")], ""),
        (_, "/long") => reply(429, &[("retry-after", "18446744073709551615")], ""),
        (_, "/date") => reply(429, &[("retry-after", "Tue, 31 Dec 2999 23:59:59 GMT")], ""),
        _ => reply(200, &[], ""),
    });
    let endpoint = endpoint(plain_server(router).await);
    let start = Instant::now();
    endpoint.get("/", &ask(10_000)).await.expect("after a second");
    assert!(start.elapsed() >= Duration::from_secs(1));
    assert_eq!(log.len(), 2);
    for path in ["/long", "/date"] {
        let start = Instant::now();
        let result = endpoint.get(path, &ask(10_000)).await;
        assert_eq!(result.expect_err("not in time"), FetchError::Status(429));
        assert!(start.elapsed() < Duration::from_secs(1));
        // What it asked for counts for a second.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert_eq!(log.len(), 4);
}

#[tokio::test]
async fn o2_who_was_asked_to_wait_waits_with_every_request_for_a_second_at_most() {
    let log = Log::default();
    let router = scripted(&log, |number, _| match number {
        0 => reply(429, &[("retry-after", "3600")], ""),
        1 => reply(503, &[("retry-after", "1")], ""),
        _ => reply(200, &[], ""),
    });
    let endpoint = endpoint(plain_server(router).await);
    let start = Instant::now();
    for path in ["/one", "/two", "/three"] {
        let result = endpoint.get(path, &ask(10_000)).await;
        assert_eq!(result.expect_err("an hour"), FetchError::Status(429));
    }
    assert_eq!(log.len(), 1, "two were answered without asking");
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
    // Whoever asks next waits as long as is left of the second that was asked for.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = Instant::now();
    let (waits, wait) = (ask(10_000), ask(200));
    let later = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let no_time = endpoint.get("/five", &wait).await;
        assert_eq!(no_time.expect_err("no time to wait"), FetchError::Status(503));
        endpoint.get("/six", &waits).await
    };
    let (fourth, sixth) = tokio::join!(endpoint.get("/four", &waits), later);
    fourth.expect("after a second");
    sixth.expect("after the rest of it");
    assert!((1000..2000).contains(&second.elapsed().as_millis()), "{:?}", second.elapsed());
    assert_eq!(log.len(), 4);
}

/// Passes bytes on to a server, until told to keep quiet on all connections that there are.
struct Relay {
    address: SocketAddr,
    frozen: watch::Sender<bool>,
}

impl Relay {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind");
        let address = listener.local_addr().expect("address");
        let frozen = watch::Sender::new(false);
        let freezing = frozen.clone();
        tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let mut there = TcpStream::connect(server).await.expect("the server");
                let mut frozen = freezing.subscribe();
                frozen.mark_unchanged();
                tokio::spawn(async move {
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                        // What arrives is acknowledged by the kernel, and read by nobody.
                        _ = frozen.changed() => std::future::pending().await,
                    }
                });
            }
        });
        Self { address, frozen }
    }
}

#[tokio::test]
async fn o2_a_connection_whose_peer_has_vanished_costs_an_attempt_and_no_more() {
    let log = Log::default();
    let router = scripted(&log, |_, _| reply(200, &[], "here"));
    let server = tls_server(router, &["localhost"]).await;
    let relay = Relay::to(server.address).await;
    let mut config = config(&format!("https://localhost:{}", relay.address.port()));
    config.ca_pem = Some(server.ca_pem.into_bytes());
    let endpoint = Endpoint::new(config).expect("endpoint");
    endpoint.get("/", &ask(5000)).await.expect("there");
    relay.frozen.send_replace(true);
    let start = Instant::now();
    let answer = endpoint.get("/", &ask(9000)).await.expect("over a new connection");
    assert_eq!(answer.body, "here");
    assert!(start.elapsed() < Duration::from_secs(8), "{:?}", start.elapsed());
}

#[tokio::test]
async fn o2_a_connection_that_breaks_is_retried() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counter = connections.clone();
    let address = raw_server(move |mut stream| {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        async move {
            if !first {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nhere").await;
            }
        }
    })
    .await;
    let answer = endpoint(address).get("/", &ask(5000)).await.expect("second time");
    assert_eq!((answer.body.as_ref(), connections.load(Ordering::SeqCst)), (&b"here"[..], 2));
}

#[tokio::test]
async fn a_refused_connection_is_reported_as_such() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").expect("bind");
    let address = gone.local_addr().expect("address");
    drop(gone);
    let result = endpoint(address).get("/", &ask(5000)).await.expect_err("refused");
    assert!(matches!(result, FetchError::Connect(_)), "{result}");
}

#[tokio::test]
async fn statuses_are_told_apart_and_final_ones_not_retried() {
    let log = Log::default();
    let router = scripted(&log, |_, seen| {
        reply(seen.uri.trim_start_matches('/').parse().expect("a status"), &[], "")
    });
    let endpoint = endpoint(plain_server(router).await);
    for (path, error) in [
        ("/401", FetchError::Unauthorized),
        ("/403", FetchError::Status(403)),
        ("/404", FetchError::NotFound),
        ("/501", FetchError::Status(501)),
        ("/304", FetchError::Status(304)),
    ] {
        assert_eq!(endpoint.get(path, &ask(5000)).await.expect_err(path), error);
    }
    assert_eq!(log.len(), 5);
    assert_eq!(endpoint.head("/204", &ask(5000)).await.expect("success").status, 204);
}

#[tokio::test]
async fn t16_paths_never_leave_their_place() {
    let log = Log::default();
    let endpoint = endpoint(plain_server(scripted(&log, |_, _| reply(200, &[], ""))).await);
    for path in [
        "",
        "v2/",
        "/v2/../admin",
        "/v2/%2e%2e/admin",
        "/v2/%2E./admin",
        "/v2/./a",
        "/v2\\a",
        "/v2/a\0b",
        "/v2/a#b",
        "/v2/a b",
        "/v2/a\nb",
        "/v2/é",
        "http://other.example/",
    ] {
        let result = endpoint.get(path, &ask(5000)).await;
        assert_eq!(result.expect_err(path), FetchError::InvalidPath(path.to_owned()));
    }
    assert_eq!(log.len(), 0);
    // Two slashes are a path of this server, not another server.
    endpoint.get("//other.example/%20?a=b%20c", &ask(5000)).await.expect("here");
    assert_eq!(log.all()[0].uri, "//other.example/%20?a=b%20c");
}
