//! What is remembered of repositories: in the process, and in a state folder or in the cluster's
//! TrustCheckpoints where there are any.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_verify::notary::Memory;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};

use crate::cluster::checkpoints::{CheckpointError, Checkpoints};
use crate::files;

/// Repositories whose versions are remembered where there is no state folder.
const REMEMBERED: u64 = 100_000;

/// The file by which a state folder is tried at the start.
const TRIAL: &str = ".lock";

/// How long a lock is waited for. Writers hold one for the time of a small file's write.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// What is remembered is remembered of a repository in a source under a pin: another pin is
/// another beginning.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) source: String,
    pub(crate) repository: String,
    pub(crate) anchor: String,
}

/// What is remembered at the beginning of an update.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Remembered {
    /// The floors.
    pub(crate) memory: Memory,
    /// How often they were forgotten by then: what was verified on top of forgotten ones must not
    /// bring them back.
    pub(crate) resets: u64,
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
    /// The cluster's checkpoints cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A bug.
    #[error("remembering ended: {0}")]
    Ended(#[from] tokio::task::JoinError),
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
    Local(Arc<Local>),
    Cluster(Arc<Checkpoints>),
}

impl MemoryStore {
    /// Remembers for as long as the process lives.
    pub fn in_process() -> Self {
        Self::local(Local::in_process())
    }

    /// Remembers in a folder, which is made if it is not there. Processes may share it.
    pub fn in_folder(folder: &Path) -> Result<Self, MemoryError> {
        Local::in_folder(folder).map(Self::local)
    }

    /// Remembers in the cluster, with all replicas.
    pub fn in_cluster(checkpoints: Arc<Checkpoints>) -> Self {
        Self { place: Store::Cluster(checkpoints) }
    }

    fn local(local: Local) -> Self {
        Self { place: Store::Local(Arc::new(local)) }
    }

    /// What is remembered; nothing at first.
    pub(super) async fn load(&self, place: &Place) -> Result<Remembered, MemoryError> {
        match &self.place {
            Store::Cluster(checkpoints) => Ok(checkpoints.load(place)?),
            Store::Local(local) => {
                let (local, place) = (Arc::clone(local), place.clone());
                let memory = blocking(move || local.load(&place)).await?;
                Ok(Remembered { memory, resets: 0 })
            }
        }
    }

    /// Raises what is remembered to `memory`, which was verified on top of what was `loaded`, and
    /// tells what is remembered then: what others raised meanwhile stays. Takes a few seconds at
    /// most, where another process holds the lock or the API server is slow.
    pub(super) async fn raise(
        &self,
        place: &Place,
        loaded: &Remembered,
        memory: Memory,
    ) -> Result<Memory, MemoryError> {
        match &self.place {
            Store::Cluster(checkpoints) => Ok(checkpoints.raise(place, loaded, &memory).await?),
            Store::Local(local) => {
                let (local, place) = (Arc::clone(local), place.clone());
                let base = loaded.memory.clone();
                blocking(move || local.raise(&place, &base, memory)).await
            }
        }
    }
}

/// Waits for a state folder, which may be slow, without keeping other work from the thread.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, MemoryError> + Send + 'static,
) -> Result<T, MemoryError> {
    tokio::task::spawn_blocking(work).await?
}

/// What is remembered on this machine.
#[derive(Debug)]
enum Local {
    Process { memories: Cache<String, Memory>, writer: Mutex<()> },
    Folder(PathBuf),
}

impl Local {
    fn in_process() -> Self {
        Self::Process { memories: Cache::new(REMEMBERED), writer: Mutex::default() }
    }

    fn in_folder(folder: &Path) -> Result<Self, MemoryError> {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        lock(&folder.join(TRIAL))?;
        Ok(Self::Folder(folder.to_owned()))
    }

    /// Blocks.
    fn load(&self, place: &Place) -> Result<Memory, MemoryError> {
        match self {
            Self::Process { memories, .. } => {
                Ok(memories.get(&place.file_name()).unwrap_or_default())
            }
            Self::Folder(folder) => read(&folder.join(place.file_name()), place),
        }
    }

    /// Blocks, for a few seconds at most where another process holds the lock.
    fn raise(&self, place: &Place, base: &Memory, memory: Memory) -> Result<Memory, MemoryError> {
        match self {
            Self::Process { memories, writer } => {
                let _one_at_a_time = writer.lock();
                let name = place.file_name();
                let before = memories.get(&name).unwrap_or_default();
                let merged = before.clone().raised(base, memory);
                // A name that nothing was verified of takes no place from those that matter.
                if merged != before {
                    memories.insert(name, merged.clone());
                }
                Ok(merged)
            }
            Self::Folder(folder) => {
                let path = folder.join(place.file_name());
                // The file is always whole, so that nothing new needs no lock.
                let before = read(&path, place)?;
                if before.clone().raised(base, memory.clone()) == before {
                    return Ok(before);
                }
                let _one_at_a_time = lock(&path.with_extension("lock"))?;
                let merged = read(&path, place)?.raised(base, memory);
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
    let held = files::lock(path, LOCK_TIMEOUT).map_err(io_error(path))?;
    held.ok_or_else(|| MemoryError::Locked { path: path.to_owned() })
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
