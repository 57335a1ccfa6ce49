//! Certificates of root keys: a sound one with changed bytes, pinned by its public key and by an
//! authority that is itself; and public keys of any bytes.
#![no_main]

#[path = "../../verify/tests/notary/builder.rs"]
mod builder;
#[path = "../../verify/tests/notary/signer.rs"]
mod signer;

use std::sync::LazyLock;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use countersign_fuzz::edit;
use countersign_verify::notary::{PinnedKeys, public_key_fingerprint, untrusted_root};
use libfuzzer_sys::fuzz_target;

use builder::{GUN, Repo, pin_of};
use signer::{Cert, Kind, Signer};

thread_local! {
    static SOUND: LazyLock<(Repo, Signer, Vec<u8>)> = const { LazyLock::new(sound) };
}

fn sound() -> (Repo, Signer, Vec<u8>) {
    let key = Signer::new(Kind::P256);
    let der = key.authority(&Cert::named(GUN));
    (Repo::new(GUN), key, der)
}

fuzz_target!(|input: &[u8]| {
    let _ = public_key_fingerprint(input);
    let (mut repo, key, sound) = SOUND.with(|sound| (**sound).clone());
    let mut der = sound.clone();
    edit(&mut der, input);
    let text = BASE64_STANDARD.encode(&der);
    let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
    repo.root_key = key.bundled(&[pem]);
    let root = repo.root(1, &[repo.root_key.clone()], 1);
    repo.roots.insert(1, root);
    let files = repo.seal();
    let _ = untrusted_root(files.root());
    let _ = files.verify(&repo.pin());
    let by_authority =
        files.verify(&pin_of(PinnedKeys::CertificateAuthorities(vec![sound.clone()])));
    assert!(der == sound || by_authority.is_err(), "the authority vouched for other bytes");
});
