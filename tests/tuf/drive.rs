//! One update from one place.

use std::time::Duration;

use countersign::metadata::tuf::{Drive, Mirror};
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use countersign_verify::tuf::{Repository, Update, file_name};
use tokio::time::Instant;

use super::*;
use crate::builder::{Files, path};
use crate::server::{Manner, named};

/// What an update of a tag's roles comes to.
struct Driven {
    repository: Result<Repository, Refusal>,
    taken: Vec<String>,
}

async fn drive(mirror: &Mirror, files: &Files, ahead: bool) -> Driven {
    let mut update = Update::new(&files.initial(), Memory::default(), now());
    update.want_target(&path("1.4"));
    let deadline = Instant::now() + Duration::from_secs(5);
    let drive = Drive { mirror, name: "mirror", room: None, deadline, ahead };
    let mut taken = Vec::new();
    let mut keep = |role: &str, bytes: &bytes::Bytes, _: &Memory| {
        taken.push(role.to_owned());
        let known = files.roles.get(role).is_some_and(|file| file == bytes);
        assert!(known || role == "root", "{role} byte for byte");
    };
    let driven = drive.run(&mut update, &mut keep).await;
    Driven { repository: driven.and_then(|()| update.finish()), taken }
}

fn at(server: &Server) -> Mirror {
    Mirror::plain(&server.url()).expect("a mirror")
}

fn delegating() -> Repo {
    let mut repo = Repo::new();
    repo.delegated(
        "targets",
        "team/a b",
        &["registry.example.com/payments/api/*"],
        &[("1.4", "new")],
    );
    repo
}

#[tokio::test]
async fn requests_are_in_the_specifications_order_and_one_at_a_time() {
    let mut repo = delegating();
    repo.rotate();
    let files = repo.seal();
    let server = Server::with(&files).await;
    let driven = drive(&at(&server), &files, false).await;
    driven.repository.expect("verified");
    let wanted = [
        "2.root.json",
        "3.root.json",
        "timestamp.json",
        "1.snapshot.json",
        "1.targets.json",
        "1.team%2Fa%20b.json",
    ];
    assert_eq!(server.asked(), wanted);
    assert_eq!(driven.taken, ["root", "timestamp", "snapshot", "targets", "team/a b"]);
}

#[tokio::test]
async fn ahead_of_its_turn_only_the_timestamp_is_fetched_and_once() {
    let mut repo = delegating();
    repo.rotate();
    let files = repo.seal();
    let server = Server::with(&files).await;
    let driven = drive(&at(&server), &files, true).await;
    driven.repository.expect("verified");
    let mut asked = server.asked();
    asked[..2].sort();
    assert_eq!(asked[..3], ["2.root.json", "timestamp.json", "3.root.json"]);
    assert_eq!(asked.len(), 6, "{asked:?}");
}

#[tokio::test]
async fn a_mounted_folder_is_as_good_as_a_server() {
    let files = delegating().seal();
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in named(&files) {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    assert!(folder.path().join(format!("1.{}.json", file_name("team/a b"))).exists());
    let url = url::Url::from_file_path(folder.path()).expect("a URL");
    let mirror = Mirror::plain(&url).expect("a mirror");
    drive(&mirror, &files, false).await.repository.expect("verified");
}

#[tokio::test]
async fn what_a_bucket_forbids_is_no_root() {
    let files = delegating().seal();
    let server = Server::with(&files).await;
    server.answers(Manner::Bucket);
    drive(&at(&server), &files, false).await.repository.expect("verified");
    server.answers(Manner::Status(403));
    let driven = drive(&at(&server), &files, false).await;
    match driven.repository.expect_err("no timestamp") {
        Refusal::Unavailable(Unavailable::SourceUnavailable { source_name, cause, .. }) => {
            assert_eq!((&*source_name, &*cause), ("mirror", "timestamp.json: status 403"));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_page_in_the_place_of_metadata_is_told_as_one() {
    let files = delegating().seal();
    let server = Server::with(&files).await;
    server.answers(Manner::Page);
    let driven = drive(&at(&server), &files, false).await;
    match driven.repository.expect_err("a page") {
        Refusal::Denied(Denial::MalformedMetadata { file, reason }) => {
            assert_eq!(file, "root");
            assert!(reason.contains("HTML"), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(driven.taken.is_empty());
}

#[tokio::test]
async fn t2_a_file_beyond_its_limit_is_not_read_to_its_end() {
    let mut files = delegating().seal();
    files.roles.insert("timestamp".to_owned(), vec![b' '; 16_385]);
    let named: std::collections::HashMap<_, _> =
        [("timestamp.json".to_owned(), files.roles["timestamp"].clone())].into();
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in named {
        std::fs::write(folder.path().join(name), bytes).expect("written");
    }
    let mirror = Mirror::Folder(folder.path().to_owned());
    match drive(&mirror, &files, false).await.repository.expect_err("too long") {
        Refusal::Denied(Denial::LimitExceeded { what, limit }) => {
            assert_eq!((&*what, limit), ("timestamp, in bytes,", 16_384));
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn t9_a_byte_a_second_is_cut_at_the_deadline() {
    let files = delegating().seal();
    let server = Server::with(&files).await;
    server.answers(Manner::Slow);
    let begun = Instant::now();
    let driven = drive(&at(&server), &files, false).await;
    assert!(matches!(driven.repository, Err(Refusal::Unavailable(_))), "{:?}", driven.repository);
    assert!(begun.elapsed() < Duration::from_secs(6));
}
