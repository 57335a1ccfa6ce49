//! Target files: what is fetched, verified and stored.

use std::fs;

use serde_json::json;

use crate::builder::{hex, sha256, sha512};
use crate::simulator::prefixed;
use crate::{ALL, Client, Simulator, start};

fn signing(targets: &[(&str, &str)]) -> (Simulator, Client) {
    let (mut simulator, client) = start();
    for (name, content) in targets {
        simulator.sign("targets", name, content.as_bytes());
    }
    simulator.publish_next(&ALL);
    (simulator, client)
}

fn stored(targets: &[(&str, &str)]) -> Vec<(String, String)> {
    targets.iter().map(|(name, content)| ((*name).to_owned(), (*content).to_owned())).collect()
}

#[test]
fn a_target_is_stored_under_its_escaped_name_and_not_fetched_again() {
    let (simulator, client) = signing(&[("path/to/a/file.txt", "content")]);
    client.refresh(&simulator).succeeds();
    assert_eq!(client.stored(), []);
    let said = client.download(&simulator, &["path/to/a/file.txt"]).succeeds();
    assert!(said.contains("7 bytes, signed by targets"), "{said}");
    let name = "path%2Fto%2Fa%2Ffile.txt";
    assert_eq!(client.stored(), stored(&[(name, "content")]));
    assert_eq!(simulator.asked_targets().len(), 1);
    let said = client.download(&simulator, &["path/to/a/file.txt"]).succeeds();
    assert!(said.contains("was there already"), "{said}");
    assert_eq!(simulator.asked_targets().len(), 0);
    // What is there and is not it, is replaced: another content, and another length.
    for other in ["tnetnoc", "much longer", ""] {
        fs::write(client.path("targets").join(name), other).expect("written");
        client.download(&simulator, &["path/to/a/file.txt"]).succeeds();
        assert_eq!(client.stored(), stored(&[(name, "content")]));
    }
}

#[test]
fn t7_another_file_than_was_signed_is_not_stored() {
    let (simulator, client) = signing(&[("a", "content"), ("b", "another")]);
    client.download(&simulator, &["a"]).succeeds();
    for (name, content) in [("a", "content"), ("b", "another")] {
        for malicious in ["tnetnoc", "malicious and longer", ""] {
            let path = prefixed(name, &hex(&sha256(content.as_bytes())));
            simulator.serve_target(&path, malicious.as_bytes());
            let ended = client.download(&simulator, &[name]);
            if name == "b" {
                ended.fails(&["b", "than was signed"]);
            }
            assert_eq!(client.stored(), stored(&[("a", "content")]), "nor a part of it");
        }
    }
}

#[test]
fn a_changed_target_replaces_the_one_before() {
    let (mut simulator, client) = signing(&[("file", "content 0")]);
    for number in 1..=4 {
        let content = format!("content {number}");
        simulator.sign("targets", "file", content.as_bytes());
        simulator.publish_next(&ALL);
        // Not every version is seen.
        if number % 2 == 0 {
            client.download(&simulator, &["file"]).succeeds();
            assert_eq!(client.stored(), stored(&[("file", &content)]));
        }
    }
}

#[test]
fn every_listed_hash_has_to_match_and_one_has_to_be_known() {
    let content = b"content";
    let (sha256, sha512) = (hex(&sha256(content)), hex(&sha512(content)));
    for (hashes, by) in [
        (&["sha256"][..], Some(&sha256)),
        (&["sha512"], Some(&sha512)),
        (&["sha256", "sha512"], Some(&sha256)),
        (&["blake3"], None),
    ] {
        let (mut simulator, client) = start();
        simulator.list("targets", "folder/file", content, hashes);
        for hash in [&sha256, &sha512] {
            simulator.serve_target(&prefixed("folder/file", hash), content);
        }
        simulator.publish_next(&ALL);
        let ended = client.download(&simulator, &["folder/file"]);
        match by {
            Some(hash) => {
                ended.succeeds();
                assert_eq!(simulator.asked_targets(), [prefixed("folder/file", hash)]);
            }
            None => {
                ended.fails(&["lists no hash", "sha256, sha512"]);
                assert_eq!(client.stored(), []);
            }
        }
        // The other hash is another file's.
        if hashes.len() == 2 {
            let entry = &mut simulator.repo.role("targets").signed["targets"]["folder/file"];
            entry["hashes"]["sha512"] = json!("ab".repeat(64));
            simulator.publish_next(&ALL);
            client.download(&simulator, &["folder/file"]).fails(&["than was signed"]);
        }
    }
}

#[test]
fn t16_a_target_s_name_leads_nowhere_else() {
    for (name, served, file) in [
        ("a b", "HASH.a%20b", "a%20b"),
        ("ü/ö", "%C3%BC/HASH.%C3%B6", "%C3%BC%2F%C3%B6"),
        ("x?y#z", "HASH.x%3Fy%23z", "x%3Fy%23z"),
        ("a%2Fb", "HASH.a%252Fb", "a%252Fb"),
        ("a+b@c:1", "HASH.a+b@c:1", "a%2Bb%40c%3A1"),
        ("/etc/file", "/etc/HASH.file", "%2Fetc%2Ffile"),
        ("..", "HASH...", "%2E%2E"),
        (".", "HASH..", "%2E"),
        ("a\u{1}b", "HASH.a%01b", "a%01b"),
    ] {
        let (mut simulator, client) = start();
        simulator.list("targets", name, b"content", &["sha256"]);
        simulator.serve_target(&served.replace("HASH", &hex(&sha256(b"content"))), b"content");
        simulator.publish_next(&ALL);
        client.download(&simulator, &[name]).succeeds();
        assert_eq!(client.stored(), stored(&[(file, "content")]), "{name}");
    }
    for name in ["../up", "a/../../b", "a/./b", "%2e%2e/../x"] {
        let (mut simulator, client) = start();
        simulator.list("targets", name, b"content", &["sha256"]);
        simulator.publish_next(&ALL);
        client.download(&simulator, &[name]).fails(&["not a plain absolute path"]);
        assert_eq!(simulator.asked_targets(), [""; 0], "{name}");
        assert_eq!(client.stored(), []);
    }
    let (mut simulator, client) = start();
    let long = "x".repeat(256);
    simulator.list("targets", &long, b"content", &["sha256"]);
    simulator.list("targets", "", b"content", &["sha256"]);
    simulator.publish_next(&ALL);
    client.download(&simulator, &[&long]).fails(&["too long for a file"]);
    client.download(&simulator, &[""]).fails(&["it is empty"]);
}

#[test]
fn several_targets_are_stored_in_their_order_up_to_the_first_that_fails() {
    let (simulator, client) = signing(&[("a", "1"), ("b", "2"), ("c", "3")]);
    client.download(&simulator, &["b", "nobody's", "a"]).fails(&["nobody's"]);
    assert_eq!(client.stored(), stored(&[("b", "2")]));
    simulator.asked();
    client.download(&simulator, &["c", "b", "a"]).succeeds();
    let hash = |content: &str, name| {
        format!("targets/{}", prefixed(name, &hex(&sha256(content.as_bytes()))))
    };
    // One update, and nothing that is there already.
    let asked =
        ["2.root.json".to_owned(), "timestamp.json".to_owned(), hash("3", "c"), hash("1", "a")];
    assert_eq!(simulator.asked(), asked);
}

#[test]
fn mounted_mirrors_do_as_well() {
    let (simulator, client) = signing(&[("folder/a b", "content")]);
    let place = tempfile::tempdir().expect("a folder");
    for name in ["1.root.json", "timestamp.json", "2.snapshot.json", "2.targets.json"] {
        fs::write(place.path().join(name), simulator.served(name)).expect("written");
    }
    fs::create_dir(place.path().join("folder")).expect("a folder");
    let file = place.path().join(prefixed("folder/a b", &hex(&sha256(b"content"))));
    let url = format!("file://{}", place.path().display());
    let targets = client.path("targets");
    let run = || {
        client.run(&[
            "--metadata-url",
            &url,
            "--target-base-url",
            &url,
            "--target-dir",
            targets.to_str().expect("text"),
            "--target-name",
            "folder/a b",
            "download",
        ])
    };
    run().fails(&["folder/", "not found"]);
    fs::write(&file, "content and more").expect("written");
    run().fails(&["longer than the 7 bytes"]);
    fs::write(&file, "content").expect("written");
    run().succeeds();
    assert_eq!(client.stored(), stored(&[("folder%2Fa%20b", "content")]));
}

#[test]
fn a_folder_for_targets_that_is_not_there_is_said_before_anybody_is_asked() {
    let (simulator, client) = signing(&[("a", "1")]);
    fs::remove_dir(client.path("targets")).expect("removed");
    client.download(&simulator, &["a"]).fails(&["--target-dir", "make it first"]);
    assert_eq!(simulator.asked(), [""; 0]);
}

#[test]
fn t16_no_target_takes_the_place_of_what_is_trusted() {
    let (simulator, client) = signing(&[("root.json", "a target")]);
    fs::remove_dir(client.path("targets")).expect("removed");
    let (metadata, targets) = (client.path("metadata"), client.path("targets"));
    std::os::unix::fs::symlink(&metadata, &targets).expect("a link");
    let root = client.kept("root");
    client.download(&simulator, &["root.json"]).fails(&["--target-dir", "--metadata-dir"]);
    assert_eq!(client.kept("root"), root);
}
