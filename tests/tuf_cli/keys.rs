//! T10 and T14: which keys count, and how often.

use serde_json::{Value, json};

use crate::signer::{KINDS, Signer};
use crate::{ALL, Simulator, start};

/// Lists keys for a role in the next root.
fn list(simulator: &mut Simulator, role: &str, keys: &[Signer], threshold: u64) {
    simulator.repo.rotate();
    let root = &mut simulator.repo.role("root").signed;
    for key in keys {
        root["keys"][&key.id] = key.json();
        root["roles"][role]["keyids"].as_array_mut().expect("a list").push(json!(key.id));
    }
    root["roles"][role]["threshold"] = json!(threshold);
}

#[test]
fn t10_fewer_signatures_than_the_threshold_are_not_enough() {
    let (mut simulator, client) = start();
    let keys = [Signer::default(), Signer::default()];
    list(&mut simulator, "snapshot", &keys, 3);
    simulator.repo.role("snapshot").signers.extend(keys);
    simulator.publish_next(&ALL);
    client.refresh(&simulator).succeeds();
    simulator.repo.role("snapshot").signers.pop();
    simulator.publish_next(&ALL);
    client.refresh(&simulator).fails(&["snapshot has 2 of 3 signatures"]);
    assert_eq!(client.trusted(), "root 2, snapshot 2, targets 2, timestamp 3");
}

#[test]
fn t10_a_threshold_that_no_number_of_its_keys_meets_is_never_met() {
    let (mut simulator, client) = start();
    let keys: Vec<Signer> = (0..4).map(|_| Signer::default()).collect();
    list(&mut simulator, "snapshot", &keys, 6);
    simulator.repo.role("snapshot").signers.extend(keys);
    simulator.publish_next(&ALL);
    client.refresh(&simulator).fails(&["snapshot has 5 of 6 signatures"]);
    assert_eq!(client.trusted(), "root 2, timestamp 2");
}

#[test]
fn t10_one_key_listed_or_signing_often_counts_once() {
    for twice_by_id in [false, true] {
        let (mut simulator, client) = start();
        let key = Signer::default();
        let ids = ["0".repeat(64), "1".repeat(64), "2".repeat(64)];
        let keys = match twice_by_id {
            true => vec![key.clone(); 3],
            false => ids.iter().map(|id| key.known_as(id)).collect(),
        };
        list(&mut simulator, "snapshot", &keys, 4);
        simulator.repo.role("snapshot").signers.extend(keys);
        simulator.publish_next(&ALL);
        client.refresh(&simulator).fails(&[]);
        assert_eq!(client.kept("snapshot"), None);
    }
}

#[test]
fn two_signatures_of_one_key_id_are_refused_though_the_threshold_is_met() {
    let (simulator, client) = start();
    let mut snapshot: Value =
        serde_json::from_slice(&simulator.served("1.snapshot.json")).expect("JSON");
    let signature = snapshot["signatures"][0].clone();
    snapshot["signatures"].as_array_mut().expect("a list").push(signature);
    simulator.serve("1.snapshot.json", snapshot.to_string().as_bytes());
    client.refresh(&simulator).fails(&["snapshot", "two signatures of key"]);
    assert_eq!(client.trusted(), "root 1, timestamp 1");
}

#[test]
fn t14_every_known_kind_of_key_signs_and_a_wrong_signature_of_it_does_not() {
    for kind in KINDS {
        let (mut simulator, client) = start();
        let key = Signer::new(kind);
        simulator.repo.root_keys.push(key);
        simulator.repo.root_threshold = 2;
        simulator.publish_next(&["root"]);
        client.refresh(&simulator).succeeds();
        simulator.publish_next(&["root"]);
        let mut root: Value =
            serde_json::from_slice(&simulator.served("3.root.json")).expect("JSON");
        let wrong = simulator.repo.root_keys[1].sign(b"something else");
        root["signatures"][1]["sig"] = json!(crate::builder::hex(&wrong));
        simulator.serve("3.root.json", root.to_string().as_bytes());
        client.refresh(&simulator).fails(&["root 3", "1 of 2"]);
        assert!(client.trusted().starts_with("root 2"), "{kind:?}");
    }
}

#[test]
fn a_wrong_signature_beside_enough_right_ones_harms_nobody() {
    for wrong in ["ab".repeat(64), String::new(), "no hex".to_owned()] {
        let (mut simulator, client) = start();
        let key = Signer::default();
        list(&mut simulator, "timestamp", std::slice::from_ref(&key), 1);
        simulator.repo.role("timestamp").signers.push(key);
        simulator.publish_next(&["timestamp"]);
        let mut timestamp: Value =
            serde_json::from_slice(&simulator.served("timestamp.json")).expect("JSON");
        timestamp["signatures"][0]["sig"] = json!(wrong);
        simulator.serve("timestamp.json", timestamp.to_string().as_bytes());
        client.refresh(&simulator).succeeds();
    }
}

#[test]
fn t14_a_key_of_an_unknown_type_counts_nothing_and_is_named_where_it_is_missed() {
    let (mut simulator, client) = start();
    let unknown = Signer::default().of_type("sphincs").by_scheme("sphincs-shake-128s");
    list(&mut simulator, "timestamp", std::slice::from_ref(&unknown), 1);
    simulator.publish_next(&["timestamp"]);
    client.refresh(&simulator).succeeds();
    list(&mut simulator, "timestamp", std::slice::from_ref(&unknown), 2);
    simulator.repo.role("timestamp").signers.push(unknown.clone());
    simulator.publish_next(&["timestamp"]);
    let words = ["timestamp has 1 of 2 signatures", &unknown.id, "sphincs by sphincs-shake-128s"];
    client.refresh(&simulator).fails(&words);
    let note = client.run(&["show"]).succeeds();
    assert!(note.contains(&unknown.id), "{note}");
}
