//! What many share: replicas their memory, images one set, namespaces its updates.

use std::sync::Arc;
use std::time::Duration;

use countersign::api::SourceKind;
use countersign::metadata::{Live, MemoryStore, Repository, Want};
use countersign_verify::image::Reference;
use countersign_verify::outcome::Unavailable;
use countersign_verify::tuf::InitialRoot;
use futures_util::StreamExt as _;
use futures_util::future::ready;
use futures_util::stream::FuturesUnordered;
use serde_json::json;

use super::*;
use crate::builder::{Files, path};
use crate::server::Manner;
use crate::shell::tags;
use crate::signer::Signer;
use crate::world::{MINUTE, World, bin, bins, newer, signing, two_tags};

#[tokio::test]
async fn what_another_replica_verified_does_not_refuse_what_is_loaded_now() {
    let (one, other) = two_tags();
    let mut repo = bins(&[(one, "new"), (other, "old")]);
    let old = repo.seal();
    newer(&mut repo, 2);
    let files = repo.seal();
    let server = Server::with(&old).await;
    let folder = tempfile::tempdir().expect("a folder");
    let replica = || {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        World::remembering(memory, vec![server.url()], &files, MINUTE)
    };
    let (first, second) = (replica(), replica());
    assert_eq!(first.code(one, "new").await, "ok");
    server.serve(&files);
    assert_eq!(second.code(one, "new").await, "ok");
    assert_eq!(first.code(other, "old").await, "ok", "loaded by a whole update");
    assert_eq!(first.code(one, "new").await, "ok");
}

#[tokio::test]
async fn t21_what_was_forgotten_by_hand_is_not_brought_back_by_a_set_at_hand() {
    let (one, other) = two_tags();
    let mut repo = bins(&[(one, "new"), (other, "old")]);
    let old = repo.seal();
    newer(&mut repo, 9);
    let files = repo.seal();
    for refresh in [Duration::ZERO, MINUTE] {
        let server = Server::with(&files).await;
        let folder = tempfile::tempdir().expect("a folder");
        let replica = || {
            let memory = MemoryStore::in_folder(folder.path()).expect("a store");
            World::remembering(memory, vec![server.url()], &files, refresh)
        };
        let world = replica();
        assert_eq!(world.code(one, "new").await, "ok");
        for file in std::fs::read_dir(folder.path()).expect("the folder").flatten() {
            if file.path().extension().is_some_and(|end| end == "json") {
                std::fs::remove_file(file.path()).expect("removed");
            }
        }
        server.serve(&old);
        // A refresh, or the load of what the set lacks.
        assert_eq!(world.code(other, "old").await, "ok");
        assert_eq!(replica().code(one, "new").await, "ok", "a fresh replica: {refresh:?}");
    }
}

#[tokio::test]
async fn k10_however_many_wait_while_a_mirror_is_away_the_next_to_ask_begins_an_update() {
    let files = signing().seal();
    let server = Server::with(&files).await;
    server.answers(Manner::Status(503));
    let world = Arc::new(World::new(vec![server.url()], &files, MINUTE));
    let lookup = tags("1.4").lookup;
    let ask = |number: usize| {
        let world = Arc::clone(&world);
        let name = format!("registry.example.com/app-{number}:1");
        let reference = Reference::parse(&name).expect("a reference");
        let want = Want { lookup: Arc::clone(&lookup), reference };
        let live = Live::tuf(Arc::clone(&world.source), vec![want]);
        async move { world.repositories.update(&live, &format!("team-{}", number % 40)).await }
    };
    let refused = futures_util::future::join_all((0..2000).map(ask)).await;
    assert!(refused.iter().all(Result::is_err));
    server.answers(Manner::Honest);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(world.code("1.4", "new").await, "ok");
}

#[tokio::test]
async fn a_repository_that_has_moved_on_is_read_as_a_whole() {
    for consistent in [false, true] {
        let (one, other) = two_tags();
        let mut repo = bins(&[(one, "new"), (other, "old")]);
        repo.set("root", "consistent_snapshot", json!(consistent));
        let server = Server::with(&repo.seal()).await;
        let world = World::new(vec![server.url()], &repo.seal(), MINUTE);
        assert_eq!(world.code(one, "new").await, "ok");
        let signers = repo.roles[&bin(other)].signers.clone();
        repo.set_role(&bin(other), &[(other, "newer")], &signers);
        repo.set(&bin(other), "version", json!(2));
        newer(&mut repo, 2);
        server.serve(&repo.seal());
        assert_eq!(world.code(other, "newer").await, "ok", "consistent snapshots: {consistent}");
    }
}

#[tokio::test]
async fn k10_however_much_others_load_an_image_is_answered() {
    let filler = "x".repeat(4_800_000);
    let mut repo = bins(&[("a", "new")]);
    for digit in "0123456789abcdef".chars() {
        repo.set(&format!("bin-{digit}"), "comment", json!(filler));
    }
    let files = repo.seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    // All sixteen bins are more than one set may have: together, and one after the other.
    let names: Vec<String> = (0..100).map(|number| format!("tag-{number}")).collect();
    let (ours, others) = tokio::join!(
        world.code("a", "new"),
        futures_util::future::join_all(names.iter().map(|tag| world.code(tag, "new"))),
    );
    assert_eq!(ours, "ok");
    assert!(others.iter().all(|code| *code == "Unsigned"), "{others:?}");
    for tag in &names {
        assert_eq!(world.code(tag, "new").await, "Unsigned");
    }
    assert_eq!(world.code("a", "new").await, "ok");
}

#[tokio::test]
async fn k10_what_is_too_much_for_one_image_refuses_no_other_that_waits_with_it() {
    let filler = "x".repeat(4_800_000);
    let (mut repo, key) = (signing(), Signer::default());
    for number in 0..14 {
        let (role, keys) = (format!("team-{number:02}"), std::slice::from_ref(&key));
        repo.delegate("targets", &role, json!({"paths": [path("much")]}), keys, 1);
        repo.set_role(&role, &[], keys);
        repo.set(&role, "comment", json!(filler));
    }
    let files = repo.seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    let (much, little) = (world.live(&tags("much")), world.live(&tags("1.4")));
    let greedy = async {
        // On a busy machine not all of it is read in the time of one update.
        for _ in 0..5 {
            if let Err(refusal) = world.repositories.update(&much, "greedy").await {
                return refusal.code();
            }
        }
        "not in time"
    };
    let quiet = world.repositories.update(&little, "quiet");
    let (much, little) = tokio::join!(greedy, quiet);
    assert_eq!(much, "LimitExceeded");
    little.expect("its own update");
}

#[tokio::test]
async fn o1_who_joins_another_s_failing_update_is_answered_by_the_set_at_hand() {
    let (one, other) = two_tags();
    let files = bins(&[(one, "new"), (other, "old")]).seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, Duration::ZERO);
    assert_eq!(world.code(one, "new").await, "ok");
    server.answers(Manner::Status(503));
    let (unmet, met) = (world.live(&tags(other)), world.live(&tags(one)));
    let (unmet, met) = tokio::join!(
        world.repositories.update(&unmet, "greedy"),
        world.repositories.update(&met, "quiet"),
    );
    assert_eq!(unmet.expect_err("it is away").code(), "SourceUnavailable");
    met.expect("at hand");
}

#[tokio::test]
async fn t2_k10_what_updates_hold_is_bounded_and_what_finds_no_room_is_no_evidence() {
    let mut repo = signing();
    repo.set("targets", "comment", json!("x".repeat(4_900_000)));
    let files = repo.seal();
    let (server, second) = (Server::with(&files).await, Server::with(&files).await);
    server.answers(Manner::Withholding);
    let world = World::new(vec![server.url(), second.url()], &files, MINUTE);
    let question = tags("1.4");
    // As many as one host has turns for, and together more than one host may have of files.
    let update = |number: u8| {
        let mut source = (*world.source).clone();
        (source.name, source.fingerprint) = (format!("tuf-{number}"), [number; 32]);
        let (lookup, reference) = (Arc::clone(&question.lookup), question.reference.clone());
        let live = Live::tuf(Arc::new(source), vec![Want { lookup, reference }]);
        let repositories = world.repositories.clone();
        async move { repositories.update(&live, &format!("team-{number}")).await }
    };
    let mut updates: FuturesUnordered<_> = (0..16).map(update).collect();
    let ended = tokio::time::timeout(Duration::from_secs(4), updates.next()).await;
    let refusal = ended.expect("at once").expect("one").expect_err("no room");
    assert_eq!(refusal, Unavailable::Overloaded.into());
    assert!(second.asked().is_empty(), "another mirror's files need as much room");
    server.answers(Manner::Honest);
    assert!(updates.filter(|ended| ready(ended.is_ok())).count().await > 8);
    let again = futures_util::future::join_all((16..18).map(update)).await;
    assert!(again.iter().all(Result::is_ok), "all room is free again");
}

#[tokio::test]
async fn t8_another_initial_root_forgets_nothing() {
    let mut repo = signing();
    repo.rotate();
    newer(&mut repo, 3);
    let old = repo.seal();
    newer(&mut repo, 5);
    let files = repo.seal();
    let server = Server::with(&files).await;
    let folder = tempfile::tempdir().expect("a folder");
    let beginning_at = |root: &[u8]| {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        let mut world = World::remembering(memory, vec![server.url()], &files, MINUTE);
        let initial = InitialRoot::read(root).expect("a root");
        let source = Arc::make_mut(&mut world.source);
        let SourceKind::Tuf { initial: begin, .. } = &mut source.kind else { panic!("a kind") };
        *begin = Some(initial);
        world
    };
    assert_eq!(beginning_at(&files.roots[&1]).code("1.4", "new").await, "ok");
    server.serve(&old);
    assert_eq!(beginning_at(&files.roots[&2]).code("1.4", "new").await, "Rollback");
    // Of another chain.
    let mut other = signing();
    other.rotate();
    let other = other.seal();
    server.serve(&other);
    assert_eq!(beginning_at(&other.roots[&2]).code("1.4", "new").await, "MalformedMetadata");
}

#[tokio::test]
async fn t21_a_reset_after_another_root_of_the_same_version_is_honoured_by_who_has_the_former() {
    let mut repo = signing();
    let initial = repo.seal();
    repo.rotate();
    let mut other = repo.clone();
    other.set("root", "expires", json!("2033-01-01T00:00:00Z"));
    let server = Server::with(&repo.seal()).await;
    let folder = tempfile::tempdir().expect("a folder");
    let of_a_process = || {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        World::remembering(memory, vec![server.url()], &initial, Duration::ZERO)
    };
    let first = of_a_process();
    assert_eq!(first.code("1.4", "new").await, "ok");
    server.serve(&other.seal());
    assert_eq!(of_a_process().code("1.4", "new").await, "MalformedMetadata");
    for file in std::fs::read_dir(folder.path()).expect("a folder").flatten() {
        if file.path().extension().is_some_and(|ending| ending == "json") {
            std::fs::remove_file(file.path()).expect("deleted");
        }
    }
    assert_eq!(of_a_process().code("1.4", "new").await, "ok");
    let ends = |repository: &Repository| {
        let root = repository.roles().into_iter().find(|role| role.name == "root");
        root.expect("a root").state.expect("good").expires.to_string()
    };
    let recovered = async {
        while first.ask("1.4").await.is_ok_and(|set| ends(&set) != "2033-01-01T00:00:00Z") {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), recovered).await.expect("it begins anew");
    assert_eq!(first.code("1.4", "new").await, "ok");
}

#[tokio::test]
async fn a_wrong_initial_root_is_not_remembered() {
    let (files, others) = (signing().seal(), signing().seal());
    let server = Server::with(&files).await;
    let folder = tempfile::tempdir().expect("a folder");
    let at = |files: &Files| {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        World::remembering(memory, vec![server.url()], files, MINUTE)
    };
    assert_eq!(at(&others).code("1.4", "new").await, "ThresholdNotMet");
    assert_eq!(at(&files).code("1.4", "new").await, "ok");
}
