//! The folder with what is trusted of one repository: one file a role, as it was received.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign_verify::limits;
use countersign_verify::tuf::{InitialRoot, file_name, role_name};

use crate::files;

/// How long another process that uses the folder is waited for.
const LOCK_TIMEOUT: Duration = Duration::from_secs(10);

/// The file that a process locks while it uses the folder.
const LOCK: &str = ".lock";

/// Longest name of a file, in bytes. Source: Linux (`NAME_MAX`).
pub(super) const NAME_BYTES: usize = 255;

/// Names that are tried for a new file; chance takes none twice.
const ATTEMPTS: usize = 4;

/// Most roles of which files are listed: one file each.
const ROLES: usize = 65_536;

const ROOT: &str = "root";

/// The folder of one repository.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
}

impl Folder {
    pub(super) fn at(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Begins with this root, and makes the folder if it is not there. A folder that begins with
    /// the same root already is left as it is.
    ///
    /// # Errors
    /// Where the root is none, or the folder has another one.
    pub(super) fn init(&self, root: &Path) -> Result<InitialRoot, String> {
        let bytes = files::read(root, limits::TUF_ROOT_BYTES)
            .map_err(|error| format!("{}: {error}", root.display()))?;
        let initial = InitialRoot::read(&bytes).map_err(|denial| {
            let hint = super::unknown_keys_of(&[&bytes]);
            format!(
                "{} is no root to begin with: {denial}{hint}; it has to be the repository's own \
                 root.json, of TUF 1.0, signed by the root keys in it",
                root.display()
            )
        })?;
        fs::create_dir_all(&self.path).map_err(|error| self.unusable(&error))?;
        let _alone = self.lock()?;
        match self.read(ROOT, limits::TUF_ROOT_BYTES) {
            Some(present) if present == bytes => Ok(initial),
            None if !self.file(ROOT).exists() => {
                self.write(ROOT, &bytes)?;
                Ok(initial)
            }
            _ => Err(format!(
                "{} has a root already, another one than {}; to begin anew, remove that folder, \
                 which forgets every version seen, or name another one",
                self.path.display(),
                root.display()
            )),
        }
    }

    /// The root that is trusted.
    pub(super) fn root(&self) -> Result<InitialRoot, String> {
        let path = self.file(ROOT);
        let bytes = files::read(&path, limits::TUF_ROOT_BYTES).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => format!(
                "{}: there is no root.json to begin with; run `countersign tuf --metadata-dir {} \
                 init ROOT.json` first, with a root that you have from the repository's owner",
                self.path.display(),
                self.path.display()
            ),
            _ => format!("{}: {error}", path.display()),
        })?;
        InitialRoot::read(&bytes).map_err(|denial| {
            let hint = super::unknown_keys_of(&[&bytes]);
            format!(
                "{} is not a root that this command wrote: {denial}{hint}; begin anew with `init` \
                 in another folder",
                path.display()
            )
        })
    }

    /// A role's file, where there is a regular one of at most `max_bytes` that can be read.
    pub(super) fn read(&self, role: &str, max_bytes: u64) -> Option<Vec<u8>> {
        files::read(&self.file(role), max_bytes).ok()
    }

    /// Replaces a role's file whole: after a crash it is the old one or the new one. A role whose
    /// escaped name is too long for a file is not kept, and fetched again by the next run.
    pub(super) fn write(&self, role: &str, bytes: &[u8]) -> Result<(), String> {
        let path = self.file(role);
        if path.file_name().is_none_or(|name| name.len() > NAME_BYTES) {
            return Ok(());
        }
        let mut partial = Partial::create(&self.path).map_err(|error| self.unusable(&error))?;
        let written = partial.file.write_all(bytes).and_then(|()| partial.persist(&path));
        written.map_err(|error| format!("{}: {error}", path.display()))
    }

    /// The roles that there are files of.
    pub(super) fn roles(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().take(ROLES).flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names.filter_map(|name| name.strip_suffix(".json").map(role_name)).collect()
    }

    /// Holds the folder until the file is dropped, also against other processes.
    pub(super) fn lock(&self) -> Result<File, String> {
        let lock = files::lock(&self.path.join(LOCK), LOCK_TIMEOUT);
        lock.map_err(|error| self.unusable(&error))?.ok_or_else(|| {
            format!(
                "{}: another process has been using this folder for {} s; try again when it is done",
                self.path.display(),
                LOCK_TIMEOUT.as_secs()
            )
        })
    }

    fn file(&self, role: &str) -> PathBuf {
        self.path.join(format!("{}.json", file_name(role)))
    }

    fn unusable(&self, error: &io::Error) -> String {
        format!(
            "{}: {error}; --metadata-dir has to be a folder that can be written",
            self.path.display()
        )
    }
}

/// A file that is not there under its name yet; gone when it is dropped before.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) file: File,
    path: PathBuf,
    folder: PathBuf,
}

impl Partial {
    /// Makes a new one in a folder, which other processes may be using, also of the same number:
    /// those of other containers. No file that is there already is written to or removed.
    pub(super) fn create(folder: &Path) -> io::Result<Self> {
        for _ in 0..ATTEMPTS {
            let mut random = [0; 8];
            aws_lc_rs::rand::fill(&mut random).map_err(io::Error::other)?;
            let name = format!(".countersign-{:016x}.partial", u64::from_ne_bytes(random));
            let path = folder.join(name);
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(file) => return Ok(Self { file, path, folder: folder.to_owned() }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Gives it its name, and takes that from whatever has it.
    pub(super) fn persist(&self, name: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, name)?;
        File::open(&self.folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It is gone already where it has its name.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn t16_a_link_that_somebody_left_is_not_written_through() {
        let place = tempfile::tempdir().expect("a folder");
        let outside = place.path().join("outside");
        fs::write(&outside, "as it was").expect("written");
        let folder = place.path().join("folder");
        fs::create_dir(&folder).expect("a folder");
        std::os::unix::fs::symlink(&outside, folder.join("root.json")).expect("linked");
        Folder::at(&folder).write("root", b"new").expect("written");
        assert_eq!(fs::read(&outside).expect("read"), b"as it was");
        assert_eq!(fs::read(folder.join("root.json")).expect("read"), b"new");
        assert!(folder.join("root.json").symlink_metadata().expect("there").is_file());
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut partial = Partial::create(folder.path()).expect("made");
        partial.file.write_all(b"half").expect("written");
        drop(partial);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0);
    }

    #[test]
    fn t16_two_at_work_in_one_folder_do_not_touch_each_others_files() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut first = Partial::create(folder.path()).expect("made");
        first.file.write_all(b"first, checked").expect("written");
        let mut second = Partial::create(folder.path()).expect("made");
        second.file.write_all(b"second, half").expect("written");
        first.persist(&folder.path().join("target")).expect("named");
        drop(first);
        let named = fs::read(folder.path().join("target")).expect("read");
        assert_eq!(named, b"first, checked");
        drop(second);
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 1);
    }
}
