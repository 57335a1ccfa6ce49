//! The layouts that signing services publish, written by python-tuf, and by go-tuf where it can.

use std::sync::Arc;

use countersign_e2e::Outcome;
use countersign_e2e::tuf::{
    Bins, Delegation, GoTuf, Keys, Layout, PythonTuf, Repository, Scheme, Writer,
};
use serde_json::Value;

use crate::shell::{NAME, Reader, verdict};

/// An image in the reader's eyes.
fn find(reader: &mut Reader, tuf: &Repository, image: &str, manifest: &[u8]) -> String {
    verdict(&reader.find(&tuf.metadata(), image, manifest))
}

fn digest(manifest: &[u8]) -> String {
    countersign_verify::image::Digest::sha256(manifest).to_string()
}

/// Both libraries' writers.
fn writers() -> [Arc<dyn Writer>; 2] {
    [Arc::new(PythonTuf), Arc::new(GoTuf)]
}

/// Signs a tag and its digest in bins, moves the tag, takes it away.
fn bins_live(tuf: &mut Repository, parent: &str, bin: &str) -> Outcome<()> {
    let mut reader = Reader::new(&tuf.initial_root()?)?;
    let (old, new) = (b"old", b"new");
    let (tag, by_digest) = (format!("{NAME}:1.4"), format!("{NAME}@{}", digest(old)));
    assert_eq!(find(&mut reader, tuf, &tag, old), "Unsigned");

    tuf.add_to_bin(parent, &format!("{NAME}/1.4"), old);
    tuf.add_to_bin(parent, &format!("{NAME}/{}", digest(old)), old);
    tuf.publish()?;
    let found = find(&mut reader, tuf, &tag, old);
    assert!(found.starts_with(&format!("signed by {bin}")), "{found}");
    let found = find(&mut reader, tuf, &by_digest, old);
    assert!(found.starts_with(&format!("signed by {bin}")), "{found}");
    let before = tuf.save()?;

    tuf.add_to_bin(parent, &format!("{NAME}/1.4"), new);
    tuf.publish()?;
    assert_eq!(find(&mut reader, tuf, &tag, old), "DigestMismatch");
    assert!(find(&mut reader, tuf, &tag, new).starts_with("signed by"));
    let after = tuf.save()?;
    tuf.put_back(&before)?;
    assert_eq!(find(&mut reader, tuf, &tag, old), "Rollback");
    tuf.put_back(&after)?;

    tuf.remove_from_bin(parent, &format!("{NAME}/{}", digest(old)));
    tuf.remove_from_bin(parent, &format!("{NAME}/1.4"));
    tuf.publish()?;
    assert_eq!(find(&mut reader, tuf, &tag, new), "Unsigned");
    assert_eq!(find(&mut reader, tuf, &by_digest, old), "Unsigned");
    Ok(())
}

/// `targets` delegates everything to `bins`, which delegates by hash prefixes; the roots have
/// versions, and the rest only with consistent snapshots.
#[test]
fn rugged() -> Outcome<()> {
    for writer in writers() {
        for consistent in [true, false] {
            println!("{} consistent={consistent}", writer.version()?);
            let folder = tempfile::tempdir()?;
            let layout = Layout { consistent, ..Layout::default() };
            let mut tuf = Repository::create_with(Arc::clone(&writer), folder.path(), &layout)?;
            // A glob has as many components as what it matches.
            let paths = ["*/*/*/*", "*/*/*", "*/*/*/*/*"];
            tuf.delegate("targets", &Delegation::by_paths("bins", &paths));
            tuf.delegate_bins("bins", &Bins::hashed("bin_", 6));
            tuf.publish()?;
            bins_live(&mut tuf, "bins", "bin_")?;
        }
    }
    Ok(())
}

/// TAP 15, as Repository Service for TUF has it: `targets` lists the bins in their short form.
#[test]
fn repository_service_for_tuf() -> Outcome<()> {
    for writer in writers() {
        println!("{}", writer.version()?);
        let folder = tempfile::tempdir()?;
        let mut tuf =
            Repository::create_with(Arc::clone(&writer), folder.path(), &Layout::default())?;
        tuf.delegate_bins("targets", &Bins::succinct("bins", 4));
        tuf.publish()?;
        bins_live(&mut tuf, "targets", "bins-")?;
    }
    Ok(())
}

/// As tuf-on-ci and Sigstore publish: several people sign roots and targets, keys of several
/// kinds, delegations to teams that end the search.
#[test]
fn tuf_on_ci_and_sigstore() -> Outcome<()> {
    use Scheme::{EcdsaP256, EcdsaP384, Ed25519, RsaPss};
    println!("{}", PythonTuf.version()?);
    let folder = tempfile::tempdir()?;
    let people =
        Keys { schemes: vec![EcdsaP256, Ed25519, RsaPss, EcdsaP384, EcdsaP256], threshold: 3 };
    let layout = Layout {
        root: people.clone(),
        targets: people.clone(),
        snapshot: Keys::one(EcdsaP256),
        timestamp: Keys::one(RsaPss),
        ..Layout::default()
    };
    let mut tuf = Repository::create(folder.path(), &layout)?;
    let mut reader = Reader::new(&tuf.initial_root()?)?;
    let team = Delegation::by_paths("payments-team", &["registry.example.com/payments/*/*"])
        .with(Keys::all(&[EcdsaP256, RsaPss]))
        .terminating();
    tuf.delegate("targets", &team);
    tuf.delegate("targets", &Delegation::by_paths("anyone", &["registry.example.com/*/*/*"]));
    tuf.add_to("payments-team", &format!("{NAME}/1.4"), b"old");
    tuf.add_to("anyone", &format!("{NAME}/1.5"), b"new");
    tuf.add_to("anyone", "registry.example.com/tools/cli/2", b"cli");
    tuf.add_with("registry.example.com/tools/cli/3", b"cli", &["sha512"], &Value::Null);
    tuf.publish()?;

    let (old, new) = (format!("{NAME}:1.4"), format!("{NAME}:1.5"));
    assert_eq!(find(&mut reader, &tuf, &old, b"old"), "signed by payments-team");
    assert_eq!(find(&mut reader, &tuf, &new, b"new"), "Unsigned", "the team's word is the last");
    for tag in [2, 3] {
        let image = format!("registry.example.com/tools/cli:{tag}");
        assert!(find(&mut reader, &tuf, &image, b"cli").starts_with("signed by"), "{image}");
    }

    // Two of three in the new root, then another set of people altogether.
    tuf.rotate("root", &Keys { schemes: vec![EcdsaP384, RsaPss, Ed25519], threshold: 2 });
    tuf.publish()?;
    tuf.rotate("root", &Keys::all(&[EcdsaP256, EcdsaP256]));
    tuf.rotate("targets", &Keys::all(&[Ed25519, EcdsaP256]));
    tuf.rotate_delegated("targets", "payments-team", &Keys::one(Ed25519));
    tuf.publish()?;
    assert_eq!(find(&mut reader, &tuf, &old, b"old"), "signed by payments-team");
    Ok(())
}
