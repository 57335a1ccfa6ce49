//! O5: not ready, then drained, and no connection is reset.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::harness::{Pair, builder, client, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o5_a_shutdown_answers_everything_that_has_begun() {
    let pair = Pair::new();
    let mut server = start(&pair, |config, _| config.drain_delay = Duration::from_millis(900));
    let kept = builder(&[&pair]).build().unwrap();
    assert_eq!(server.post(&kept, "/fast", "x").await, "x");
    let begun = Instant::now();
    server.shutdown.take().unwrap().send(()).unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;

    let (status, reason) = server.probe("/readyz").await;
    assert_eq!(status, 503);
    assert!(reason.contains("shutting down"), "{reason}");
    assert_eq!(server.probe("/livez").await.0, 200);
    assert_eq!(server.post(&client(&[&pair]), "/fast", "new").await, "new");

    tokio::time::sleep(Duration::from_millis(200)).await;
    let fresh = client(&[&pair]);
    let slow = (0..10).map(|n| server.post(if n % 2 == 0 { &kept } else { &fresh }, "/slow", ""));
    assert!(join_all(slow).await.iter().all(|answer| answer == "done"));
    assert!(begun.elapsed() > Duration::from_secs(1), "they ended after the listener did");

    let served = tokio::time::timeout(Duration::from_secs(5), &mut server.served).await;
    assert!(served.unwrap().unwrap().is_ok(), "it ends by itself");
    let gone = client(&[&pair]).post(server.url("/fast")).send().await;
    assert!(gone.unwrap_err().is_connect());
}

/// Under load the API server would otherwise send requests into connections that just close.
#[tokio::test]
async fn o5_clients_let_go_of_their_connections_before_they_close() {
    let pair = Pair::new();
    let mut server = start(&pair, |config, _| config.drain_delay = Duration::from_secs(5));
    let shutdown = server.shutdown.take().unwrap();
    let client = builder(&[&pair]).http1_only().build().unwrap();
    let closes = async |path: &str| {
        let answer = client.post(server.url(path)).send().await.unwrap();
        answer.headers().get("connection").map(|value| value.to_str().unwrap().to_owned())
    };
    assert_eq!(closes("/fast").await, None);
    let begin = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        shutdown.send(()).unwrap();
    };
    // One that was asked before, too.
    assert_eq!(tokio::join!(closes("/slow"), begin).0.as_deref(), Some("close"));
    assert_eq!(closes("/fast").await.as_deref(), Some("close"));
    // HTTP/2 has no such header.
    let second = builder(&[&pair]).build().unwrap();
    let answer = second.post(server.url("/fast")).send().await.unwrap();
    assert_eq!(answer.version(), reqwest::Version::HTTP_2);
    assert!(!answer.headers().contains_key("connection"));
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_after_the_drain() {
    let pair = Pair::new();
    let mut server = start(&pair, |config, _| {
        config.drain_delay = Duration::ZERO;
        config.drain_timeout = Duration::from_millis(200);
    });
    let client = client(&[&pair]);
    let slow = client.post(server.url("/slow")).send();
    let stop = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        server.shutdown.take().unwrap().send(()).unwrap();
        let served = tokio::time::timeout(Duration::from_millis(700), &mut server.served).await;
        assert!(served.unwrap().unwrap().is_ok());
    };
    let (answer, ()) = tokio::join!(slow, stop);
    assert!(answer.is_err());
}
