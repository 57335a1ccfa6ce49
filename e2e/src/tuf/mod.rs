//! TUF repositories, written by real tools and served on loopback.
//!
//! ```no_run
//! # fn main() -> countersign_e2e::Outcome<()> {
//! # use std::time::Duration;
//! # use countersign_e2e::tuf::{Delegation, Keys, Layout, Repository, Scheme, TufServer};
//! # let folder = std::path::Path::new("");
//! let mut tuf = Repository::create(folder, &Layout::default())?;
//! tuf.delegate("targets", &Delegation::by_paths("payments", &["registry.example.com/payments/*/*"]));
//! tuf.add_to("payments", "registry.example.com/payments/api/1.4", b"{}");
//! tuf.publish()?;                                        // one run of the tool
//! let server = TufServer::plain(tuf.folder())?;          // or TufServer::start(folder, &authority)
//! let (root, url) = (tuf.initial_root()?, server.metadata_url());
//! let before = tuf.save()?;
//! tuf.rotate("root", &Keys::one(Scheme::EcdsaP256));
//! tuf.expires("timestamp", -Duration::from_secs(60).as_secs().cast_signed());
//! tuf.publish()?;
//! tuf.put_back(&before)?;                                // what a rolled-back server has
//! # Ok(())
//! # }
//! ```

mod edit;
mod programs;
pub mod resources;
mod server;
mod tuftool;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

pub use edit::{Bins, Delegation, Keys, Layout, Scheme};
pub use programs::{GoTuf, PythonTuf, RustTuf};
pub use server::TufServer;
pub use tuftool::Tuftool;

use crate::{Context, Outcome};

/// A tool that writes TUF repositories.
pub trait Writer: Send + Sync {
    /// Its name and version, as it tells them itself.
    fn version(&self) -> Outcome<String>;

    /// Applies edits, in order, to the repository in this folder, and signs every role that they
    /// touch anew, once. The folder has the subfolders `metadata` and `targets`, which a server
    /// publishes, and what the tool keeps for itself, as private keys.
    fn apply(&self, folder: &Path, edits: &[Value]) -> Outcome<()>;
}

/// A TUF repository in a folder. Edits are collected until [`Repository::publish`].
pub struct Repository {
    folder: PathBuf,
    writer: Arc<dyn Writer>,
    edits: Vec<Value>,
    /// Of roles made from now on, in seconds.
    expires: u64,
}

/// What a repository published at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    folder: PathBuf,
    files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Repository {
    /// Makes a repository in this folder with python-tuf, and publishes its first version: no
    /// targets yet.
    pub fn create(folder: &Path, layout: &Layout) -> Outcome<Self> {
        Self::create_with(Arc::new(PythonTuf), folder, layout)
    }

    /// As [`Self::create`], with another tool.
    pub fn create_with(writer: Arc<dyn Writer>, folder: &Path, layout: &Layout) -> Outcome<Self> {
        fs::create_dir_all(folder)?;
        let expires = layout.expires.as_secs();
        let folder = folder.to_owned();
        let mut repository = Self { folder, writer, edits: vec![layout.edit()], expires };
        repository.publish()?;
        Ok(repository)
    }

    /// Its folder: `metadata`, `targets`, and what the tool keeps for itself.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The folder of metadata files.
    pub fn metadata(&self) -> PathBuf {
        self.folder.join("metadata")
    }

    /// The bytes of the first root.
    pub fn initial_root(&self) -> Outcome<Vec<u8>> {
        self.file("1.root.json")
    }

    /// The bytes of a metadata file, by its name in the folder.
    pub fn file(&self, name: &str) -> Outcome<Vec<u8>> {
        let path = self.metadata().join(name);
        fs::read(&path).context(path.display())
    }

    /// Signs a target file in the role `targets`.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        self.add_to("targets", name, bytes);
    }

    /// As [`Self::add`], in this role.
    pub fn add_to(&mut self, role: &str, name: &str, bytes: &[u8]) {
        self.add_as(json!(role), name, bytes, &["sha256"], &Value::Null);
    }

    /// As [`Self::add`], in the bin that `parent` delegates the name to.
    pub fn add_to_bin(&mut self, parent: &str, name: &str, bytes: &[u8]) {
        self.add_as(json!({"bin_of": parent}), name, bytes, &["sha256"], &Value::Null);
    }

    /// As [`Self::add`], with hashes of these algorithms, and what the signer adds as `custom`
    /// (`null` is nothing).
    pub fn add_with(&mut self, name: &str, bytes: &[u8], hashes: &[&str], custom: &Value) {
        self.add_as(json!("targets"), name, bytes, hashes, custom);
    }

    fn add_as(&mut self, role: Value, name: &str, bytes: &[u8], hashes: &[&str], custom: &Value) {
        let bytes = STANDARD.encode(bytes);
        self.edit(json!({
            "op": "add", "role": role, "name": name, "bytes": bytes, "hashes": hashes,
            "custom": custom,
        }));
    }

    /// Takes a target out of this role.
    pub fn remove(&mut self, role: &str, name: &str) {
        self.edit(json!({"op": "remove", "role": role, "name": name}));
    }

    /// Takes a target out of the bin that `parent` delegates its name to.
    pub fn remove_from_bin(&mut self, parent: &str, name: &str) {
        self.edit(json!({"op": "remove", "role": {"bin_of": parent}, "name": name}));
    }

    /// Delegates a new role, with keys of its own.
    pub fn delegate(&mut self, parent: &str, delegation: &Delegation) {
        self.edit(delegation.edit(parent, self.expires));
    }

    /// Delegates every name to bins, by the hash of the name.
    pub fn delegate_bins(&mut self, parent: &str, bins: &Bins) {
        self.edit(bins.edit(parent, self.expires));
    }

    /// Takes a delegation away.
    pub fn undelegate(&mut self, parent: &str, role: &str) {
        self.edit(json!({"op": "undelegate", "parent": parent, "name": role}));
    }

    /// Gives a top-level role new keys; a root is signed by its former ones too.
    pub fn rotate(&mut self, role: &str, keys: &Keys) {
        self.edit(keys.onto(json!({"op": "rotate", "role": role})));
    }

    /// As [`Self::rotate`], for a role that `parent` delegates to.
    pub fn rotate_delegated(&mut self, parent: &str, role: &str, keys: &Keys) {
        self.edit(keys.onto(json!({"op": "rotate", "role": role, "parent": parent})));
    }

    /// Lets a role expire so many seconds from now; negative ones are past.
    pub fn expires(&mut self, role: &str, seconds: i64) {
        self.edit(json!({"op": "expires", "role": role, "expires": seconds}));
    }

    /// Signs a new version of a role as it is.
    pub fn bump(&mut self, role: &str) {
        self.edit(json!({"op": "bump", "role": role}));
    }

    fn edit(&mut self, edit: Value) {
        self.edits.push(edit);
    }

    /// Runs the tool on the edits so far.
    pub fn publish(&mut self) -> Outcome<()> {
        self.writer.apply(&self.folder, &std::mem::take(&mut self.edits))
    }

    /// Every metadata file as it is published now.
    pub fn save(&self) -> Outcome<Saved> {
        Saved::of(&self.metadata())
    }

    /// Publishes exactly what was published then, as a server does that was rolled back.
    pub fn put_back(&self, saved: &Saved) -> Outcome<()> {
        saved.put_back()
    }
}

impl Saved {
    /// Every file of this folder.
    pub fn of(folder: &Path) -> Outcome<Self> {
        let mut files = BTreeMap::new();
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_file() {
                files.insert(path.clone(), fs::read(path)?);
            }
        }
        Ok(Self { folder: folder.to_owned(), files })
    }

    /// Lets exactly these files be there again.
    pub fn put_back(&self) -> Outcome<()> {
        for path in Self::of(&self.folder)?.files.keys() {
            if !self.files.contains_key(path) {
                fs::remove_file(path)?;
            }
        }
        for (path, bytes) in &self.files {
            fs::write(path, bytes)?;
        }
        Ok(())
    }
}
