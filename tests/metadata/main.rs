//! Updates of live repositories, from servers on loopback.

// The verifier's tests make metadata in more ways than these need.
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../verify/tests/notary/builder.rs"]
mod builder;
#[allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used)]
#[path = "../../verify/tests/notary/signer.rs"]
mod signer;

mod documented;
mod forecast;
mod freshness;
mod outages;
mod patience;
mod room;
mod server;
mod sources;
mod tables;
mod updates;
mod world;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Once};
use std::time::Duration;

use countersign::api::{Connection, Source, SourceKind};
use countersign::clock::Clock;
use countersign::metadata::{Live, MemoryStore, Repositories};
use countersign_verify::notary::{Pin, Pins};
use countersign_verify::outcome::{Refusal, Unavailable};
use serde_json::json;

use builder::{GUN, Repo, now, pin};
use server::Server;
use signer::{Cert, Kind, Signer};

fn live(server: &Server, repository: &str, pin: &Pin, refresh_after: Duration) -> Live {
    let source = Source {
        name: "notary".to_owned(),
        fingerprint: [0; 32],
        kind: SourceKind::Notary { url: server.url(), pins: Arc::new(Pins(vec![pin.clone()])) },
        connection: Connection::default(),
        refresh_after,
        refuse_after: refresh_after,
    };
    Live::notary(Arc::new(source), repository.to_owned(), BTreeSet::new())
}

const MINUTE: Duration = Duration::from_secs(60);

fn repositories(memory: MemoryStore) -> Repositories {
    Repositories::new(memory, Arc::new(Clock::reading(now)))
}

fn in_process() -> Repositories {
    repositories(MemoryStore::in_process())
}

fn sound() -> Repo {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo
}

#[tokio::test]
async fn t12_unverified_targets_are_read_up_to_a_bound_and_then_as_long_as_listed() {
    let tags: Vec<String> = (0..6_000).map(|number| format!("{number:0100}")).collect();
    let tags: Vec<(&str, &str)> = tags.iter().map(|tag| (tag.as_str(), "image")).collect();
    let mut repo = Repo::new(GUN);
    repo.targets(&tags);
    let files = repo.seal();
    assert!(files.roles["targets"].len() > 1 << 20);
    let server = Server::start().await;
    server.serve(GUN, &files);
    let live = live(&server, GUN, &repo.pin(), MINUTE);
    let repository = in_process().update(&live, "payments").await.expect("verified");
    assert!(repository.bytes() > 1 << 20);
    let by_hash = |path: &String| path.contains("/targets.") && !path.ends_with("/targets.json");
    assert_eq!(server.asked().iter().filter(|path| by_hash(path)).count(), 1);
}

#[tokio::test]
async fn o6_k10_updates_that_run_and_wait_are_bounded_and_no_host_or_namespace_keeps_all() {
    let server = Server::start().await;
    server.hold();
    let repo = sound();
    let repositories = in_process();
    let begin = |namespace: &'static str, number: usize| {
        let live = live(&server, &format!("{GUN}/{number}"), &repo.pin(), MINUTE);
        let repositories = repositories.clone();
        tokio::spawn(async move { repositories.update(&live, namespace).await });
    };
    // Five files each: root, timestamp, snapshot, targets and targets/releases.
    let asked = async |updates: usize| {
        while server.asked().len() < updates * 5 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    // A host alone has half of the 32 turns and of the 1,024 places, a namespace half of those.
    (0..256).for_each(|number| begin("payments", number));
    asked(8).await;
    let one_more = live(&server, GUN, &repo.pin(), MINUTE);
    let answer =
        tokio::time::timeout(Duration::from_secs(1), repositories.update(&one_more, "payments"));
    let refusal = answer.await.expect("at once").expect_err("no place");
    assert_eq!(refusal, Refusal::from(Unavailable::Overloaded));
    assert_eq!(server.asked().len(), 8 * 5);
    begin("another", 256);
    asked(9).await;
    // Nor does it wait in the other's queue for what is asked for there.
    begin("another", 255);
    asked(10).await;
    let other = Server::start().await;
    other.serve(GUN, &repo.seal());
    let mut elsewhere = live(&other, GUN, &repo.pin(), MINUTE);
    Arc::make_mut(&mut elsewhere.source).fingerprint = [1; 32];
    let answer =
        tokio::time::timeout(Duration::from_secs(5), repositories.update(&elsewhere, "payments"));
    answer.await.expect("another host's updates do not wait").expect("verified");
}

#[tokio::test]
async fn t8_a_set_that_another_process_has_passed_does_not_answer() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_a_process = || repositories(MemoryStore::in_folder(folder.path()).expect("a store"));
    let mut repo = sound();
    let (slow, newer) = (Server::start().await, Server::start().await);
    slow.serve(GUN, &repo.seal());
    slow.hold();
    repo.timestamp.signed["version"] = json!(2);
    newer.serve(GUN, &repo.seal());

    let first = {
        let (repositories, live) = (of_a_process(), live(&slow, GUN, &repo.pin(), MINUTE));
        tokio::spawn(async move { repositories.update(&live, "payments").await })
    };
    while slow.asked().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let live = live(&newer, GUN, &repo.pin(), MINUTE);
    of_a_process().update(&live, "payments").await.expect("the newer set");
    slow.release();
    match first.await.expect("no panic") {
        Err(Refusal::Unavailable(Unavailable::SourceUnavailable { cause, .. })) => {
            assert!(cause.contains("another process"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn t8_a_set_that_is_passed_while_it_is_refreshed_does_not_answer_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_a_process = || repositories(MemoryStore::in_folder(folder.path()).expect("a store"));
    let mut repo = sound();
    let (slow, newer) = (Server::start().await, Server::start().await);
    slow.serve(GUN, &repo.seal());
    let (first, at_slow) = (of_a_process(), live(&slow, GUN, &repo.pin(), Duration::ZERO));
    first.update(&at_slow, "payments").await.expect("the older set");
    slow.hold();
    repo.timestamp.signed["version"] = json!(2);
    newer.serve(GUN, &repo.seal());
    let asked = slow.asked().len();
    let refreshing = {
        let (first, live) = (first.clone(), at_slow.clone());
        tokio::spawn(async move { first.update(&live, "payments").await })
    };
    while slow.asked().len() == asked {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let at_newer = live(&newer, GUN, &repo.pin(), MINUTE);
    of_a_process().update(&at_newer, "payments").await.expect("the newer set");
    slow.release();
    assert!(refreshing.await.expect("no panic").is_err(), "its timestamp is as it was");
    assert!(first.at_deadline(&at_slow).is_err());
}

#[tokio::test]
async fn t8_a_set_that_another_process_has_passed_does_not_answer_where_nothing_can_be_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let of_a_process = || repositories(MemoryStore::in_folder(folder.path()).expect("a store"));
    let mut repo = sound();
    let server = Server::start().await;
    server.serve(GUN, &repo.seal());
    let mut live = live(&server, GUN, &repo.pin(), Duration::from_secs(2));
    Arc::make_mut(&mut live.source).refuse_after = 60 * MINUTE;
    let (first, other) = (of_a_process(), of_a_process());
    first.update(&live, "payments").await.expect("the oldest set");
    let mut publish = |version: u64| {
        repo.timestamp.signed["version"] = json!(version);
        server.serve(GUN, &repo.seal());
    };
    publish(2);
    other.update(&live, "payments").await.expect("a newer set");
    publish(3);
    let locks: Vec<std::fs::File> = std::fs::read_dir(folder.path())
        .expect("a folder")
        .flatten()
        .filter(|file| file.path().extension().is_some_and(|ending| ending == "lock"))
        .map(|file| std::fs::File::open(file.path()).expect("opened"))
        .collect();
    locks.iter().for_each(|lock| lock.lock().expect("locked"));
    // They are due.
    tokio::time::sleep(Duration::from_secs(2)).await;
    first.update(&live, "payments").await.expect_err("passed by what the other remembered");
    // What nobody could remember passes nothing.
    other.update(&live, "payments").await.expect("the set at hand");
}

#[tokio::test]
async fn a_set_that_lacks_a_role_for_the_moment_is_not_kept() {
    let mut repo = sound();
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let mut files = repo.seal();
    let whole = files.clone();
    files.roles.remove("targets/releases");
    let server = Server::start().await;
    server.serve(GUN, &files);
    let (repositories, live) = (in_process(), live(&server, GUN, &repo.pin(), MINUTE));
    let repository = repositories.update(&live, "payments").await.expect("answers");
    assert!(!repository.is_complete());
    assert!(repositories.current(&live).is_none());
    server.serve(GUN, &whole);
    let asked = server.asked().len();
    assert!(!repositories.update(&live, "payments").await.expect("answers").is_complete());
    assert_eq!(server.asked().len(), asked, "for a second it is not asked for again");
    let complete = async {
        while !repositories.update(&live, "payments").await.expect("answers").is_complete() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), complete).await.expect("soon");
    assert!(repositories.current(&live).is_some());
}

thread_local! {
    static LOG: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// What the test on this thread logs. One subscriber for all of them: an event that was first
/// reached where there is none is never told to one that another thread has.
struct Log;

impl Log {
    fn start() {
        static START: Once = Once::new();
        // Spans are no lines of the log, as the program sets it up.
        START.call_once(|| {
            tracing_subscriber::fmt()
                .with_env_filter("info,countersign::span=off")
                .with_ansi(false)
                .with_writer(|| Self)
                .init()
        });
    }

    fn text() -> String {
        LOG.with_borrow(|bytes| String::from_utf8(bytes.clone()).expect("text"))
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.with_borrow_mut(|log| log.extend_from_slice(bytes));
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_pin_that_is_behind_is_logged_once() {
    Log::start();
    let keys = [0; 2].map(|_| Signer::x509(Kind::P256, &Cert::named(GUN)));
    let mut repo = Repo::with_keys(keys[0].clone(), [Kind::P256; 3].map(Signer::new));
    let mut root = repo.root(2, &[keys[1].clone()], 1);
    root.signers.push(keys[0].clone());
    repo.roots.insert(2, root);
    repo.targets(&[("1.0", "old")]);
    let server = Server::start().await;
    server.serve(GUN, &repo.seal());
    let live = live(&server, GUN, &pin(&[&keys[0]], 1), Duration::ZERO);
    let repositories = in_process();
    for _ in 0..2 {
        repositories.update(&live, "payments").await.expect("verified");
    }
    let log = Log::text();
    assert_eq!(log.matches("is behind").count(), 1, "{log}");
}
