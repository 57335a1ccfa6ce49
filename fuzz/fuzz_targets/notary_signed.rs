//! What the right keys sign, however odd: the first byte names a role, the rest is a patch of what
//! it says in a sound Notary repository.
#![no_main]

#[path = "../../verify/tests/notary/builder.rs"]
mod builder;
#[path = "../../verify/tests/notary/signer.rs"]
mod signer;

use std::sync::LazyLock;

use countersign_fuzz::patch;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

use builder::{GUN, Repo, find_digest, find_tag, now};

thread_local! {
    static REPO: LazyLock<Repo> = const { LazyLock::new(sound) };
}

fn sound() -> Repo {
    let mut repo = Repo::new(GUN);
    repo.targets(&[("1.0", "old")]);
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    repo
}

fuzz_target!(|input: &[u8]| {
    let Some((which, text)) = input.split_first() else { return };
    let Ok(change) = serde_json::from_slice::<Value>(text) else { return };
    let mut repo = REPO.with(|repo| (**repo).clone());
    let roles = ["root", "timestamp", "snapshot", "targets", "targets/releases"];
    let files = match roles[usize::from(which % 5)] {
        "snapshot" => repo.seal_with(|signed| patch(signed, change), |_| {}),
        "timestamp" => repo.seal_with(|_| {}, |signed| patch(signed, change)),
        role => {
            patch(&mut repo.role(role).signed, change);
            repo.seal()
        }
    };
    let Ok(repository) = files.verify(&repo.pin()) else { return };
    assert!(repository.bytes() > 0);
    for found in [find_tag(&repository, "1.4", "new"), find_digest(&repository, "old")] {
        if let Ok(proof) = found {
            assert!(!proof.keys().is_empty() && proof.expires() > now());
        }
    }
});
