//! What becomes of what was verified when its source changes or goes.

use std::collections::BTreeMap;

use countersign::api::Credentials;
use countersign::metadata::Repository;
use countersign_verify::image::Pattern;
use tokio::task::JoinHandle;

use super::freshness::{HOUR, for_all};
use super::world::World;
use super::*;

/// The sources that there are from now on.
fn only(live: &Live) -> BTreeMap<String, Arc<Source>> {
    [(live.source.name.clone(), Arc::clone(&live.source))].into()
}

type Change<'c> = &'c dyn Fn(&mut Source);

/// The same repository in another version of its source.
fn changed(live: &Live, change: impl FnOnce(&mut Source)) -> Live {
    let mut live = live.clone();
    let source = Arc::make_mut(&mut live.source);
    source.fingerprint = [1; 32];
    change(source);
    live
}

fn pins(source: &mut Source) -> &mut Vec<Pin> {
    let SourceKind::Notary { pins, .. } = &mut source.kind else { panic!("of Notary") };
    &mut Arc::make_mut(pins).0
}

fn of(pin: Pin, pattern: &str) -> Pin {
    let repositories = vec![Pattern::parse(pattern).expect("a pattern")];
    Pin { name: pattern.to_owned(), repositories, ..pin }
}

#[tokio::test(start_paused = true)]
async fn o1_a_set_outlives_a_change_of_how_its_source_is_read() {
    let (repo, other) = (sound(), sound());
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    let live = changed(&world.live, |source| {
        source.connection.ca_pem = Some(Vec::new());
        source.connection.credentials = vec![Credentials {
            username: "countersign".to_owned(),
            password: "rotated".to_owned(),
            host: "notary.example.com".to_owned(),
        }];
        source.connection.unread = Some("Secret \"login\" is not there".to_owned());
        pins(source).push(of(other.pin(), "registry.example.com/another-team/**"));
        let more = of(repo.pin(), "registry.example.com/this-team/**").repositories;
        pins(source)[0].repositories.extend(more);
    });
    for _ in 0..2 {
        let (answer, waited) = world.ask_for(&live).await;
        assert!(answer.is_ok() && waited.is_zero());
        world.repositories.retain(&only(&live));
    }
    // What cannot be read any more is an outage like any other.
    world.pass(5 * MINUTE).await;
    world.ask_for(&live).await.0.expect("the set at hand");
    assert_eq!(world.repositories.by_source()["notary"].failing, 1);
    world.pass(24 * HOUR).await;
    assert_eq!(world.ask_for(&live).await.0.expect_err("too old").code(), "SourceStale");
}

#[tokio::test(start_paused = true)]
async fn t1_a_set_does_not_outlive_its_pin_or_server() {
    let (repo, other, wide) = (sound(), sound(), for_all());
    let moved = Server::start().await;
    moved.has_nothing();
    let changes: [(&Repo, Change<'_>, &str); 4] = [
        (&repo, &|source| pins(source).push(of(other.pin(), GUN)), "RootNotPinned"),
        (&repo, &|source| *pins(source) = vec![other.pin()], "RootNotPinned"),
        (&wide, &|source| *pins(source) = vec![of(wide.pin(), GUN)], "MalformedMetadata"),
        (
            &repo,
            &|source| {
                let SourceKind::Notary { url, .. } = &mut source.kind else { panic!("of Notary") };
                *url = moved.url();
            },
            "Unsigned",
        ),
    ];
    for (repo, change, code) in changes {
        let world = World::new(repo, 24 * HOUR).await;
        world.ask().await.0.expect("verified");
        let live = changed(&world.live, change);
        assert!(world.repositories.current(&live).is_none());
        assert!(world.repositories.at_deadline(&live).is_err());
        assert_eq!(world.ask_for(&live).await.0.expect_err("another pin").code(), code);
        // A review that began before goes by what it began with.
        assert!(world.repositories.current(&world.live).is_some());
        world.repositories.retain(&only(&live));
        assert!(world.repositories.by_source().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn t1_an_update_for_one_pin_does_not_answer_for_another() {
    let (repo, other) = (sound(), sound());
    let world = World::new(&repo, 24 * HOUR).await;
    world.server.hold();
    let [first, second] = [
        world.live.clone(),
        changed(&world.live, |source| pins(source).push(of(other.pin(), GUN))),
    ]
    .map(|live| begin(&world, live));
    world.until(|| world.server.asked().len() == 5).await;
    world.server.release();
    world.until(|| first.is_finished() && second.is_finished()).await;
    first.await.expect("no panic").expect("verified");
    let refusal = second.await.expect("no panic").expect_err("others' keys");
    assert_eq!(refusal.code(), "RootNotPinned");
}

#[tokio::test(start_paused = true)]
async fn k9_what_an_update_under_way_reads_of_a_source_that_is_gone_is_not_kept() {
    let repo = sound();
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    world.pass(MINUTE / 2).await;
    for known in [true, false] {
        world.server.hold();
        world.server.asked_since();
        tokio::time::advance(MINUTE).await;
        let update = begin(&world, world.live.clone());
        world.until(|| !world.server.asked().is_empty()).await;
        world.repositories.retain(&BTreeMap::new());
        world.server.release();
        world.until(|| update.is_finished()).await;
        assert!(world.repositories.by_source().is_empty(), "known before: {known}");
        world.server.asked_since();
        world.pass(2 * MINUTE).await;
        assert_eq!(world.server.asked_since(), [""; 0], "known before: {known}");
    }
}

fn begin(world: &World, live: Live) -> JoinHandle<Result<Arc<Repository>, Refusal>> {
    let repositories = world.repositories.clone();
    tokio::spawn(async move { repositories.update(&live, "payments").await })
}

#[tokio::test(start_paused = true)]
async fn o1_of_many_repositories_at_a_server_that_hangs_each_answers_without_a_wait() {
    let repo = for_all();
    let (files, world) = (repo.seal(), World::new(&repo, 24 * HOUR).await);
    let lives: Vec<Live> = (0..100)
        .map(|number| Live { repository: format!("{GUN}/{number}"), ..world.live.clone() })
        .collect();
    for live in &lives {
        world.server.serve_too(&live.repository, &files);
        world.repositories.update(live, "payments").await.expect("verified");
    }
    world.server.hold();
    let mut waits = Duration::ZERO;
    for _ in 0..18 {
        world.pass(Duration::from_secs(10)).await;
        for live in &lives {
            let (answer, waited) = world.ask_for(live).await;
            answer.expect("the set at hand");
            waits += waited;
        }
    }
    // The few that find it out.
    assert!(waits <= Duration::from_secs(8), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn t21_what_was_forgotten_by_hand_is_not_brought_back_by_a_set_at_hand() {
    let old = sound();
    let mut rotated = old.clone();
    let root = rotated.root(2, &[rotated.root_key.clone()], 1);
    rotated.roots.insert(2, root);
    let folder = tempfile::tempdir().expect("a folder");
    let memory = || MemoryStore::in_folder(folder.path()).expect("a store");
    let world = World::remembering(memory(), &rotated).await;
    world.ask().await.0.expect("verified");
    // Its owner has begun again.
    world.serve(&old.seal());
    world.pass(2 * MINUTE).await;
    let replica = async || repositories(memory()).update(&world.live, "payments").await;
    assert_eq!(replica().await.expect_err("older").code(), "Rollback");
    for file in std::fs::read_dir(folder.path()).expect("the folder").flatten() {
        if file.path().extension().is_some_and(|end| end == "json") {
            std::fs::remove_file(file.path()).expect("removed");
        }
    }
    world.pass(2 * MINUTE).await;
    replica().await.expect("forgotten by all");
    assert_eq!(world.sets().failing, 0);
}

#[tokio::test(start_paused = true)]
async fn t8_a_verified_step_takes_a_set_away_whose_memory_was_reset() {
    let repo = sound();
    let folder = tempfile::tempdir().expect("a folder");
    let memory = MemoryStore::in_folder(folder.path()).expect("a store");
    let world = World::remembering(memory, &repo).await;
    world.ask().await.0.expect("verified");
    for file in std::fs::read_dir(folder.path()).expect("the folder").flatten() {
        if file.path().extension().is_some_and(|end| end == "json") {
            std::fs::remove_file(file.path()).expect("removed");
        }
    }
    // A newer timestamp, whose snapshot is withheld.
    let mut newer = repo.clone();
    newer.set("timestamp", "version", json!(2));
    newer.set("snapshot", "version", json!(2));
    let mut files = newer.seal();
    files.snapshot = b"{}".to_vec();
    world.serve(&files);
    world.pass(2 * MINUTE).await;
    world.ask().await.0.expect_err("passed by what was verified");
}

#[tokio::test(start_paused = true)]
async fn k9_who_waits_for_a_turn_asks_nothing_of_a_source_that_has_gone_meanwhile() {
    let repo = for_all();
    let world = World::new(&repo, 24 * HOUR).await;
    for number in 0..40 {
        let live = Live { repository: format!("{GUN}/{number}"), ..world.live.clone() };
        world.server.serve_too(&live.repository, &repo.seal());
        world.ask_for(&live).await.0.expect("verified");
    }
    world.server.asked_since();
    world.server.hold();
    // All are due.
    tokio::time::advance(Duration::from_secs(54)).await;
    world.until(|| world.server.asked().len() == 16).await;
    world.repositories.retain(&BTreeMap::new());
    world.pass(MINUTE).await;
    assert_eq!(world.server.asked().len(), 16);
}
