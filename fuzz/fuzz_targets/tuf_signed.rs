//! What the right keys sign, however odd: the first byte names a role, the rest is a patch of what
//! it says in a sound repository.
#![no_main]

#[path = "../../verify/tests/tuf/builder.rs"]
mod builder;
#[path = "../../verify/tests/tuf/shell.rs"]
mod shell;
#[path = "../../verify/tests/tuf/signer.rs"]
mod signer;

use std::sync::LazyLock;

use countersign_fuzz::patch;
use countersign_verify::memory::Memory;
use countersign_verify::tuf::{InitialRoot, Update};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

use builder::{NAME, Repo, now};
use shell::{any, digests, question, tags};

thread_local! {
    static REPO: LazyLock<Repo> = const { LazyLock::new(sound) };
}

fn sound() -> Repo {
    let mut repo = Repo::signing(&[("1.0", "old")]);
    let paths = ["registry.example.com/payments/*/*"];
    repo.delegated("targets", "releases", &paths, &[("1.4", "new")]);
    repo.rotate();
    repo
}

fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    let Ok(change) = serde_json::from_slice::<Value>(text) else { return };
    let mut repo = REPO.with(|repo| (**repo).clone());
    let role = ["root", "timestamp", "snapshot", "targets", "releases"][usize::from(which % 5)];
    let files = match role {
        "snapshot" => repo.seal_with(|signed| patch(signed, change), |_| {}),
        "timestamp" => repo.seal_with(|_| {}, |signed| patch(signed, change)),
        role => {
            patch(&mut repo.role(role).signed, change);
            repo.seal()
        }
    };
    let initial = InitialRoot::read(&files.roots[&1]).unwrap();
    for asked in [tags("1.4"), digests("new"), question(&format!("{NAME}:1.0"), any())] {
        let update = Update::new(&initial, Memory::default(), now());
        let updated = files.drive(update, asked);
        if let Ok(proof) = updated.find("new") {
            assert!(!proof.keys().is_empty() && proof.expires() > now());
        }
        if let Ok(repository) = &updated.repository {
            let (bytes, roles) = (repository.bytes(), repository.roles().count());
            assert!(bytes > 0 && roles >= 4);
        }
    }
});
