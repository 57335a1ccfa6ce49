//! What is remembered of repositories: in the process, and in a state folder where there is one.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use countersign_verify::notary::Memory;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

/// Repositories whose versions are remembered where there is no state folder.
const REMEMBERED: u64 = 100_000;

/// The file by which a state folder is tried at the start.
const TRIAL: &str = ".lock";

/// How long a lock is waited for. Writers hold one for the time of a small file's write.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How often a lock that another process holds is tried.
const LOCK_RETRY: Duration = Duration::from_millis(10);

/// What is remembered is remembered of a repository in a source under a pin: another pin is
/// another beginning.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) source: String,
    pub(super) repository: String,
    pub(super) anchor: String,
}

impl Place {
    /// Readable by its source, distinct by everything.
    pub(super) fn file_name(&self) -> String {
        let whole = [&*self.source, &*self.repository, &*self.anchor].join("\n");
        let hash = digest(&SHA256, whole.as_bytes());
        let hex: String = hash.as_ref().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        format!("{}-{hex}.json", self.source)
    }
}

/// A file of the state folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Checkpoint {
    source: String,
    repository: String,
    anchor: String,
    memory: Memory,
}

/// Why what is remembered cannot be read or written. Without it rollback cannot be refused, so
/// nothing is verified.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The folder or a file in it cannot be used.
    #[error("{}: {error}; the state folder must be writable", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file is not one that Countersign wrote.
    #[error(
        "{} cannot be read: {reason}; deleting it forgets which versions were seen, so do that \
         only if you know why it changed",
        .path.display()
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// Another process does not let go of a file.
    #[error(
        "{}: another process has held the lock for {} s; end that process, or give each \
         installation a state folder of its own",
        .path.display(),
        LOCK_TIMEOUT.as_secs()
    )]
    Locked {
        /// The file that is locked.
        path: PathBuf,
    },
}

/// The newest versions seen, by repository, source and pin. It only ever restricts.
#[derive(Debug)]
pub struct MemoryStore {
    place: Store,
}

#[derive(Debug)]
enum Store {
    Process { memories: Cache<String, Memory>, writer: Mutex<()> },
    Folder(PathBuf),
}

impl MemoryStore {
    /// Remembers for as long as the process lives.
    pub fn in_process() -> Self {
        let memories = Cache::new(REMEMBERED);
        Self { place: Store::Process { memories, writer: Mutex::default() } }
    }

    /// Remembers in a folder, which is made if it is not there. Processes may share it.
    pub fn in_folder(folder: &Path) -> Result<Self, MemoryError> {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        lock(&folder.join(TRIAL))?;
        Ok(Self { place: Store::Folder(folder.to_owned()) })
    }

    /// What is remembered; nothing at first. Blocks.
    pub(super) fn load(&self, place: &Place) -> Result<Memory, MemoryError> {
        match &self.place {
            Store::Process { memories, .. } => {
                Ok(memories.get(&place.file_name()).unwrap_or_default())
            }
            Store::Folder(folder) => read(&folder.join(place.file_name()), place),
        }
    }

    /// Raises what is remembered to `memory`, and tells what is remembered then: what others raised
    /// meanwhile stays. Blocks, for a few seconds at most where another process holds the lock.
    pub(super) fn raise(&self, place: &Place, memory: Memory) -> Result<Memory, MemoryError> {
        match &self.place {
            Store::Process { memories, writer } => {
                let _one_at_a_time = writer.lock();
                let name = place.file_name();
                let merged = memories.get(&name).unwrap_or_default().merged(memory);
                memories.insert(name, merged.clone());
                Ok(merged)
            }
            Store::Folder(folder) => {
                let path = folder.join(place.file_name());
                // The file is always whole, so that nothing new needs no lock.
                let before = read(&path, place)?;
                if before.clone().merged(memory.clone()) == before {
                    return Ok(before);
                }
                let _one_at_a_time = lock(&path.with_extension("lock"))?;
                let merged = read(&path, place)?.merged(memory);
                write(&path, place, &merged).map_err(io_error(&path))?;
                Ok(merged)
            }
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> MemoryError {
    let path = path.to_owned();
    move |error| MemoryError::Io { path, error }
}

/// Held until dropped, also against other processes.
fn lock(path: &Path) -> Result<File, MemoryError> {
    let file = OpenOptions::new().create(true).append(true).open(path).map_err(io_error(path))?;
    let begun = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if begun.elapsed() < LOCK_TIMEOUT => {
                thread::sleep(LOCK_RETRY);
            }
            Err(TryLockError::WouldBlock) => {
                return Err(MemoryError::Locked { path: path.to_owned() });
            }
            Err(TryLockError::Error(error)) => return Err(io_error(path)(error)),
        }
    }
}

fn read(path: &Path, place: &Place) -> Result<Memory, MemoryError> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Memory::default()),
        Err(error) => return Err(io_error(path)(error)),
    };
    let malformed = |reason: String| MemoryError::Malformed { path: path.to_owned(), reason };
    let checkpoint: Checkpoint =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let told = [&checkpoint.source, &checkpoint.repository, &checkpoint.anchor];
    if told != [&place.source, &place.repository, &place.anchor] {
        return Err(malformed(format!("it is about {} of {}", told[1], told[0])));
    }
    Ok(checkpoint.memory)
}

/// Replaces the file whole: after a crash it is the old one or the new one.
fn write(path: &Path, place: &Place, memory: &Memory) -> io::Result<()> {
    let checkpoint = Checkpoint {
        source: place.source.clone(),
        repository: place.repository.clone(),
        anchor: place.anchor.clone(),
        memory: memory.clone(),
    };
    let partial = path.with_extension("partial");
    let mut file = File::create(&partial)?;
    serde_json::to_writer_pretty(&mut file, &checkpoint)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
