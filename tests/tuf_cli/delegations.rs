//! T13: which delegated roles are asked for, in which order.

use serde_json::json;

use crate::builder::key_table;
use crate::signer::Signer;
use crate::{ALL, Client, Simulator, start};

/// From, to, whether the search ends there, for which paths.
type Edge = (&'static str, &'static str, bool, &'static [&'static str]);

const ANY: &[&str] = &["*"];
const PY: &[&str] = &["*.py"];

const fn edge(from: &'static str, to: &'static str) -> Edge {
    (from, to, false, ANY)
}

/// The delegations, and the roles that are asked for a name that none has.
const GRAPHS: &[(&[Edge], &[&str])] = &[
    (&[edge("targets", "A")], &["A"]),
    (&[edge("targets", "A"), edge("targets", "B")], &["A", "B"]),
    (&[edge("targets", "A"), edge("targets", "B"), edge("B", "C")], &["A", "B", "C"]),
    (
        &[edge("targets", "A"), edge("targets", "B"), edge("A", "C"), edge("A", "D")],
        &["A", "C", "D", "B"],
    ),
    (
        &[edge("targets", "A"), edge("targets", "B"), edge("A", "C"), edge("C", "D")],
        &["A", "C", "D", "B"],
    ),
    (
        &[edge("targets", "A"), edge("targets", "B"), ("A", "C", true, ANY), edge("A", "D")],
        &["A", "C"],
    ),
    (
        &[edge("targets", "A"), edge("targets", "B"), ("A", "C", true, ANY), edge("C", "D")],
        &["A", "C", "D"],
    ),
    (&[("targets", "A", false, PY), edge("targets", "B"), edge("A", "C")], &["B"]),
    (
        &[edge("targets", "A"), edge("targets", "B"), ("A", "C", false, PY), edge("C", "D")],
        &["A", "B"],
    ),
    (
        &[
            edge("targets", "A"),
            edge("targets", "B"),
            edge("B", "C"),
            edge("C", "D"),
            edge("D", "B"),
        ],
        &["A", "B", "C", "D"],
    ),
    (
        &[edge("targets", "A"), edge("targets", "B"), edge("B", "C"), edge("A", "C")],
        &["A", "C", "B"],
    ),
    (
        &[edge("targets", "A"), edge("targets", "B"), edge("B", "C"), ("A", "C", false, PY)],
        &["A", "B", "C"],
    ),
];

/// Makes roles and delegations. A role has one key, whoever delegates to it.
fn delegate(simulator: &mut Simulator, edges: &[Edge]) {
    for (_, to, ..) in edges {
        simulator.repo.set_role(to, &[], &[Signer::default()]);
    }
    for (from, to, terminating, paths) in edges {
        let keys = simulator.repo.roles[*to].signers.clone();
        let rule = json!({"paths": paths, "terminating": terminating});
        simulator.repo.delegate(from, to, rule, &keys, 1);
    }
}

/// The roles that were asked for after the four files of an update.
fn asked_roles(simulator: &Simulator) -> Vec<String> {
    let asked = simulator.asked().into_iter().filter(|path| !path.starts_with("targets/"));
    asked.skip(4).map(|path| path.replace("1.", "").replace(".json", "")).collect()
}

#[test]
fn t13_roles_are_asked_for_one_by_one_in_pre_order() {
    for (edges, order) in GRAPHS {
        let (mut simulator, client) = start();
        delegate(&mut simulator, edges);
        simulator.publish_next(&ALL);
        client.download(&simulator, &["missingpath"]).fails(&["no role on its path"]);
        assert_eq!(asked_roles(&simulator), *order, "{edges:?}");
        // They are here now.
        client.download(&simulator, &["missingpath"]).fails(&["no role on its path"]);
        assert_eq!(simulator.asked(), ["2.root.json", "timestamp.json"]);
    }
}

#[test]
fn t13_the_first_role_that_has_a_name_answers_and_no_later_one_is_asked() {
    let edges: &[Edge] = &[
        ("targets", "A", false, &["*.doc", "*.md"]),
        ("targets", "B", false, &["releases/*/*"]),
        ("B", "C", false, &["releases/x/*"]),
        ("B", "D", false, &["releases/y/*.zip"]),
    ];
    let files = [
        ("targets", "targetfile"),
        ("A", "README.md"),
        ("C", "releases/x/x_v1"),
        ("D", "releases/y/y_v1.zip"),
        ("D", "releases/z/z_v1.zip"),
    ];
    let cases: [(&str, bool, &[&str]); 5] = [
        ("targetfile", true, &[]),
        ("README.md", true, &["A"]),
        ("releases/x/x_v1", true, &["B", "C"]),
        ("releases/y/y_v1.zip", true, &["B", "D"]),
        // D has it, and B does not delegate it to D.
        ("releases/z/z_v1.zip", false, &["B"]),
    ];
    for (name, found, order) in cases {
        let (mut simulator, client) = start();
        delegate(&mut simulator, edges);
        for (role, name) in files {
            simulator.sign(role, name, format!("{name} by {role}").as_bytes());
        }
        simulator.publish_next(&ALL);
        let ended = client.download(&simulator, &[name]);
        assert_eq!(ended.code, Some(if found { 0 } else { 1 }), "{name} {ended:?}");
        assert_eq!(client.stored().len(), usize::from(found));
        assert_eq!(asked_roles(&simulator), order, "{name}");
    }
}

/// A repository with succinct bins, and a client that has updated.
fn bins(bits: u32) -> (Simulator, Client) {
    let (mut simulator, client) = start();
    let key = Signer::default();
    let digits = bits.div_ceil(4) as usize;
    for bin in 0..1_u32 << bits {
        let name = format!("bin-{bin:0digits$x}");
        simulator.repo.set_role(&name, &[], std::slice::from_ref(&key));
    }
    let succinct =
        json!({"keyids": [key.id], "threshold": 1, "bit_length": bits, "name_prefix": "bin"});
    let delegations = json!({"keys": key_table([&key]), "succinct_roles": succinct});
    simulator.repo.set("targets", "delegations", delegations);
    simulator.publish_next(&ALL);
    client.refresh(&simulator).succeeds();
    simulator.asked();
    (simulator, client)
}

#[test]
fn t13_one_of_the_succinct_bins_is_asked() {
    for (bits, name, bin) in [
        (1, "boo", "bin-0"),
        (1, "too", "bin-1"),
        (2, "foo", "bin-0"),
        (2, "doo", "bin-1"),
        (2, "too", "bin-2"),
        (2, "bar", "bin-3"),
        (8, "bar", "bin-fc"),
    ] {
        let (simulator, client) = bins(bits);
        assert_eq!(client.trusted(), "root 1, snapshot 2, targets 2, timestamp 2");
        client.download(&simulator, &[name]).fails(&["no role"]);
        assert_eq!(simulator.asked(), ["2.root.json", "timestamp.json", &format!("1.{bin}.json")]);
        let trusted = format!("{bin} 1, root 1, snapshot 2, targets 2, timestamp 2");
        assert_eq!(client.trusted(), trusted);
        let shown = client.run(&["show"]).succeeds();
        assert!(shown.contains(&format!("{} bins", 1 << bits)) && shown.contains(bin), "{shown}");
    }
}

#[test]
fn t16_a_role_s_name_leads_nowhere_else() {
    for (role, escaped) in [
        ("?", "%3F"),
        ("#", "%23"),
        ("/delegatedrole", "%2Fdelegatedrole"),
        ("../delegatedrole", "..%2Fdelegatedrole"),
        ("%2e%2e%2fup", "%252e%252e%252fup"),
        ("..", ".."),
        ("ü", "%C3%BC"),
        (".lock", ".lock"),
    ] {
        let (mut simulator, client) = start();
        simulator.repo.delegated("targets", role, &["*"], &[]);
        simulator.publish_next(&ALL);
        client.download(&simulator, &["nobody's"]).fails(&["no role"]);
        assert_eq!(simulator.asked()[4..], [format!("1.{escaped}.json")]);
        assert!(client.kept(escaped).is_some(), "{role}");
        let around = std::fs::read_dir(client.path(".")).expect("a folder").count();
        assert_eq!(around, 3, "the two folders and the first root");
    }
}

#[test]
fn a_role_whose_name_is_too_long_for_a_file_is_fetched_each_time() {
    let role = "/".repeat(255);
    let (mut simulator, client) = start();
    simulator.repo.delegated("targets", &role, &["*"], &[]);
    simulator.sign(&role, "file", b"content");
    simulator.publish_next(&ALL);
    for number in [5, 3] {
        client.download(&simulator, &["file"]).succeeds();
        let asked = simulator.asked();
        let roles = asked.iter().filter(|path| !path.starts_with("targets/")).count();
        assert_eq!(roles, number, "{asked:?}");
    }
}

#[test]
fn t13_a_bad_role_harms_the_names_on_its_way_only() {
    let (mut simulator, client) = start();
    simulator.repo.delegated("targets", "bad", &["bad/*"], &[]);
    simulator.repo.delegated("targets", "good", &["*/*"], &[]);
    for name in ["bad/file", "good/file"] {
        simulator.sign("good", name, name.as_bytes());
    }
    simulator.repo.role("bad").signers = vec![Signer::default()];
    simulator.publish_next(&ALL);
    client.refresh(&simulator).succeeds();
    client.download(&simulator, &["good/file"]).succeeds();
    client.download(&simulator, &["bad/file"]).fails(&["bad has 0 of 1 signatures"]);
    assert_eq!(client.stored().len(), 1);
    assert!(!client.trusted().contains("bad"), "{}", client.trusted());
}
