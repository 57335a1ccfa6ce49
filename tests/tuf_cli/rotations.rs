//! T12: chains of roots by keys and thresholds, and the other roles' keys that they rotate.

use crate::builder::{Repo, role_keys};
use crate::signer::Signer;
use crate::{Client, Simulator, start};

/// The keys of a version by their numbers, their threshold, and the numbers of those that sign.
type Version = (&'static [usize], u64, &'static [usize]);

const FIVE: &[usize] = &[0, 1, 2, 3, 4];
const ONE_OTHER: &[usize] = &[0, 1, 3, 4, 5];
const FIVE_OTHERS: &[usize] = &[5, 6, 7, 8, 9];

/// What is rotated, the versions, and whether the last one is good.
const ROOTS: &[(&str, &[Version], bool)] = &[
    ("one key", &[(&[1], 1, &[1]), (&[2], 1, &[2, 1]), (&[2], 1, &[2])], true),
    (
        "one key, others sign as well",
        &[(&[1], 1, &[3, 1, 4]), (&[2], 1, &[3, 2, 1, 4]), (&[2], 1, &[3, 2, 4])],
        true,
    ),
    (
        "no key of five, by three in turn",
        &[
            (FIVE, 3, &[0, 2, 4]),
            (FIVE, 3, &[0, 4, 1]),
            (FIVE, 3, &[0, 1, 3]),
            (FIVE, 3, &[0, 1, 3]),
        ],
        true,
    ),
    ("one of five", &[(FIVE, 3, &[0, 2, 4]), (ONE_OTHER, 3, &[0, 4, 1])], true),
    (
        "one of five, in two steps",
        &[(FIVE, 3, &[0, 2, 4]), (ONE_OTHER, 3, &[0, 2, 4, 5]), (ONE_OTHER, 3, &[0, 4, 5])],
        true,
    ),
    (
        "all five",
        &[
            (FIVE, 3, &[0, 2, 4]),
            (FIVE_OTHERS, 3, &[0, 2, 4, 5, 6, 7]),
            (FIVE_OTHERS, 3, &[5, 6, 7]),
        ],
        true,
    ),
    ("a higher threshold", &[(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[1, 2])], true),
    (
        "a lower threshold",
        &[(&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1, 2]), (&[1, 2, 3], 1, &[1])],
        true,
    ),
    ("a second key", &[(&[1], 1, &[1]), (&[1, 2], 2, &[1, 2])], true),
    ("without the old key", &[(&[1], 1, &[1]), (&[2], 1, &[2, 3, 4])], false),
    ("without the new key", &[(&[1], 1, &[1]), (&[2], 1, &[1, 3, 4])], false),
    ("by two new keys", &[(FIVE, 3, &[0, 2, 4]), (ONE_OTHER, 3, &[0, 2, 4])], false),
    ("by two old keys", &[(FIVE, 3, &[0, 2, 4]), (ONE_OTHER, 3, &[0, 4, 5])], false),
    ("below the new threshold", &[(&[1, 2, 3], 1, &[1]), (&[1, 2, 3], 2, &[2])], false),
    ("below the old threshold", &[(&[1, 2, 3], 2, &[1, 2]), (&[1, 2, 3], 1, &[1])], false),
];

fn some(keys: &[Signer], numbers: &[usize]) -> Vec<Signer> {
    numbers.iter().map(|number| keys[*number].clone()).collect()
}

#[test]
fn t12_roots_follow_each_other_by_both_thresholds() {
    let keys: Vec<Signer> = (0..10).map(|_| Signer::default()).collect();
    for (what, versions, good) in ROOTS {
        let mut repo = Repo::new();
        repo.roots.clear();
        for (version, (listed, threshold, signers)) in (1..).zip(*versions) {
            repo.root_keys = some(&keys, listed);
            repo.root_threshold = *threshold;
            let mut root = repo.root(version);
            root.signers = some(&keys, signers);
            repo.roots.insert(version, root);
        }
        let simulator = Simulator::serving(repo);
        let client = Client::new();
        client.init(&simulator.first_root()).succeeds();
        let ended = client.refresh(&simulator);
        let last = if *good {
            ended.succeeds();
            versions.len()
        } else {
            ended.fails(&["root", "signatures that it needs"]);
            versions.len() - 1
        };
        assert_eq!(
            client.kept("root"),
            Some(simulator.served(&format!("{last}.root.json"))),
            "{what}"
        );
    }
}

const OTHERS: &[(Version, bool)] = &[
    ((&[2], 1, &[2]), true),
    ((&[1], 1, &[3, 1, 4]), true),
    ((&[2], 1, &[1, 3, 4]), false),
    ((ONE_OTHER, 3, &[0, 2, 4]), false),
    ((ONE_OTHER, 3, &[0, 4]), false),
    ((FIVE, 3, &[0, 2, 4]), true),
    ((FIVE, 3, &[0, 4, 1]), true),
    ((FIVE, 3, &[0, 1, 3]), true),
    ((FIVE, 3, &[1, 2, 3]), true),
    ((FIVE, 3, &[2, 3, 4]), true),
];

#[test]
fn t10_a_rotated_role_has_to_be_signed_by_its_new_threshold() {
    let keys: Vec<Signer> = (0..6).map(|_| Signer::default()).collect();
    for role in ["timestamp", "snapshot", "targets"] {
        for ((listed, threshold, signers), good) in OTHERS {
            let (mut simulator, client) = start();
            client.refresh(&simulator).succeeds();
            simulator.repo.rotate();
            let root = &mut simulator.repo.role("root").signed;
            root["roles"][role] = role_keys(&some(&keys, listed), *threshold);
            for key in &keys {
                root["keys"][&key.id] = key.json();
            }
            simulator.repo.role(role).signers = some(&keys, signers);
            simulator.publish_next(&crate::ALL);
            let ended = client.refresh(&simulator);
            let name =
                if role == "timestamp" { "timestamp.json" } else { &format!("2.{role}.json") };
            if *good {
                ended.succeeds();
                assert_eq!(client.kept(role), Some(simulator.served(name)), "{role}");
            } else {
                ended.fails(&[role, "signatures that it needs"]);
                assert_ne!(client.kept(role), Some(simulator.served(name)), "{role}");
            }
            assert!(client.trusted().starts_with("root 2"));
        }
    }
}
