//! What is remembered of repositories: in the process, and in a state folder or in the cluster's
//! TrustCheckpoints where there are any.

mod local;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use countersign_verify::notary::Memory;

use super::tuf::reads::ReadError;
use crate::api::bounds::CHECKPOINT_ROLES;
use crate::cluster::checkpoints::{CheckpointError, Checkpoints};
use local::{LOCK_TIMEOUT, Local, TIMEOUT};

/// How many bytes of the hash are in a name: whoever names the repositories of a registry finds no
/// two of one name.
const HASH_BYTES: usize = 16;

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
    /// A name: readable by its source, of which it has so many characters at most, and distinct by
    /// everything.
    pub(crate) fn name(&self, source_chars: usize) -> String {
        let whole = [&*self.source, &*self.repository, &*self.anchor].join("\n");
        let hash = digest(&SHA256, whole.as_bytes());
        let hex: String =
            hash.as_ref().iter().take(HASH_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let source: String = self.source.chars().take(source_chars).collect();
        // What was cut after a dot would end in it, and a label cannot.
        format!("{}-{hex}", source.trim_end_matches(['.', '-']))
    }
}

impl Remembered {
    /// Raises the floors to what was seen.
    pub(crate) fn raise(&mut self, memory: Memory) {
        self.memory = std::mem::take(&mut self.memory).merged(memory);
    }

    /// Lets go of what could not be remembered: of the roles that were known `before` the newest
    /// versions hold, of a repository that was not known nothing.
    pub(crate) fn keep_to(&mut self, before: Memory) {
        if before == Memory::default() {
            self.memory = before;
        } else {
            self.memory.roles.retain(|role, _| before.roles.contains_key(role));
        }
    }

    /// The one manual reset.
    pub(crate) fn forget(&mut self) {
        *self = Self { memory: Memory::default(), resets: self.resets + 1 };
    }
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
    /// A file was deleted while its repository was read on top of what it said.
    #[error("the state file of {repository} was deleted meanwhile; try again")]
    Deleted {
        /// The repository.
        repository: String,
    },
    /// The repository had too many roles by now.
    #[error(
        "more than {CHECKPOINT_ROLES} roles of {repository} would be remembered; deleting its state \
         file, or a restart where there is none, forgets those that are not there any more, and \
         which versions were seen"
    )]
    Roles {
        /// The repository.
        repository: String,
    },
    /// There is no place for another repository.
    #[error(
        "{most} repositories are remembered, and no other is verified; remember them in a state \
         folder (--state-dir)"
    )]
    Full {
        /// How many there may be.
        most: u64,
    },
    /// The folder does not answer.
    #[error("the state folder has not answered for {} s", TIMEOUT.as_secs())]
    Hangs,
    /// The cluster's checkpoints cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A bug.
    #[error("remembering ended: {0}")]
    Ended(String),
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

impl From<ReadError> for MemoryError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Deadline => Self::Hangs,
            ReadError::Ended(error) => Self::Ended(error),
        }
    }
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

    /// Remembers in a folder, which is made if it is not there, and as long as the process lives.
    /// Processes may share it. A file that is deleted is forgotten by all.
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
                let place = place.clone();
                local::blocking(local, move |local| local.load(&place)).await
            }
        }
    }

    /// What is remembered where others see it, too; nothing where that is not known.
    pub(super) async fn stored(&self, place: &Place) -> Memory {
        match &self.place {
            Store::Cluster(checkpoints) => checkpoints.stored(place),
            Store::Local(local) => {
                let place = place.clone();
                let stored = local::blocking(local, move |local| local.stored(&place)).await;
                stored.unwrap_or_default()
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
                let (place, loaded) = (place.clone(), loaded.clone());
                local::blocking(local, move |local| local.raise(&place, &loaded, &memory)).await
            }
        }
    }
}

#[cfg(test)]
mod tests;
