//! One update: requests, files, and what is refused.

use serde_json::{Value, json};

use crate::builder::hex;
use crate::{ALL, Client, FIRST, Simulator, start, start_with};

#[test]
fn a_refresh_asks_in_the_specification_s_order_and_keeps_every_byte() {
    let (simulator, client) = start();
    let mut spaced = simulator.served("timestamp.json");
    spaced.push(b' ');
    simulator.serve("timestamp.json", &spaced);
    assert_eq!(client.trusted(), "root 1");
    client.refresh(&simulator).succeeds();
    assert_eq!(simulator.asked(), FIRST);
    for (role, name) in [("root", "1.root"), ("snapshot", "1.snapshot"), ("targets", "1.targets")] {
        assert_eq!(client.kept(role), Some(simulator.served(&format!("{name}.json"))), "{role}");
    }
    assert_eq!(client.kept("timestamp"), Some(spaced));
    // Unchanged, it costs two requests.
    client.refresh(&simulator).succeeds();
    assert_eq!(simulator.asked(), FIRST[..2]);
}

#[test]
fn without_consistent_snapshots_only_roots_have_versions_in_their_names() {
    let mut simulator = Simulator::new();
    simulator.repo.consistent = false;
    simulator.publish_next(&["root"]);
    let (mut simulator, client) = start_with(simulator);
    client.refresh(&simulator).succeeds();
    let asked = ["2.root.json", "3.root.json", "timestamp.json", "snapshot.json", "targets.json"];
    assert_eq!(simulator.asked(), asked);
    simulator.list("targets", "folder/file", b"content", &["sha256"]);
    simulator.serve_target("folder/file", b"content");
    simulator.publish_next(&ALL);
    client.download(&simulator, &["folder/file"]).succeeds();
    assert_eq!(simulator.asked_targets(), ["folder/file"]);
}

#[test]
fn a_download_updates_first() {
    let (simulator, client) = start();
    client.download(&simulator, &["nobody's"]).fails(&["no role", "nobody's"]);
    assert_eq!(simulator.asked(), FIRST);
    assert_eq!(client.trusted(), "root 1, snapshot 1, targets 1, timestamp 1");
}

#[test]
fn t15_what_is_no_root_is_not_begun_with_and_nobody_is_asked() {
    let simulator = Simulator::new();
    let root: Value = serde_json::from_slice(&simulator.first_root()).expect("JSON");
    let (mut versionless, mut unsigned) = (root.clone(), root.clone());
    versionless["signed"].as_object_mut().expect("an object").remove("version");
    unsigned["signatures"][0]["sig"] = json!("ab".repeat(64));
    for (bytes, word) in [
        (versionless.to_string(), "version"),
        (unsigned.to_string(), "0 of 1 signatures"),
        ("<html></html>".to_owned(), "HTML"),
        (String::new(), "cannot be trusted"),
    ] {
        let client = Client::new();
        client.init(bytes.as_bytes()).fails(&["is no root to begin with", word]);
        client.refresh(&simulator).fails(&["init ROOT.json"]);
        // As if it had been begun with all the same.
        std::fs::create_dir_all(client.path("metadata")).expect("a folder");
        client.keep("root", bytes.as_bytes());
        client.refresh(&simulator).fails(&["not a root that this command wrote"]);
    }
    assert_eq!(simulator.asked(), [""; 0]);
}

/// The roles that are kept when one is bad.
const BEFORE: [(&str, &str); 4] = [
    ("root", "root 1"),
    ("timestamp", "root 2"),
    ("snapshot", "root 2, timestamp 2"),
    ("targets", "root 2, snapshot 2, timestamp 2"),
];

#[test]
fn t1_a_role_without_its_signature_ends_the_update_and_what_was_verified_before_it_is_kept() {
    for (role, trusted) in BEFORE {
        let (mut simulator, client) = start();
        simulator.repo.rotate();
        simulator.repo.role(role).signers.clear();
        simulator.publish_next(&ALL);
        client.refresh(&simulator).fails(&[role, "signatures that it needs", "root.json"]);
        assert_eq!(client.trusted(), trusted, "{role}");
    }
}

#[test]
fn t7_a_file_of_another_version_than_its_name_s_is_refused() {
    for (role, trusted) in BEFORE.into_iter().filter(|(role, _)| *role != "timestamp") {
        let (mut simulator, client) = start();
        simulator.publish_next(&["root", "targets", "snapshot", "timestamp"]);
        let name = format!("2.{role}.json");
        let served: Value = serde_json::from_slice(&simulator.served(&name)).expect("JSON");
        let mut other = simulator.repo.role(role).clone();
        other.signed = served["signed"].clone();
        other.signed["version"] = json!(3);
        simulator.serve(&name, &other.seal());
        client.refresh(&simulator).fails(&[role, "version 3"]);
        assert_eq!(client.trusted(), trusted, "{role}");
    }
}

#[test]
fn t7_a_file_of_another_hash_or_length_than_is_listed_is_refused() {
    for (member, value) in [("hashes", json!({"sha256": hex(&[7; 32])})), ("length", json!(7))] {
        let (mut simulator, client) = start();
        simulator.repo.hashes = true;
        simulator.publish_next(&ALL);
        client.refresh(&simulator).succeeds();
        for role in ALL {
            simulator.bump(role);
        }
        let edit = |snapshot: &mut Value| snapshot["meta"]["targets.json"][member] = value;
        simulator.publish_with(edit, |_| {});
        client.refresh(&simulator).fails(&["targets"]);
        assert_eq!(client.trusted(), "root 1, snapshot 3, targets 2, timestamp 3");
    }
}

#[test]
fn a_timestamp_of_the_same_version_is_not_taken() {
    let (mut simulator, client) = start();
    client.refresh(&simulator).succeeds();
    let before = client.kept("timestamp");
    let edit = |timestamp: &mut Value| timestamp["meta"]["snapshot.json"]["version"] = json!(100);
    simulator.publish_with(|_| {}, edit);
    simulator.asked();
    client.refresh(&simulator).succeeds();
    assert_eq!(simulator.asked(), FIRST[..2]);
    assert_eq!(client.kept("timestamp"), before);
}

#[test]
fn a_missing_file_ends_the_update_and_what_was_verified_before_it_is_kept() {
    for (listed, file, trusted) in [
        ("timestamp", "timestamp.json", "root 1, snapshot 1, targets 1, timestamp 1"),
        ("snapshot", "2.snapshot.json", "root 1, snapshot 1, targets 1, timestamp 2"),
        ("targets", "2.targets.json", "root 1, snapshot 2, targets 1, timestamp 2"),
    ] {
        let (mut simulator, client) = start();
        client.refresh(&simulator).succeeds();
        simulator.publish_next(&ALL);
        simulator.stop_serving(file);
        simulator.asked();
        client.refresh(&simulator).fails(&[listed, "does not have it"]);
        assert_eq!(simulator.asked().last().map(String::as_str), Some(file));
        assert_eq!(client.trusted(), trusted);
    }
}

#[test]
fn t15_a_role_s_file_is_not_another_role_s() {
    let (mut simulator, client) = start();
    // A snapshot that would do as a timestamp, and is signed by its key as well.
    simulator.repo.snapshot_key = simulator.repo.timestamp_key.clone();
    simulator.repo.rotate();
    simulator.publish_next(&["snapshot"]);
    let mut snapshot = simulator.repo.snapshot.clone();
    snapshot.signed["meta"] = json!({"snapshot.json": {"version": 1}});
    simulator.serve("timestamp.json", &snapshot.seal());
    client.refresh(&simulator).fails(&["timestamp", "_type"]);
    assert_eq!(client.trusted(), "root 2");
}

#[test]
fn t15_unknown_members_are_signed_with_the_rest_and_harm_nobody() {
    let (mut simulator, client) = start();
    simulator.repo.rotate();
    let root = &mut simulator.repo.role("root").signed;
    root["custom-field"] = json!("value");
    root["roles"]["root"]["another-field"] = json!({"a": [1, 2]});
    for (_, key) in root["keys"].as_object_mut().expect("an object").iter_mut() {
        // Of TUF before 1.0: it decides nothing.
        key["keyid_hash_algorithms"] = json!("md5");
    }
    simulator.publish();
    client.refresh(&simulator).succeeds();
    assert_eq!(client.trusted(), "root 2, snapshot 1, targets 1, timestamp 1");
}

#[test]
fn broken_files_of_an_earlier_run_are_fetched_anew() {
    let (simulator, client) = start();
    client.refresh(&simulator).succeeds();
    simulator.asked();
    for role in ["timestamp", "snapshot", "targets"] {
        let good = client.kept(role).expect("kept");
        for bad in ["", "<html>", "{\"signatures\": [], \"signed\": {}}"] {
            client.keep(role, bad.as_bytes());
            client.refresh(&simulator).succeeds();
            assert_eq!(client.kept(role), Some(good.clone()), "{role} {bad}");
        }
        let mut changed = good.clone();
        let digit = changed.iter().rposition(u8::is_ascii_digit).expect("a digit");
        changed[digit] = if changed[digit] == b'9' { b'8' } else { b'9' };
        client.keep(role, &changed);
        client.refresh(&simulator).succeeds();
        assert_eq!(client.kept(role), Some(good), "{role}");
    }
}

#[test]
fn an_url_that_answers_pages_is_told_as_such() {
    let (simulator, client) = start();
    let page = b"<!DOCTYPE html><title>It works!</title>";
    simulator.serve("2.root.json", page);
    client.refresh(&simulator).fails(&["HTML", "not that of metadata", "/metadata/"]);
    let url = "ftp://tuf.example.com/";
    client.run(&["--metadata-url", url, "refresh"]).fails(&["--metadata-url", url]);
    simulator.stop_serving("2.root.json");
    assert_eq!(client.trusted(), "root 1");
}

#[test]
fn anything_less_than_done_is_1() {
    let client = Client::new();
    client.run(&["refresh"]).fails(&["--metadata-url"]);
    client.run(&["--metadata-url", "http://127.0.0.1:1/", "refresh"]).fails(&["init"]);
    client.run(&["--metadata-url", "no URL", "refresh"]).fails(&["no URL"]);
    client.run(&["publish"]).fails(&["publish"]);
    client.run(&["init", "nowhere.json"]).fails(&["nowhere.json"]);
    let (_, client) = start();
    let nobody = ["--metadata-url", "http://127.0.0.1:1/", "refresh"];
    client.run(&nobody).fails(&["http://127.0.0.1:1/2.root.json", "no connection"]);
    client.run(&["--help"]).succeeds();
}
