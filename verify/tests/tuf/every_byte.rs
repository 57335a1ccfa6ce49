//! Every change of one byte of every file.
//!
//! The rule: of what another file lists by its hash every change is refused. Of root and
//! timestamp, which nothing lists, a change is refused too, unless the file still says the same:
//! the same canonical `signed`, and every lookup's outcome the same to the last bit.

use countersign_verify::memory::Memory;
use countersign_verify::tuf::{InitialRoot, Update};
use serde_json::Value;

use crate::builder::{Files, Repo, canonical, now};
use crate::shell::{digests, find, tags};

const ALL: &str = "registry.example.com/payments/*/*";

fn repo() -> Repo {
    let mut repo = Repo::signing(&[("1.0", "old")]);
    repo.delegated("targets", "releases", &[ALL], &[("1.4", "new")]);
    repo.rotate();
    repo
}

/// What is answered for every tag and digest there is, and for some that there are not.
fn outcomes(files: &Files) -> Option<String> {
    let initial = InitialRoot::read(&files.roots[&1]).ok()?;
    let update = Update::new(&initial, Memory::default(), now());
    let updated = files.drive(update, digests("new"));
    let mut text = String::new();
    for (name, floor) in &updated.memory.roles {
        text += &format!("{name} {} {}", floor.version, floor.keys);
    }
    let repository = updated.repository.ok()?;
    for (tag, word) in [("1.0", "old"), ("1.4", "new"), ("1.0", "new"), ("2.0", "old")] {
        text += &format!("{:?}", find(&repository, &tags(tag), word));
        text += &format!("{:?}", find(&repository, &digests(word), word));
    }
    Some(text)
}

fn every_change(bytes: &[u8], mut each: impl FnMut(Vec<u8>)) {
    for at in 0..bytes.len() {
        for byte in [bytes[at] ^ 1, bytes[at] ^ 0x20, b'"', 0] {
            if byte != bytes[at] {
                let mut changed = bytes.to_vec();
                changed[at] = byte;
                each(changed);
            }
        }
        let mut shorter = bytes.to_vec();
        shorter.remove(at);
        each(shorter);
    }
}

fn signed(bytes: &[u8]) -> Option<Vec<u8>> {
    let file: Value = serde_json::from_slice(bytes).ok()?;
    Some(canonical(&file["signed"]))
}

#[test]
fn every_change_of_what_is_listed_is_refused() {
    let files = repo().seal();
    let mut tried = 0;
    for role in ["snapshot", "targets"] {
        every_change(&files.roles[role], |bytes| {
            tried += 1;
            let mut changed = files.clone();
            changed.roles.insert(role.to_owned(), bytes);
            assert_eq!(outcomes(&changed), None);
        });
    }
    every_change(&files.roles["releases"], |bytes| {
        let mut changed = files.clone();
        changed.roles.insert("releases".to_owned(), bytes);
        for (question, word) in [(tags("1.4"), "new"), (digests("new"), "new")] {
            changed.run(question, &Memory::default()).find(word).unwrap_err();
        }
        changed.run(tags("1.0"), &Memory::default()).find("old").unwrap();
    });
    assert!(tried > 4_000, "{tried}");
    assert!(outcomes(&files).is_some());
}

#[test]
fn every_change_of_roots_and_timestamp_is_refused_or_says_the_same() {
    let files = repo().seal();
    let sound = outcomes(&files).unwrap();
    let (mut tried, mut same) = (0, 0);
    let mut check = |original: &[u8], bytes: &[u8], changed: &Files| {
        tried += 1;
        if let Some(outcome) = outcomes(changed) {
            same += 1;
            assert_eq!(outcome, sound);
            assert_eq!(signed(bytes), signed(original));
        }
    };
    for version in [1, 2] {
        let original = &files.roots[&version];
        every_change(original, |bytes| {
            let mut changed = files.clone();
            changed.roots.insert(version, bytes.clone());
            check(original, &bytes, &changed);
        });
    }
    let original = &files.roles["timestamp"];
    every_change(original, |bytes| {
        let mut changed = files.clone();
        changed.roles.insert("timestamp".to_owned(), bytes.clone());
        check(original, &bytes, &changed);
    });
    // Hex digits of signatures in the other case, mostly.
    assert!(tried > 10_000 && same < 1_000, "{same} of {tried} say the same");
}
