//! Mirrors: the next is asked where one is down, slow, lies or has less.

use std::time::Duration;

use tokio::time::Instant;

use crate::server::{Manner, Server};
use crate::signer;
use crate::updates::updates;
use crate::world::{MINUTE, World, bin, bins, newer, signing, two_tags};

#[tokio::test]
async fn t6_the_next_mirror_is_asked_where_one_is_down_lies_or_has_less() {
    let mut repo = signing();
    let old = repo.seal();
    repo.rotate();
    newer(&mut repo, 2);
    let files = repo.seal();
    let good = Server::with(&files).await;
    for manner in [Manner::Page, Manner::Status(500), Manner::Status(404), Manner::Status(403)] {
        let bad = Server::with(&files).await;
        bad.answers(manner);
        let world = World::new(vec![bad.url(), good.url()], &files, Duration::ZERO);
        assert_eq!(world.code("1.4", "new").await, "ok", "{manner:?}");
        bad.asked();
        assert_eq!(world.code("1.4", "new").await, "ok", "{manner:?}");
        assert_eq!(bad.asked(), [""; 0], "the one that served is asked first");
    }
    // Files of another repository, and a timestamp that nobody trusted has signed.
    let mut unsigned = signing();
    unsigned.timestamp.signers = vec![signer::Signer::default()];
    let mut half = files.clone();
    half.roles.insert("targets".to_owned(), signing().seal().roles["targets"].clone());
    for lies in [signing().seal(), unsigned.seal(), half] {
        let bad = Server::with(&lies).await;
        let world = World::new(vec![bad.url(), good.url()], &files, MINUTE);
        assert_eq!(world.code("1.4", "new").await, "ok");
    }
    // One that is behind what was seen.
    let behind = Server::with(&files).await;
    let world = World::new(vec![behind.url(), good.url()], &files, Duration::ZERO);
    assert_eq!(world.code("1.4", "new").await, "ok");
    behind.serve(&old);
    behind.asked();
    assert_eq!(world.code("1.4", "new").await, "ok");
    assert!(!behind.asked().is_empty());
    assert_eq!(updates(&world.repositories)[2], 0);
}

#[tokio::test]
async fn t6_a_bin_that_a_mirror_forges_is_had_from_the_next() {
    let files = bins(&[("a", "new")]).seal();
    let mut forged = files.clone();
    forged.roles.insert(bin("a"), bins(&[("a", "evil")]).seal().roles[&bin("a")].clone());
    let (bad, good) = (Server::with(&forged).await, Server::with(&files).await);
    let world = World::new(vec![bad.url(), good.url()], &files, MINUTE);
    assert_eq!(world.code("a", "new").await, "ok");
    let alone = World::new(vec![bad.url()], &files, MINUTE);
    assert_eq!(alone.code("a", "new").await, "MalformedMetadata");
    assert_eq!(alone.code("a", "evil").await, "MalformedMetadata");
}

#[tokio::test]
async fn t6_what_is_bad_everywhere_does_not_hide_what_one_mirror_has() {
    let (one, other) = two_tags();
    let mut repo = bins(&[(one, "new"), (other, "old")]);
    // Signed by nobody who may.
    repo.roles.get_mut(&bin(one)).expect("a bin").signers = vec![signer::Signer::default()];
    let files = repo.seal();
    let mut forged = files.clone();
    forged.roles.insert(bin(other), bins(&[]).seal().roles[&bin(other)].clone());
    let (bad, good) = (Server::with(&forged).await, Server::with(&files).await);
    let world = World::new(vec![bad.url(), good.url()], &files, MINUTE);
    assert_eq!(world.code(one, "new").await, "ThresholdNotMet");
    assert_eq!(world.code(other, "old").await, "ok");
}

#[tokio::test]
async fn t6_t9_a_mirror_that_hangs_or_drips_leaves_the_next_its_time() {
    let files = signing().seal();
    for manner in [Manner::Silent, Manner::Slow] {
        let (bad, good) = (Server::with(&files).await, Server::with(&files).await);
        bad.answers(manner);
        let world = World::new(vec![bad.url(), good.url()], &files, MINUTE);
        let begun = Instant::now();
        assert_eq!(world.code("1.4", "new").await, "ok", "{manner:?}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

#[tokio::test]
async fn t9_slow_servers_alone_are_cut_at_the_deadline() {
    let files = signing().seal();
    let server = Server::with(&files).await;
    server.answers(Manner::Slow);
    let world = World::new(vec![server.url()], &files, MINUTE);
    let begun = Instant::now();
    assert_eq!(world.code("1.4", "new").await, "SourceUnavailable");
    assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
}
