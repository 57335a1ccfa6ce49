//! What the folder holds, for people.

use serde_json::json;

use crate::signer::Signer;
use crate::simulator::hours;
use crate::{ALL, Client, start};

#[test]
fn roles_are_told_as_a_tree() {
    let (mut simulator, client) = start();
    let shown = client.run(&["show"]).succeeds();
    assert!(shown.contains("timestamp: not here yet") && shown.contains("targets: not here yet"));
    let team = simulator.repo.delegated("targets", "team", &["team/*", "x/[!a-c]?"], &[]);
    simulator.repo.delegated("team", "team/two", &["team/two/*"], &[]);
    let other = Signer::default();
    let hashed = json!({"path_hash_prefixes": ["0", "1"], "terminating": true});
    simulator.repo.delegate("targets", "hashed", hashed, std::slice::from_ref(&other), 1);
    simulator.repo.set_role("hashed", &[], std::slice::from_ref(&other));
    simulator.sign("team", "team/file", b"content");
    simulator.publish_next(&ALL);
    client.download(&simulator, &["team/file"]).succeeds();
    simulator.asked();
    let shown = client.run(&["show"]).succeeds();
    assert_eq!(simulator.asked(), [""; 0], "nothing is fetched");
    let key = team.fingerprint();
    for line in [
        "root: version 1, expires ",
        "\nsnapshot: version 2, expires ",
        ", in 29 days, by 1 of 1 keys\n",
        "\n  delegates team/* x/[!a-c]? to, by 1 of 1 keys:\n    team: version 1, ",
        ", 1 target\n",
        &format!("\n      signed by {key}\n"),
        "\n      delegates team/two/* to, by 1 of 1 keys:\n        team/two: not here yet\n",
        "\n  delegates names whose sha256 begins 0 1 to, by 1 of 1 keys, and the search ends there:\n",
        "\n    hashed: not here yet\n",
    ] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
}

#[test]
fn what_has_expired_or_is_bad_or_is_not_what_is_listed_is_marked() {
    let (mut simulator, client) = start();
    client.refresh(&simulator).succeeds();
    let targets = client.kept("targets").expect("kept");
    simulator.publish_next(&ALL);
    client.refresh(&simulator).succeeds();
    client.keep("targets", &targets);
    simulator.repo.set("timestamp", "expires", json!(hours(-49)));
    simulator.publish_next(&["timestamp"]);
    client.keep("timestamp", &simulator.served("timestamp.json"));
    let shown = client.run(&["show"]).succeeds();
    for line in [
        "timestamp: version 3, EXPIRED ",
        ", 2 days ago, ",
        "\ntargets: version 1, ",
        "\n  OUTDATED: targets cannot be trusted: it is of version 1; snapshot lists version 2\n",
    ] {
        assert!(shown.contains(line), "no {line:?} in\n{shown}");
    }
    client.keep("targets", b"{}");
    let shown = client.run(&["show"]).succeeds();
    assert!(shown.contains("\ntargets: BAD: targets cannot be trusted: "), "{shown}");
    Client::new().run(&["show"]).fails(&["init ROOT.json"]);
}

#[test]
fn of_thousands_of_delegations_those_are_told_that_are_here() {
    let (mut simulator, client) = start();
    let key = Signer::default();
    for bin in 0..64 {
        let rule = json!({"path_hash_prefixes": [format!("{bin:02x}")]});
        let name = format!("bin-{bin:02x}");
        simulator.repo.delegate("targets", &name, rule, std::slice::from_ref(&key), 1);
        simulator.repo.set_role(&name, &[], std::slice::from_ref(&key));
    }
    simulator.publish_next(&ALL);
    // sha256 of the name begins 2c.
    client.download(&simulator, &["foo"]).fails(&["no role"]);
    let shown = client.run(&["show"]).succeeds();
    assert!(
        shown.contains("bin-2c: version 1") && shown.contains("bin-00: not here yet"),
        "{shown}"
    );
    assert!(!shown.contains("bin-3f"), "{shown}");
    assert!(shown.contains("and 47 delegations more, not here yet"), "{shown}");
}
