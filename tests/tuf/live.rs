//! Live repositories: what they cost, whom they answer, and what holds when servers do not.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign::metadata::MemoryStore;
use countersign_verify::limits;
use countersign_verify::outcome::{Denial, Refusal};
use serde_json::json;
use url::Url;

use super::*;
use crate::builder::Files;
use crate::server::{Manner, named};
use crate::shell::{find, tags};
use crate::updates::updates;
use crate::world::{MINUTE, World, bin, bins, newer, signing, two_tags};

#[tokio::test]
async fn an_unchanged_repository_costs_two_requests() {
    let files = signing().seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, Duration::ZERO);
    assert_eq!(world.code("1.4", "new").await, "ok");
    assert_eq!(server.asked().len(), 4);
    for _ in 0..2 {
        assert_eq!(world.code("1.4", "new").await, "ok");
        let asked: BTreeSet<String> = server.asked().into_iter().collect();
        assert_eq!(asked, ["2.root.json", "timestamp.json"].map(String::from).into());
    }
    assert_eq!(updates(&world.repositories), [2, 1, 0]);
}

#[tokio::test]
async fn a_warm_review_asks_for_nothing_and_an_unknown_tag_only_once() {
    let files = signing().seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    assert_eq!(world.code("1.4", "new").await, "ok");
    server.asked();
    assert_eq!(world.code("1.4", "other").await, "DigestMismatch");
    assert_eq!(world.code("1.5", "new").await, "Unsigned");
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn what_people_sign_is_forecast_of_the_one_repository_of_a_source() {
    let mut repo = signing();
    repo.set("targets", "expires", json!("2030-01-02T00:00:00Z"));
    let files = repo.seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    assert_eq!(world.code("1.4", "new").await, "ok");
    let next = world.repositories.by_source()["tuf"].next.clone().expect("targets expire");
    assert_eq!((&*next.role, &*next.repository), ("targets", "*"));
    assert_eq!(next.at.to_string(), "2030-01-02T00:00:00Z");
}

#[tokio::test]
async fn of_bins_a_review_loads_its_own_and_the_set_keeps_what_it_has() {
    let (one, other) = two_tags();
    let files = bins(&[(one, "new"), (other, "old")]).seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    assert_eq!(world.code(one, "new").await, "ok");
    let asked = server.asked();
    assert_eq!(asked.iter().filter(|name| name.contains("bin-")).count(), 1, "{asked:?}");
    assert_eq!(world.code(other, "old").await, "ok");
    assert_eq!(server.asked(), [format!("1.{}.json", bin(other))], "nothing else is fetched");
    assert_eq!(world.code(one, "new").await, "ok");
    assert_eq!(world.code(other, "old").await, "ok");
    assert_eq!(server.asked(), [""; 0]);
}

#[tokio::test]
async fn a_refresh_keeps_the_bins_that_did_not_change_and_those_that_did_are_loaded_again() {
    let (one, other) = two_tags();
    let mut repo = bins(&[(one, "new"), (other, "old")]);
    let files = repo.seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, Duration::ZERO);
    assert_eq!(world.code(one, "new").await, "ok");
    assert_eq!(world.code(other, "old").await, "ok");
    let signers = repo.roles[&bin(other)].signers.clone();
    repo.set_role(&bin(other), &[(other, "newer")], &signers);
    for role in ["timestamp", "snapshot", &*bin(other)] {
        repo.set(role, "version", json!(2));
    }
    server.serve(&repo.seal());
    server.asked();
    assert_eq!(world.code(one, "new").await, "ok");
    let asked = server.asked();
    assert!(asked.iter().all(|name| !name.contains("bin-")), "{asked:?}");
    assert_eq!(world.code(other, "newer").await, "ok");
    assert!(server.asked().contains(&format!("2.{}.json", bin(other))));
}

#[tokio::test]
async fn o6_a_thousand_callers_cause_one_update_and_one_load_of_what_is_missing() {
    let (one, other) = two_tags();
    let files = bins(&[(one, "new"), (other, "old")]).seal();
    let server = Server::with(&files).await;
    let world = Arc::new(World::new(vec![server.url()], &files, MINUTE));
    for (tag, word, requests) in [(one, "new", 5), (other, "old", 1)] {
        let asking = (0..1000).map(|_| {
            let world = Arc::clone(&world);
            async move { world.code(tag, word).await }
        });
        let codes = futures_util::future::join_all(asking).await;
        assert!(codes.iter().all(|code| *code == "ok"));
        assert_eq!(server.asked().len(), requests);
    }
}

#[tokio::test]
async fn who_asks_for_many_bins_at_once_gets_them_in_a_few_updates() {
    let names: Vec<String> = (0..200).map(|number| format!("tag-{number}")).collect();
    let targets: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "new")).collect();
    let files = bins(&targets).seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    let codes =
        futures_util::future::join_all(names.iter().map(|tag| world.code(tag, "new"))).await;
    assert!(codes.iter().all(|code| *code == "ok"), "{codes:?}");
    assert_eq!(server.asked().len(), 4 + 16, "every file once");
}

#[tokio::test]
async fn a_bin_that_is_not_there_harms_its_own_names_only_and_is_asked_for_again() {
    let (one, other) = two_tags();
    let files = bins(&[(one, "new"), (other, "old")]).seal();
    let mut without = files.clone();
    without.roles.remove(&bin(other));
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &without);
    // A folder in its place cannot be read.
    let missing = folder.path().join(format!("1.{}.json", bin(other)));
    std::fs::create_dir(&missing).expect("made");
    let url = Url::from_file_path(folder.path()).expect("a URL");
    let world = World::new(vec![url], &files, MINUTE);
    assert_eq!(world.code(other, "old").await, "SourceUnavailable");
    assert_eq!(world.code(one, "new").await, "ok");
    assert_eq!(world.code(other, "old").await, "SourceUnavailable");
    std::fs::remove_dir(&missing).expect("removed");
    write(folder.path(), &files);
    assert_eq!(world.code(other, "old").await, "SourceUnavailable", "for a second");
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(world.code(other, "old").await, "ok");
}

fn write(folder: &std::path::Path, files: &Files) {
    for (name, bytes) in named(files) {
        std::fs::write(folder.join(name), bytes).expect("written");
    }
}

#[tokio::test]
async fn t8_rollback_is_refused_in_the_process_after_a_restart_and_by_another_replica() {
    let mut repo = signing();
    let old = repo.seal();
    newer(&mut repo, 2);
    let files = repo.seal();
    let server = Server::with(&files).await;
    let folder = tempfile::tempdir().expect("a folder");
    let of_a_process = || {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        World::remembering(memory, vec![server.url()], &files, Duration::ZERO)
    };
    let (first, replica) = (of_a_process(), of_a_process());
    assert_eq!(first.code("1.4", "new").await, "ok");
    server.serve(&old);
    // The set at hand goes on; nothing older is taken.
    assert_eq!(first.code("1.4", "new").await, "ok");
    assert_eq!(updates(&first.repositories)[2], 1);
    for other in [replica, of_a_process()] {
        match other.ask("1.4").await.expect_err("older") {
            Refusal::Denied(Denial::Rollback { role, found: 1, remembered: 2 }) => {
                assert_eq!(role, "timestamp");
            }
            refusal => panic!("{refusal:?}"),
        }
    }
}

#[tokio::test]
async fn t8_a_set_that_another_replica_has_passed_does_not_answer() {
    let mut repo = signing();
    let old = repo.seal();
    newer(&mut repo, 2);
    let files = repo.seal();
    let (behind, ahead) = (Server::with(&old).await, Server::with(&files).await);
    let folder = tempfile::tempdir().expect("a folder");
    let at = |server: &Server| {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        World::remembering(memory, vec![server.url()], &files, Duration::ZERO)
    };
    let first = at(&behind);
    assert_eq!(first.code("1.4", "new").await, "ok");
    assert_eq!(at(&ahead).code("1.4", "new").await, "ok");
    let refused = async {
        loop {
            match first.code("1.4", "new").await {
                // An update in the background had begun before.
                "SourceUnavailable" => tokio::time::sleep(Duration::from_millis(100)).await,
                code => return code,
            }
        }
    };
    let code = tokio::time::timeout(Duration::from_secs(20), refused).await;
    assert_eq!(code.expect("an update after that"), "Rollback");
}

#[tokio::test]
async fn t8_a_verified_step_sticks_while_what_follows_it_is_not_to_be_had() {
    let mut repo = signing();
    let server = Server::with(&repo.seal()).await;
    let world = World::new(vec![server.url()], &repo.seal(), Duration::from_secs(1));
    assert_eq!(world.code("1.4", "new").await, "ok");
    repo.set_role("targets", &[("1.4", "newer")], &[repo.targets_key.clone()]);
    newer(&mut repo, 2);
    server.serve(&repo.seal());
    server.answers(Manner::SilentOn("snapshot.json"));
    // It is refreshed within its second, and the timestamp taken.
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Longer than a review is patient with what hangs.
    let old = tokio::time::timeout(Duration::from_secs(3), world.ask("1.4")).await;
    assert!(old.is_err(), "a set answered that is not the newest timestamp's");
    server.answers(Manner::Honest);
    assert_eq!(world.code("1.4", "newer").await, "ok");
}

#[tokio::test]
async fn t4_rotated_keys_are_followed_and_what_the_old_ones_signed_is_no_floor() {
    let mut repo = signing();
    newer(&mut repo, 1 << 40);
    let first = repo.seal();
    let server = Server::with(&first).await;
    let world = World::new(vec![server.url()], &first, Duration::ZERO);
    assert_eq!(world.code("1.4", "new").await, "ok");
    repo.timestamp_key = signer::Signer::default();
    repo.snapshot_key = signer::Signer::default();
    repo.rotate();
    newer(&mut repo, 2);
    server.serve(&repo.seal());
    assert_eq!(world.code("1.4", "new").await, "ok");
    assert_eq!(updates(&world.repositories)[2], 0);
}

#[tokio::test]
async fn t21_a_root_that_is_another_than_the_remembered_one_of_its_version_is_malformed() {
    let files = signing().seal();
    let server = Server::with(&files).await;
    let folder = tempfile::tempdir().expect("a folder");
    let of_a_process = || {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        World::remembering(memory, vec![server.url()], &files, MINUTE)
    };
    assert_eq!(of_a_process().code("1.4", "new").await, "ok");
    let (found, seen) = (files.initial().anchor(), "0".repeat(64));
    let kept = std::fs::read_dir(folder.path()).expect("a folder").flatten();
    let kept =
        kept.map(|entry| entry.path()).find(|path| path.extension() == Some("json".as_ref()));
    let kept = kept.expect("remembered");
    let mut checkpoint: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&kept).expect("read")).expect("JSON");
    checkpoint["memory"]["root"]["sha256"] = json!(seen);
    std::fs::write(&kept, checkpoint.to_string()).expect("written");
    match of_a_process().ask("1.4").await.expect_err("contradicted") {
        Refusal::Denied(Denial::MalformedMetadata { file, reason }) => {
            assert_eq!(file, "root");
            assert!(reason.contains(&found) && reason.contains(&seen), "{reason}");
        }
        refusal => panic!("{refusal:?}"),
    }
}

#[tokio::test]
async fn an_initial_root_that_is_older_than_what_was_seen_is_fine() {
    let mut repo = signing();
    repo.rotate();
    repo.rotate();
    let files = repo.seal();
    let server = Server::with(&files).await;
    let folder = tempfile::tempdir().expect("a folder");
    for _ in 0..2 {
        let memory = MemoryStore::in_folder(folder.path()).expect("a store");
        let world = World::remembering(memory, vec![server.url()], &files, MINUTE);
        assert_eq!(files.initial().version(), 1);
        assert_eq!(world.code("1.4", "new").await, "ok");
    }
}

#[tokio::test]
async fn what_is_loaded_later_makes_a_set_no_younger() {
    let (one, other) = two_tags();
    let files = bins(&[(one, "new"), (other, "old")]).seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    assert_eq!(world.code(one, "new").await, "ok");
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(world.code(other, "old").await, "ok");
    assert!(world.repositories.by_source()["tuf"].oldest >= Duration::from_millis(300));
}

#[tokio::test]
async fn a_page_at_the_url_is_told_as_one() {
    let files = signing().seal();
    let server = Server::with(&files).await;
    server.answers(Manner::Page);
    let world = World::new(vec![server.url()], &files, MINUTE);
    match world.ask("1.4").await.expect_err("a page") {
        Refusal::Denied(Denial::MalformedMetadata { file, reason }) => {
            assert_eq!(file, "root");
            assert!(reason.contains("the URL is not that of metadata"), "{reason}");
        }
        refusal => panic!("{refusal:?}"),
    }
}

#[tokio::test]
async fn o1_while_updates_fail_the_set_answers_but_not_for_what_it_has_not_loaded() {
    let (one, other) = two_tags();
    let files = bins(&[(one, "new"), (other, "old")]).seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, Duration::ZERO);
    assert_eq!(world.code(one, "new").await, "ok");
    server.answers(Manner::Status(404));
    assert_eq!(world.code(one, "new").await, "ok");
    let refusal =
        world.ask(other).await.map(|set| set.tuf().map(|set| find(set, &tags(other), "old")));
    match refusal {
        Ok(Some(Err(_))) | Err(_) => {}
        other => panic!("{other:?}"),
    }
    server.answers(Manner::Honest);
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(world.code(other, "old").await, "ok");
}

#[tokio::test]
async fn t2_the_sum_of_a_repositorys_files_is_bounded() {
    let filler = "x".repeat(4_800_000);
    let mut repo = Repo::new();
    let key = signer::Signer::default();
    for number in 0..14 {
        let role = format!("team-{number:02}");
        repo.delegate(
            "targets",
            &role,
            json!({"paths": ["*/*/*/*"]}),
            std::slice::from_ref(&key),
            1,
        );
        repo.set_role(&role, &[], std::slice::from_ref(&key));
        repo.set(&role, "comment", json!(filler));
    }
    let files = repo.seal();
    let server = Server::with(&files).await;
    let world = World::new(vec![server.url()], &files, MINUTE);
    match world.ask("1.4").await.expect_err("too much") {
        Refusal::Denied(Denial::LimitExceeded { what, limit }) => {
            assert_eq!(limit, limits::TUF_REPOSITORY_BYTES, "{what}");
        }
        refusal => panic!("{refusal:?}"),
    }
}
