//! Every change of one byte of every file.
//!
//! The rule: of root, snapshot, targets and delegated files every change is refused, because
//! another file lists their hashes. Of the timestamp, which nothing lists, a change is refused
//! too, unless the file still says the same: the same canonical `signed`, and every lookup's
//! outcome the same to the last bit. (`"Ecdsa"` for `"ecdsa"`, a member's name outside `signed`
//! that nobody reads, one kind of white space for another.)

use countersign_verify::notary::Memory;
use serde_json::Value;

use crate::builder::{Files, GUN, Repo, canonical, find_digest, find_tag, now};

fn repo() -> Repo {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    repo
}

/// What is answered for every tag and digest there is, and for some that there are not.
fn outcomes(files: &Files, repo: &Repo) -> Option<String> {
    let updated = files.update(&repo.pin(), GUN, &Memory::default(), now());
    let repository = updated.repository.ok()?;
    let mut text = format!("{:?}", updated.memory);
    for (tag, word) in [("1.0", "old"), ("1.4", "new"), ("1.0", "new"), ("2.0", "old")] {
        text += &format!("{:?}", find_tag(&repository, tag, word));
        text += &format!("{:?}", find_digest(&repository, word));
    }
    Some(text)
}

fn changes(byte: u8) -> impl Iterator<Item = u8> {
    let candidates = [byte ^ 1, byte ^ 0x20, byte ^ 0x80, b'"', 0];
    let mut seen = vec![byte];
    candidates.into_iter().filter(move |candidate| {
        let new = !seen.contains(candidate);
        seen.push(*candidate);
        new
    })
}

fn every_change(bytes: &[u8], mut each: impl FnMut(Vec<u8>)) {
    for at in 0..bytes.len() {
        for byte in changes(bytes[at]) {
            let mut changed = bytes.to_vec();
            changed[at] = byte;
            each(changed);
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
fn every_change_of_root_snapshot_and_targets_is_refused() {
    let repo = repo();
    let files = repo.seal();
    let sound = outcomes(&files, &repo).unwrap();
    let mut tried = 0;
    let mut refused = |changed: Files| {
        tried += 1;
        assert_eq!(outcomes(&changed, &repo), None);
    };
    every_change(files.root(), |root| {
        refused(Files { roots: [(1, root)].into(), ..files.clone() });
    });
    every_change(&files.snapshot, |snapshot| refused(Files { snapshot, ..files.clone() }));
    every_change(&files.roles["targets"], |targets| {
        let mut files = files.clone();
        files.roles.insert("targets".to_owned(), targets);
        refused(files);
    });
    every_change(&files.roles["targets/releases"], |releases| {
        let mut files = files.clone();
        files.roles.insert("targets/releases".to_owned(), releases);
        let updated = files.update(&repo.pin(), GUN, &Memory::default(), now());
        assert!(!updated.memory.roles.contains_key("targets/releases"));
        let repository = updated.repository.unwrap();
        find_tag(&repository, "1.4", "new").unwrap_err();
        find_tag(&repository, "1.0", "old").unwrap_err();
        find_digest(&repository, "old").unwrap_err();
    });
    assert!(tried > 10_000, "{tried}");
    assert_eq!(outcomes(&files, &repo).unwrap(), sound);
}

#[test]
fn every_change_of_the_timestamp_is_refused_or_says_the_same() {
    let repo = repo();
    let files = repo.seal();
    let sound = outcomes(&files, &repo).unwrap();
    let (mut tried, mut same) = (0, 0);
    every_change(&files.timestamp, |timestamp| {
        tried += 1;
        let changed = Files { timestamp, ..files.clone() };
        if let Some(outcome) = outcomes(&changed, &repo) {
            same += 1;
            assert_eq!(outcome, sound);
            assert_eq!(signed(&changed.timestamp), signed(&files.timestamp));
        }
    });
    assert!(tried > 2_000 && same < 100, "{same} of {tried} say the same");
}
