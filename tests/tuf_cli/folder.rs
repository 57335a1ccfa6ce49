//! The folder between runs.

use std::fs::{self, File};

use serde_json::{Value, json};

use crate::{ALL, Client, Simulator, start};

#[test]
fn a_folder_begins_once() {
    let (mut simulator, client) = start();
    let first = simulator.first_root();
    let said = client.init(&first).succeeds();
    assert!(said.contains("root 1, sha256"), "{said}");
    // Another repository's, and an older one than is trusted: either would forget.
    let other = Simulator::new().first_root();
    client.init(&other).fails(&["has a root already", "forgets"]);
    simulator.publish_next(&["root"]);
    client.refresh(&simulator).succeeds();
    client.init(&first).fails(&["has a root already"]);
    assert_eq!(client.kept("root"), Some(simulator.served("2.root.json")));
}

#[test]
fn t11_a_folder_of_another_repository_is_told() {
    let (_, client) = start();
    let other = Simulator::new();
    client.refresh(&other).fails(&["timestamp", "0 of 1", "root.json of this repository?"]);
    assert_eq!(client.trusted(), "root 1");
}

#[test]
fn a_folder_that_is_not_ours_is_left_alone() {
    let simulator = Simulator::new();
    let client = Client::new();
    fs::create_dir(client.path("metadata")).expect("a folder");
    // As docker keeps it for Notary.
    let mut notary: Value = serde_json::from_slice(&simulator.first_root()).expect("JSON");
    notary["signed"]["_type"] = json!("Root");
    let notary = notary.to_string();
    client.keep("root", notary.as_bytes());
    for arguments in [&["--metadata-url", "http://127.0.0.1:1/", "refresh"][..], &["show"]] {
        client.run(arguments).fails(&["root.json is not a root that this command wrote", "Root"]);
    }
    client.init(&simulator.first_root()).fails(&["has a root already"]);
    assert_eq!(client.kept("root"), Some(notary.into_bytes()));
    // Nor is a file a folder.
    fs::remove_dir_all(client.path("metadata")).expect("removed");
    fs::write(client.path("metadata"), "a file").expect("written");
    client.init(&simulator.first_root()).fails(&["--metadata-dir has to be a folder"]);
    client.refresh(&simulator).fails(&["metadata"]);
}

#[test]
fn what_lies_at_a_file_s_name_and_is_none_is_ignored_or_told() {
    let (simulator, client) = start();
    fs::create_dir(client.path("metadata").join("snapshot.json")).expect("a folder");
    client.refresh(&simulator).fails(&["snapshot.json"]);
    assert_eq!(client.trusted(), "root 1, timestamp 1");
    fs::remove_dir(client.path("metadata").join("snapshot.json")).expect("removed");
    let pipe = client.path("metadata").join("targets.json");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status().expect("run");
    assert!(made.success());
    client.refresh(&simulator).succeeds();
    assert_eq!(client.kept("targets"), Some(simulator.served("1.targets.json")));
}

#[test]
fn a_folder_is_used_by_one_process_at_a_time() {
    let (simulator, client) = start();
    let lock = File::create(client.path("metadata").join(".lock")).expect("made");
    lock.lock().expect("locked");
    let letting_go = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(300));
        drop(lock);
    });
    let begun = std::time::Instant::now();
    client.refresh(&simulator).succeeds();
    assert!(begun.elapsed() >= std::time::Duration::from_millis(250), "{:?}", begun.elapsed());
    letting_go.join().expect("ended");
}

#[test]
fn nothing_half_written_is_left() {
    let (mut simulator, client) = start();
    simulator.sign("targets", "a", b"content");
    simulator.publish_next(&ALL);
    client.download(&simulator, &["a"]).succeeds();
    for (folder, wanted) in [("metadata", 5), ("targets", 1)] {
        let names = fs::read_dir(client.path(folder)).expect("a folder");
        let names: Vec<_> = names.map(|entry| entry.expect("an entry").file_name()).collect();
        assert_eq!(names.len(), wanted, "{names:?}");
    }
}
