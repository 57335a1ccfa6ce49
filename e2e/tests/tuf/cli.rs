//! The same through `countersign tuf`, over HTTP: for every writer.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;

use countersign_e2e::process::{Finished, run};
use countersign_e2e::tuf::{
    Bins, Delegation, GoTuf, Keys, Layout, PythonTuf, Repository, RustTuf, Saved, Scheme,
    TufServer, Tuftool, Writer,
};
use countersign_e2e::{Outcome, tools};
use tempfile::TempDir;

use crate::shell::NAME;

/// An admin, with a folder of what is trusted and one of what was downloaded.
struct Admin {
    place: TempDir,
    server: TufServer,
}

impl Admin {
    fn new(server: TufServer, root: &[u8]) -> Outcome<Self> {
        let admin = Self { place: tempfile::tempdir()?, server };
        fs::create_dir(admin.path("targets"))?;
        fs::write(admin.path("given.json"), root)?;
        let given = admin.path("given.json").display().to_string();
        admin.run(&["init", &given])?.success()?;
        Ok(admin)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Outcome<Finished> {
        let mut command = Command::new(tools::countersign()?);
        command.arg("tuf").arg("--metadata-dir").arg(self.path("metadata"));
        command.args(["--metadata-url", &self.server.metadata_url()]);
        run(command.args(arguments), "")
    }

    fn refresh(&self) -> Outcome<Finished> {
        self.run(&["refresh"])
    }

    /// The bytes that a target's name stands for.
    fn download(&self, name: &str) -> Outcome<Vec<u8>> {
        let (url, folder) = (self.server.targets_url(), self.path("targets"));
        let folder = folder.display().to_string();
        let target = ["--target-name", name, "--target-base-url", &url, "--target-dir", &folder];
        self.run(&[&target[..], &["download"]].concat())?.success()?;
        Ok(fs::read(self.path("targets").join(name.replace('/', "%2F")))?)
    }

    #[track_caller]
    fn is_refused(&self, words: &str) -> Outcome<()> {
        let refused = self.refresh()?;
        assert_eq!(refused.code, Some(1), "{refused}");
        assert!(refused.stderr.contains(words), "no {words:?} in {refused}");
        Ok(())
    }
}

/// Writes with any of the libraries.
fn lives(writer: impl Writer + 'static) -> Outcome<()> {
    println!("{}", writer.version()?);
    let folder = tempfile::tempdir()?;
    let mut tuf = Repository::create_with(Arc::new(writer), folder.path(), &Layout::default())?;
    let (old, new) = (format!("{NAME}/1.4"), format!("{NAME}/1.5"));
    tuf.add(&old, b"old");
    tuf.publish()?;
    let admin = Admin::new(TufServer::plain(tuf.folder())?, &tuf.initial_root()?)?;
    assert_eq!(admin.download(&old)?, b"old");

    let paths = ["registry.example.com/payments/*/*"];
    tuf.delegate("targets", &Delegation::by_paths("payments", &paths));
    tuf.add_to("payments", &new, b"new");
    tuf.publish()?;
    assert_eq!(admin.download(&new)?, b"new");
    let before = tuf.save()?;

    tuf.rotate("root", &Keys::one(Scheme::Ed25519));
    tuf.bump("targets");
    tuf.publish()?;
    admin.refresh()?.success()?;
    let after = tuf.save()?;
    tuf.put_back(&before)?;
    admin.is_refused("went back to version")?;
    tuf.put_back(&after)?;
    tuf.expires("timestamp", -60);
    tuf.publish()?;
    admin.is_refused("expired")
}

#[test]
fn python_tuf() -> Outcome<()> {
    lives(PythonTuf)
}

#[test]
fn go_tuf() -> Outcome<()> {
    lives(GoTuf)
}

#[test]
fn rust_tuf() -> Outcome<()> {
    lives(RustTuf)
}

#[test]
fn tuftool() -> Outcome<()> {
    println!("{}", Tuftool::version()?);
    let folder = tempfile::tempdir()?;
    let metadata = folder.path().join("metadata");
    let mut tuf = Tuftool::create(folder.path(), &[("1.4", b"old")])?;
    let root = fs::read(metadata.join("1.root.json"))?;
    let admin = Admin::new(TufServer::plain(folder.path())?, &root)?;
    assert_eq!(admin.download("1.4")?, b"old");
    tuf.delegate("payments", "1.5*", &[("1.5", b"new")])?;
    assert_eq!(admin.download("1.5")?, b"new");
    let before = Saved::of(&metadata)?;
    tuf.rotate_root()?;
    admin.refresh()?.success()?;
    let after = Saved::of(&metadata)?;
    before.put_back()?;
    admin.is_refused("went back to version")?;
    after.put_back()?;
    tuf.expire()?;
    admin.is_refused("expired")
}

/// Hashed bins and succinct ones, by both libraries that write them.
#[test]
fn bins() -> Outcome<()> {
    let writers: [Arc<dyn Writer>; 2] = [Arc::new(PythonTuf), Arc::new(GoTuf)];
    for writer in writers {
        for bins in [Bins::hashed("bin_", 4), Bins::succinct("bins", 4)] {
            println!("{} {bins:?}", writer.version()?);
            let folder = tempfile::tempdir()?;
            let layout = Layout::default();
            let mut tuf = Repository::create_with(Arc::clone(&writer), folder.path(), &layout)?;
            tuf.delegate_bins("targets", &bins);
            for tag in ["1.4", "1.5", "1.6"] {
                tuf.add_to_bin("targets", &format!("{NAME}/{tag}"), tag.as_bytes());
            }
            tuf.publish()?;
            let admin = Admin::new(TufServer::plain(tuf.folder())?, &tuf.initial_root()?)?;
            for tag in ["1.4", "1.5", "1.6"] {
                assert_eq!(admin.download(&format!("{NAME}/{tag}"))?, tag.as_bytes());
            }
        }
    }
    Ok(())
}
