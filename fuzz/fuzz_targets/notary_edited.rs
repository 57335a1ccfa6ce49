//! Files of a sound Notary repository with changed bytes: accepted only where they say the same.
#![no_main]

#[path = "../../verify/tests/notary/builder.rs"]
mod builder;
#[path = "../../verify/tests/notary/signer.rs"]
mod signer;

use std::sync::LazyLock;

use countersign_fuzz::{edit, says_the_same};
use countersign_verify::notary::{Pin, untrusted_root};
use libfuzzer_sys::fuzz_target;

use builder::{Files, GUN, Repo, find_tag};

static SOUND: LazyLock<(Files, Pin)> = LazyLock::new(|| {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    (repo.seal(), repo.pin())
});

fuzz_target!(|input: &[u8]| {
    let Some((which, edits)) = input.split_first() else { return };
    let (mut files, pin) = SOUND.clone();
    let file = match which % 5 {
        0 => files.roots.get_mut(&1),
        1 => Some(&mut files.timestamp),
        2 => Some(&mut files.snapshot),
        3 => files.roles.get_mut("targets"),
        _ => files.roles.get_mut("targets/releases"),
    };
    let file = file.unwrap();
    let original = file.clone();
    edit(file, edits);
    let same = says_the_same(file, &original);
    let _ = untrusted_root(file);
    let found = files.verify(&pin).and_then(|repository| find_tag(&repository, "1.4", "new"));
    assert!(same || found.is_err(), "what nobody signed is accepted");
});
