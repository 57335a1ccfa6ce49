//! T5: what has expired is not accepted, and still is a floor.

use std::thread::sleep;
use std::time::Duration;

use jiff::{Span, Timestamp};
use serde_json::json;

use crate::simulator::hours;
use crate::{ALL, start};

#[test]
fn t5_an_expired_role_is_refused_and_not_kept() {
    for (role, trusted) in [
        ("timestamp", "root 2, snapshot 1, targets 1, timestamp 1"),
        ("snapshot", "root 2, snapshot 1, targets 1, timestamp 2"),
        ("targets", "root 2, snapshot 2, targets 1, timestamp 2"),
    ] {
        let (mut simulator, client) = start();
        simulator.publish_next(&["root"]);
        client.refresh(&simulator).succeeds();
        simulator.repo.set(role, "expires", json!(hours(-1)));
        simulator.publish_next(&ALL);
        client.refresh(&simulator).fails(&[role, "expired at", "clock"]);
        assert_eq!(client.trusted(), trusted, "{role}");
    }
}

#[test]
fn t5_an_expired_root_is_kept_and_ends_the_update() {
    let (mut simulator, client) = start();
    client.refresh(&simulator).succeeds();
    simulator.repo.rotate();
    simulator.repo.set("root", "expires", json!(hours(-1)));
    simulator.publish_next(&ALL);
    simulator.asked();
    client.refresh(&simulator).fails(&["root expired at"]);
    assert_eq!(simulator.asked(), ["2.root.json", "3.root.json"]);
    assert_eq!(client.trusted(), "root 2, snapshot 1, targets 1, timestamp 1");
    // Only the last one's expiry counts.
    simulator.publish_next(&["root"]);
    client.refresh(&simulator).succeeds();
    assert_eq!(client.trusted(), "root 3, snapshot 2, targets 2, timestamp 2");
}

/// In two seconds: enough for an update.
fn soon() -> Timestamp {
    Timestamp::now() + Span::new().seconds(2)
}

fn until_past(time: Timestamp) {
    while Timestamp::now() <= time {
        sleep(Duration::from_millis(50));
    }
}

#[test]
fn t5_what_expired_here_is_asked_for_again_and_a_newer_one_taken() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let (mut simulator, client) = start();
        simulator.repo.rotate();
        let expires = soon();
        simulator.repo.set(role, "expires", json!(expires));
        simulator.publish_next(&ALL);
        client.refresh(&simulator).succeeds();
        until_past(expires);
        client.refresh(&simulator).fails(&[role, "expired at"]);
        simulator.publish_next(&ALL);
        simulator.repo.set(role, "expires", json!(hours(1)));
        simulator.publish_next(&["root", "targets", "snapshot", "timestamp"]);
        client.refresh(&simulator).succeeds();
        assert_eq!(client.trusted(), "root 3, snapshot 4, targets 4, timestamp 4", "{role}");
    }
}

#[test]
fn t5_t8_an_expired_timestamp_is_a_floor_all_the_same() {
    let (mut simulator, client) = start();
    simulator.publish_next(&["timestamp"]);
    let expires = soon();
    simulator.repo.set("timestamp", "expires", json!(expires));
    simulator.publish_next(&["timestamp"]);
    client.refresh(&simulator).succeeds();
    until_past(expires);
    simulator.repo.set("timestamp", "expires", json!(hours(1)));
    simulator.repo.set("timestamp", "version", json!(2));
    simulator.publish();
    client.refresh(&simulator).fails(&["timestamp went back to version 2"]);
    assert_eq!(client.trusted(), "root 1, snapshot 1, targets 1, timestamp 3");
}

#[test]
fn t5_an_expired_delegated_role_harms_its_own_targets() {
    let (mut simulator, client) = start();
    simulator.repo.delegated("targets", "team", &["team/*"], &[]);
    simulator.sign("team", "team/file", b"team's");
    simulator.sign("targets", "file", b"everybody's");
    simulator.repo.set("team", "expires", json!(hours(-1)));
    simulator.publish_next(&ALL);
    client.refresh(&simulator).succeeds();
    client.download(&simulator, &["file", "team/file"]).fails(&["team expired"]);
    assert_eq!(client.stored(), [("file".to_owned(), "everybody's".to_owned())]);
    assert_eq!(client.trusted(), "root 1, snapshot 2, targets 2, timestamp 2");
}

#[test]
fn t5_a_delegated_role_that_expired_here_is_asked_for_again() {
    let (mut simulator, client) = start();
    simulator.repo.delegated("targets", "team", &["team/*"], &[]);
    simulator.sign("team", "team/first", b"first");
    simulator.sign("team", "team/second", b"second");
    let expires = soon();
    simulator.repo.set("team", "expires", json!(expires));
    simulator.publish_next(&ALL);
    client.download(&simulator, &["team/first"]).succeeds();
    until_past(expires);
    client.download(&simulator, &["team/second"]).fails(&["team expired"]);
    simulator.repo.set("team", "expires", json!(hours(1)));
    simulator.publish_next(&["team", "snapshot", "timestamp"]);
    client.download(&simulator, &["team/second"]).succeeds();
    assert_eq!(client.stored().len(), 2);
    assert!(client.trusted().contains("team 2"));
}
