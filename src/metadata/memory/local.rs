//! What is remembered on this machine: in the process, and in a state folder where there is one.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use countersign_verify::notary::Memory;
use moka::ops::compute::Op;
use moka::sync::Cache;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::{MemoryError, Place, Remembered};
use crate::api::bounds::CHECKPOINT_ROLES;
use crate::files;
use crate::metadata::tuf::reads::Reads;

/// Repositories whose versions are remembered in the process. Beyond it, what has a file is read
/// from there again, and where there are no files no other is verified: what was forgotten could be
/// rolled back.
const REMEMBERED: u64 = 100_000;

/// Most bytes of a file: all roles that there may be, with the longest names that theirs and their
/// keys' can have.
const FILE_BYTES: u64 = 1 << 20;

/// Longest part of a file's name that is the source's: a name may have 255 bytes, with the longest
/// of the endings.
const SOURCE_CHARS: usize = 214;

/// The file by which a state folder is tried at the start.
pub(super) const TRIAL: &str = ".lock";

/// How long a lock is waited for. Writers hold one for the time of a small file's write.
pub(super) const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a folder is waited for.
pub(super) const TIMEOUT: Duration = Duration::from_secs(3);

/// What is remembered on this machine.
#[derive(Debug)]
pub(super) struct Local {
    known: Cache<String, Known>,
    folder: Option<PathBuf>,
    most: u64,
}

/// What this process knows of a place.
#[derive(Debug, Clone, Default)]
pub(super) struct Known {
    /// The most that it has verified, or seen in the file, since that was last deleted.
    floors: Remembered,
    /// What the file held when it was last seen or written, where there was one.
    stored: Option<Stored>,
}

#[derive(Debug, Clone, PartialEq)]
struct Stored {
    memory: Memory,
    made: u64,
}

/// A file of the state folder.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Checkpoint {
    source: String,
    repository: String,
    anchor: String,
    /// When it was first written, in nanoseconds since 1970. A later time than was seen tells that
    /// it was deleted meanwhile, and an earlier one that it is from a backup.
    #[serde(default)]
    made: u64,
    memory: Memory,
}

/// Waits for a state folder, which may hang, without keeping other work from the thread, and no
/// longer than [`TIMEOUT`].
pub(super) async fn blocking<T: Send + 'static>(
    local: &Arc<Local>,
    work: impl FnOnce(&Local) -> Result<T, MemoryError> + Send + 'static,
) -> Result<T, MemoryError> {
    let Some(folder) = &local.folder else { return work(local) };
    let deadline = Instant::now() + TIMEOUT;
    let local = Arc::clone(local);
    Reads::of(folder).run(deadline, move || work(&local)).await
}

impl Local {
    pub(super) fn in_process() -> Self {
        Self::remembering(REMEMBERED)
    }

    /// So many at most.
    pub(super) fn remembering(most: u64) -> Self {
        Self { known: Cache::builder().build(), folder: None, most }
    }

    pub(super) fn in_folder(folder: &Path) -> Result<Self, MemoryError> {
        fs::create_dir_all(folder).map_err(io_error(folder))?;
        lock(&folder.join(TRIAL))?;
        let (known, folder) = (Cache::new(REMEMBERED), Some(folder.to_owned()));
        Ok(Self { known, folder, ..Self::in_process() })
    }

    /// Blocks.
    pub(super) fn load(&self, place: &Place) -> Result<Remembered, MemoryError> {
        self.change(place, |known, path| {
            path.map_or(Ok(()), |path| known.look(path, place))?;
            Ok(known.floors.clone())
        })
    }

    /// What the file held when it was last seen.
    pub(super) fn stored(&self, place: &Place) -> Result<Memory, MemoryError> {
        self.change(place, |known, _| {
            Ok(known.stored.as_ref().map(|stored| stored.memory.clone()).unwrap_or_default())
        })
    }

    /// Blocks, for a few seconds at most where another process holds the lock. Where the file
    /// cannot be written the floors are raised in this process all the same.
    pub(super) fn raise(
        &self,
        place: &Place,
        loaded: &Remembered,
        memory: &Memory,
    ) -> Result<Memory, MemoryError> {
        self.change(place, |known, path| {
            let Some(path) = path else {
                known.raise(place, loaded, memory)?;
                return Ok(known.floors.memory.clone());
            };
            let mut is_written = || {
                known.look(path, place)?;
                known.raise(place, loaded, memory)
            };
            // The file is always whole, so that nothing new needs no lock.
            if !is_written()? {
                let _one_at_a_time = lock(&path.with_extension("lock"))?;
                if !is_written()? {
                    known.write(path, place)?;
                }
            }
            Ok(known.floors.memory.clone())
        })
    }

    fn is_full(&self) -> bool {
        self.known.run_pending_tasks();
        self.known.entry_count() >= self.most
    }

    /// Changes what is known of a place, one at a time. Gives the path of its file, too.
    pub(super) fn change<T>(
        &self,
        place: &Place,
        change: impl FnOnce(&mut Known, Option<&Path>) -> Result<T, MemoryError>,
    ) -> Result<T, MemoryError> {
        let name = place.name(SOURCE_CHARS);
        let path = self.folder.as_ref().map(|folder| folder.join(format!("{name}.json")));
        let mut done = None;
        self.known.entry(name).and_compute_with(|entry| {
            let is_new = entry.is_none();
            let mut known = entry.map(moka::Entry::into_value).unwrap_or_default();
            done = Some(change(&mut known, path.as_deref()));
            // A name that nothing was verified of takes no place from those that matter.
            if is_new && known.floors == Remembered::default() {
                return Op::Nop;
            }
            if is_new && path.is_none() && self.is_full() {
                done = Some(Err(MemoryError::Full { most: self.most }));
                return Op::Nop;
            }
            Op::Put(known)
        });
        done.unwrap_or_else(|| Err(MemoryError::Ended("nothing was computed".to_owned())))
    }
}

impl Known {
    /// Takes what the file holds by now.
    fn look(&mut self, path: &Path, place: &Place) -> Result<(), MemoryError> {
        let Some(mut found) = read(path, place)? else {
            if self.stored.is_some() {
                self.forget(path, place);
            }
            return Ok(());
        };
        if let Some(stored) = &self.stored {
            let is_older = stored.memory.clone().merged(found.memory.clone()) != found.memory;
            if found.made > stored.made {
                self.forget(path, place);
            } else {
                found.made = stored.made;
                if is_older {
                    tracing::warn!(
                        source = place.source,
                        repository = place.repository,
                        file = %path.display(),
                        "a state file is older than it was: what was seen holds, and is written \
                         again"
                    );
                }
            }
        }
        self.floors.raise(found.memory.clone());
        self.stored = Some(found);
        Ok(())
    }

    /// The one manual reset.
    fn forget(&mut self, path: &Path, place: &Place) {
        tracing::warn!(
            source = place.source,
            repository = place.repository,
            file = %path.display(),
            "a state file was deleted: what was seen of its repository is forgotten, and older \
             versions that have not expired are trusted again"
        );
        self.floors.forget();
        self.stored = None;
    }

    /// Raises the floors to `memory`, which rests on what was `loaded`; tells whether the file has
    /// them.
    fn raise(
        &mut self,
        place: &Place,
        loaded: &Remembered,
        memory: &Memory,
    ) -> Result<bool, MemoryError> {
        if self.floors.resets != loaded.resets {
            return Err(MemoryError::Deleted { repository: place.repository.clone() });
        }
        let before = self.floors.memory.clone();
        self.floors.raise(memory.clone());
        if self.floors.memory.roles.len() > CHECKPOINT_ROLES {
            self.floors.keep_to(before);
            return Err(MemoryError::Roles { repository: place.repository.clone() });
        }
        let nothing = Memory::default();
        let stored = self.stored.as_ref().map_or(&nothing, |stored| &stored.memory);
        Ok(*stored == self.floors.memory)
    }

    fn write(&mut self, path: &Path, place: &Place) -> Result<(), MemoryError> {
        let memory = self.floors.memory.clone();
        let made = self.stored.as_ref().map_or_else(now, |stored| stored.made);
        write(path, place, &memory, made).map_err(io_error(path))?;
        self.stored = Some(Stored { memory, made });
        Ok(())
    }
}

/// Nanoseconds since 1970.
fn now() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
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

fn read(path: &Path, place: &Place) -> Result<Option<Stored>, MemoryError> {
    let bytes = match files::read(path, FILE_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(path)(error)),
    };
    let malformed = |reason: String| MemoryError::Malformed { path: path.to_owned(), reason };
    let checkpoint: Checkpoint =
        serde_json::from_slice(&bytes).map_err(|error| malformed(error.to_string()))?;
    let told = [&checkpoint.source, &checkpoint.repository, &checkpoint.anchor];
    if told != [&place.source, &place.repository, &place.anchor] {
        return Err(malformed(format!("it is about {} of {}", told[1], told[0])));
    }
    Ok(Some(Stored { memory: checkpoint.memory, made: checkpoint.made }))
}

/// Replaces the file whole: after a crash it is the old one or the new one.
fn write(path: &Path, place: &Place, memory: &Memory, made: u64) -> io::Result<()> {
    let checkpoint = Checkpoint {
        source: place.source.clone(),
        repository: place.repository.clone(),
        anchor: place.anchor.clone(),
        made,
        memory: memory.clone(),
    };
    let mut text = serde_json::to_vec_pretty(&checkpoint)?;
    text.push(b'\n');
    let partial = path.with_extension("partial");
    // What is left there is of a writer that was killed, or a pipe, which would be waited for.
    match fs::remove_file(&partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = File::create_new(&partial)?;
    file.write_all(&text)?;
    file.sync_all()?;
    fs::rename(&partial, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
