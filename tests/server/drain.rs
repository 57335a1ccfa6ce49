//! O5: not ready, then drained, and no connection is reset.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;

use crate::harness::{Pair, builder, client, start};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn o5_a_shutdown_answers_everything_that_has_begun() {
    let pair = Pair::new();
    let mut server = start(&pair, |_, _| {});
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
    let slow = (0..40).map(|n| server.post(if n % 2 == 0 { &kept } else { &fresh }, "/slow", ""));
    assert!(join_all(slow).await.iter().all(|answer| answer == "done"));
    assert!(begun.elapsed() > Duration::from_secs(1), "they ended after the listener did");

    let served = tokio::time::timeout(Duration::from_secs(5), &mut server.served).await;
    assert!(served.unwrap().unwrap().is_ok(), "it ends by itself");
    let gone = client(&[&pair]).post(server.url("/fast")).send().await;
    assert!(gone.unwrap_err().is_connect());
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
