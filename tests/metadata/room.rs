//! What updates hold of files while they run.

use futures_util::FutureExt as _;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use futures_util::stream::FuturesUnordered;

use super::*;

/// Repositories beside the huge ones.
const SMALL: &str = "registry.example.com/payments/small";
const LARGE: &str = "registry.example.com/payments/large";

/// Of repositories with a file of this length a host may have three, and not four.
const HUGE_BYTES: usize = 15 << 20;

/// And one of this length beside them.
const LARGE_BYTES: usize = 5 << 20;

#[tokio::test]
async fn t2_k10_what_updates_hold_is_bounded_and_no_host_keeps_others_from_updating() {
    let (hostile, other) = (Server::start().await, Server::start().await);
    let (repositories, mut huge) = (in_process(), sound());
    huge.set("targets", "comment", json!("x".repeat(HUGE_BYTES)));
    hostile.serve(GUN, &huge.seal());
    hostile.withholds(true);
    let begin = |number: u8| {
        let mut live = live(&hostile, GUN, &huge.pin(), MINUTE);
        let source = Arc::make_mut(&mut live.source);
        (source.name, source.fingerprint) = (format!("notary-{number}"), [number; 32]);
        let repositories = repositories.clone();
        let update = async move { repositories.update(&live, "payments").await };
        tokio::spawn(update).map(|ended| ended.expect("no panic"))
    };
    let mut updates: FuturesUnordered<_> = (0..6).map(begin).collect();
    // While the others wait for their last byte, these find no room.
    for _ in 0..3 {
        let ended = tokio::time::timeout(Duration::from_secs(8), updates.next()).await;
        let refusal = ended.expect("at once").expect("an update").expect_err("no room");
        assert_eq!(refusal, Refusal::from(Unavailable::Overloaded));
    }
    // Files of the usual length need none, wherever they are, and there is some for another's.
    let others = [(&other, GUN, 6, 0), (&hostile, SMALL, 7, 0), (&hostile, LARGE, 8, LARGE_BYTES)];
    for (server, gun, number, bytes) in others {
        let mut small = Repo::new(gun);
        small.targets(&[("1.0", "old")]);
        small.set("targets", "comment", json!("x".repeat(bytes)));
        server.serve_too(gun, &small.seal());
        let mut live = live(server, gun, &small.pin(), MINUTE);
        let source = Arc::make_mut(&mut live.source);
        (source.name, source.fingerprint) = (format!("notary-{number}"), [number; 32]);
        repositories.update(&live, "payments").await.expect("verified");
    }
    hostile.withholds(false);
    while let Some(ended) = updates.next().await {
        ended.expect("had room");
    }
    // No refusal left a trace, and all room is free again.
    for ended in join_all((9..12).map(begin)).await {
        ended.expect("has room");
    }
}
