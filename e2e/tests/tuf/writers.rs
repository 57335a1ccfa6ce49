//! One table over all writers: what each of them publishes is read, and its attacks are refused.

use std::sync::Arc;

use countersign_e2e::Outcome;
use countersign_e2e::tuf::{
    Delegation, GoTuf, Keys, Layout, PythonTuf, Repository, RustTuf, Saved, Scheme, Tuftool, Writer,
};

use crate::shell::{NAME, Reader, verdict};

const PATHS: &str = "registry.example.com/payments/*/*";

/// One repository's life, with everything that its reader has to see or refuse.
fn lives(writer: Arc<dyn Writer>, layout: &Layout) -> Outcome<()> {
    println!("{}", writer.version()?);
    let folder = tempfile::tempdir()?;
    let mut tuf = Repository::create_with(writer, folder.path(), layout)?;
    let metadata = tuf.metadata();
    let mut reader = Reader::new(&tuf.initial_root()?)?;
    let mut find = |tag: &str, manifest: &str| {
        let image = format!("{NAME}:{tag}");
        verdict(&reader.find(&metadata, &image, manifest.as_bytes()))
    };

    assert_eq!(find("1.4", "old"), "Unsigned");
    tuf.add(&format!("{NAME}/1.4"), b"old");
    tuf.publish()?;
    assert_eq!(find("1.4", "old"), "signed by targets");
    assert_eq!(find("1.4", "new"), "DigestMismatch");
    assert_eq!(find("1.5", "old"), "Unsigned");

    tuf.delegate("targets", &Delegation::by_paths("payments", &[PATHS]));
    tuf.add_to("payments", &format!("{NAME}/1.5"), b"new");
    tuf.publish()?;
    assert_eq!(find("1.5", "new"), "signed by payments");
    assert_eq!(find("1.4", "old"), "signed by targets");
    let before = tuf.save()?;

    tuf.rotate("root", &Keys::one(Scheme::Ed25519));
    tuf.publish()?;
    tuf.rotate("timestamp", &Keys::one(Scheme::Ed25519));
    tuf.add_to("payments", &format!("{NAME}/1.5"), b"newer");
    tuf.publish()?;
    assert_eq!(find("1.5", "newer"), "signed by payments");
    assert_eq!(find("1.5", "new"), "DigestMismatch");

    let after = tuf.save()?;
    tuf.put_back(&before)?;
    assert_eq!(find("1.5", "new"), "Rollback");
    tuf.put_back(&after)?;
    assert_eq!(find("1.5", "newer"), "signed by payments");

    tuf.remove("targets", &format!("{NAME}/1.4"));
    tuf.publish()?;
    assert_eq!(find("1.4", "old"), "Unsigned");

    for role in ["payments", "targets", "snapshot", "timestamp", "root"] {
        tuf.expires(role, -60);
        tuf.publish()?;
        assert_eq!(find("1.5", "newer"), "Expired", "{role}");
        tuf.expires(role, 3600);
        tuf.publish()?;
        assert_eq!(find("1.5", "newer"), "signed by payments", "{role}");
    }
    Ok(())
}

/// Both with consistent snapshots and without.
fn both_lives(writer: impl Writer + 'static) -> Outcome<()> {
    let writer: Arc<dyn Writer> = Arc::new(writer);
    lives(Arc::clone(&writer), &Layout::default())?;
    lives(writer, &Layout { consistent: false, ..Layout::default() })
}

#[test]
fn python_tuf() -> Outcome<()> {
    both_lives(PythonTuf)
}

#[test]
fn go_tuf() -> Outcome<()> {
    both_lives(GoTuf)
}

#[test]
fn rust_tuf() -> Outcome<()> {
    both_lives(RustTuf)
}

/// The same life, in tuftool's own commands. It has no folders in the names of targets: a
/// repository holds one image's tags. It never takes a target out.
#[test]
fn tuftool() -> Outcome<()> {
    println!("{}", Tuftool::version()?);
    let folder = tempfile::tempdir()?;
    let metadata = folder.path().join("metadata");
    let mut tuf = Tuftool::create(folder.path(), &[("1.4", b"old")])?;
    let root = std::fs::read(metadata.join("1.root.json"))?;
    let mut reader = Reader::with_template(&root, "{tag}")?;
    let mut find = |tag: &str, manifest: &str| {
        let image = format!("{NAME}:{tag}");
        verdict(&reader.find(&metadata, &image, manifest.as_bytes()))
    };

    assert_eq!(find("1.4", "old"), "signed by targets");
    assert_eq!(find("1.4", "new"), "DigestMismatch");
    assert_eq!(find("1.5", "old"), "Unsigned");

    tuf.delegate("payments", "1.5*", &[("1.5", b"new")])?;
    assert_eq!(find("1.5", "new"), "signed by payments");
    assert_eq!(find("1.4", "old"), "signed by targets");
    let before = Saved::of(&metadata)?;

    tuf.rotate_root()?;
    tuf.update(&[("1.4", b"newer")])?;
    assert_eq!(find("1.4", "newer"), "signed by targets");
    assert_eq!(find("1.4", "old"), "DigestMismatch");
    assert_eq!(find("1.5", "new"), "signed by payments");

    let after = Saved::of(&metadata)?;
    before.put_back()?;
    assert_eq!(find("1.4", "old"), "Rollback");
    after.put_back()?;
    assert_eq!(find("1.4", "newer"), "signed by targets");

    tuf.expire()?;
    assert_eq!(find("1.4", "newer"), "Expired");
    tuf.update(&[])?;
    assert_eq!(find("1.4", "newer"), "signed by targets");
    Ok(())
}
