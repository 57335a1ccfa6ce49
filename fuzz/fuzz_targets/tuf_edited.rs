//! Files of a sound repository with changed bytes: accepted only where they say the same.
#![no_main]

#[path = "../../verify/tests/tuf/builder.rs"]
mod builder;
#[path = "../../verify/tests/tuf/shell.rs"]
mod shell;
#[path = "../../verify/tests/tuf/signer.rs"]
mod signer;

use std::sync::LazyLock;

use countersign_fuzz::{edit, says_the_same};
use countersign_verify::memory::Memory;
use countersign_verify::tuf::{InitialRoot, Update};
use libfuzzer_sys::fuzz_target;

use builder::{Files, Repo, now};
use shell::tags;

static FILES: LazyLock<Files> = LazyLock::new(|| {
    let mut repo = Repo::signing(&[("1.0", "old")]);
    let paths = ["registry.example.com/payments/*/*"];
    repo.delegated("targets", "releases", &paths, &[("1.4", "new")]);
    repo.rotate();
    repo.seal()
});

fuzz_target!(|input: &[u8]| {
    let Some((which, edits)) = input.split_first() else { return };
    let mut files = FILES.clone();
    let initial = InitialRoot::read(&files.roots[&1]).unwrap();
    let file = match which % 5 {
        0 => files.roots.get_mut(&2),
        1 => files.roles.get_mut("timestamp"),
        2 => files.roles.get_mut("snapshot"),
        3 => files.roles.get_mut("targets"),
        _ => files.roles.get_mut("releases"),
    };
    let file = file.unwrap();
    let original = file.clone();
    edit(file, edits);
    let same = says_the_same(file, &original);
    let update = Update::new(&initial, Memory::default(), now());
    let found = files.drive(update, tags("1.4")).find("new");
    assert!(same || found.is_err(), "what nobody signed is accepted");
});
