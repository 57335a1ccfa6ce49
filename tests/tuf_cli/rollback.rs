//! T8: nothing goes back, unless a newer root rotates the keys.

use serde_json::json;

use crate::signer::Signer;
use crate::{ALL, Client, FIRST, Simulator, start};

/// A client that has seen version `version` of a role, and the others' that list it.
fn seen(role: &str, version: u64, hashes: bool) -> (Simulator, Client) {
    let (mut simulator, client) = start();
    simulator.repo.hashes = hashes;
    for role in ALL {
        simulator.repo.set(role, "version", json!(2));
    }
    simulator.repo.set(role, "version", json!(version));
    simulator.publish();
    client.refresh(&simulator).succeeds();
    simulator.asked();
    (simulator, client)
}

#[test]
fn t8_no_role_goes_back_whether_it_is_listed_with_its_hash_or_not() {
    for hashes in [false, true] {
        for (role, last) in [
            ("timestamp", "timestamp.json"),
            ("snapshot", "timestamp.json"),
            ("targets", "3.snapshot.json"),
        ] {
            let (mut simulator, client) = seen("timestamp", 2, hashes);
            let before = client.trusted();
            for listing in ["snapshot", "timestamp"] {
                simulator.repo.set(listing, "version", json!(3));
            }
            simulator.repo.set(role, "version", json!(1));
            simulator.publish();
            client.refresh(&simulator).fails(&[role, "went back to version 1", "version 2"]);
            assert_eq!(simulator.asked().last().map(String::as_str), Some(last), "{role}");
            let kept = if role == "targets" {
                before.replace("timestamp 2", "timestamp 3")
            } else {
                before
            };
            assert_eq!(client.trusted(), kept, "{role}");
        }
    }
}

#[test]
fn t8_a_snapshot_that_no_timestamp_lists_is_not_looked_at() {
    let (mut simulator, client) = seen("timestamp", 2, false);
    // Another snapshot, served and not listed.
    let timestamp = simulator.served("timestamp.json");
    simulator.publish_next(&["snapshot"]);
    simulator.serve("timestamp.json", &timestamp);
    client.refresh(&simulator).succeeds();
    assert_eq!(simulator.asked(), FIRST[..2]);
    assert_eq!(client.trusted(), "root 1, snapshot 2, targets 2, timestamp 2");
}

#[test]
fn t8_no_role_leaves_the_snapshot() {
    let (mut simulator, client) = start();
    simulator.repo.delegated("targets", "team", &["*"], &[]);
    simulator.publish_next(&ALL);
    client.download(&simulator, &["file"]).fails(&["no role"]);
    assert_eq!(client.trusted(), "root 1, snapshot 2, targets 2, team 1, timestamp 2");
    for role in ["snapshot", "timestamp"] {
        simulator.bump(role);
    }
    let remove = |snapshot: &mut serde_json::Value| {
        snapshot["meta"].as_object_mut().expect("an object").remove("team.json");
    };
    simulator.publish_with(remove, |_| {});
    client.refresh(&simulator).fails(&["team went back to version 0"]);
}

#[test]
fn t4_rotated_keys_bring_back_what_was_fast_forwarded() {
    for role in ["timestamp", "snapshot", "targets"] {
        let (mut simulator, client) = seen(role, 99_999, false);
        assert!(client.trusted().contains(&format!("{role} 99999")));
        // A version of the timestamp hangs on its own key, a snapshot's on the timestamp's, a
        // targets role's on the snapshot's.
        let Simulator { repo, .. } = &mut simulator;
        match role {
            "timestamp" => repo.timestamp_key = Signer::default(),
            "snapshot" => {
                repo.timestamp_key = Signer::default();
                repo.snapshot_key = Signer::default();
            }
            _ => repo.snapshot_key = Signer::default(),
        }
        for role in ALL {
            repo.set(role, "version", json!(3));
        }
        repo.set(role, "version", json!(1));
        repo.rotate();
        simulator.publish();
        client.refresh(&simulator).succeeds();
        assert!(client.trusted().contains(&format!("{role} 1")), "{role}");
    }
}

#[test]
fn t4_the_highest_version_there_is_overflows_nothing() {
    let (simulator, client) = seen("timestamp", u64::MAX, false);
    client.refresh(&simulator).succeeds();
    assert!(client.trusted().contains(&format!("timestamp {}", u64::MAX)));
}
