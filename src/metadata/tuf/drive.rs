//! Gives an update the files that it wants, until it wants none.

use bytes::Bytes;
use countersign_verify::limits;
use countersign_verify::memory::Memory;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use countersign_verify::tuf::{Answer, File, Update};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::Mirror;
use crate::http::{FetchError, Room};
use crate::metadata::heavy::off_the_way;
use crate::metadata::not_had;

pub(super) const ROOT: &str = "root";
pub(super) const TIMESTAMP: &str = "timestamp";
const TIMESTAMP_FILE: &str = "timestamp.json";

/// Most files fetched side by side: so many of the largest are held before any is verified.
const SIDE_BY_SIDE: usize = 8;

/// How an update gets its files.
#[derive(Debug, Clone, Copy)]
pub struct Drive<'a> {
    /// Where the files are: all of one update's come from one place, which vouches for none.
    pub mirror: &'a Mirror,
    /// What the place is called in refusals: a source's name, or an URL.
    pub name: &'a str,
    /// What the files take as they arrive, where it is bounded for many updates together.
    pub room: Option<&'a Room>,
    /// When everything has to be there.
    pub deadline: Instant,
    /// Whether the timestamp is fetched beside the first root that is asked for, which saves a
    /// round trip; it is verified in its turn. Without it requests are in the specification's
    /// order.
    pub ahead: bool,
}

/// Is told of every file that an update took without failing: its role, its bytes, and what is
/// remembered by then. A delegated role among them may be bad, which the finished repository tells.
pub type Taken<'t> = &'t mut (dyn FnMut(&str, &Bytes, &Memory) + Send);

type Fetched = Result<Bytes, FetchError>;

impl Drive<'_> {
    /// Fetches what the update wants, side by side where it wants several files, and gives it to
    /// it. At most [`limits::TUF_REPOSITORY_BYTES`] in all, roots left out: no file is fetched that
    /// is longer than what is left.
    ///
    /// # Errors
    /// Why the update failed. What it has verified by then is in its memory.
    pub async fn run(&self, update: &mut Update, taken: Taken<'_>) -> Result<(), Refusal> {
        let mut timestamp = None;
        let mut is_first = true;
        let mut left = limits::TUF_REPOSITORY_BYTES;
        loop {
            let wanted = fitting(update.wanted(), left);
            if wanted.is_empty() {
                return Ok(());
            }
            let fetched = if self.ahead && is_first && wanted[0].role == ROOT {
                let (root, ahead) = tokio::join!(self.get(&wanted[0]), self.timestamp());
                timestamp = Some(ahead);
                vec![root]
            } else {
                match timestamp.take_if(|_| wanted[0].role == TIMESTAMP) {
                    Some(fetched) => vec![fetched],
                    None => try_join_all(wanted.iter().map(|file| self.with_room(file))).await?,
                }
            };
            is_first = false;
            let before = left;
            for (file, fetched) in wanted.iter().zip(fetched) {
                match &fetched {
                    Ok(read) if file.role != ROOT => left -= left.min(read.len() as u64),
                    Err(FetchError::TooLarge { limit }) if *limit == before => {
                        return Err(too_much().into());
                    }
                    _ => {}
                }
                self.give(update, file, &fetched).await?;
                if let Ok(read) = &fetched {
                    taken(&file.role, read, update.memory());
                }
            }
        }
    }

    /// Fetches one wanted file and gives it to the update: the file, where there is one, and
    /// whether the update failed. What it verified before it failed it rests on all the same.
    pub async fn one(
        &self,
        update: &mut Update,
        file: &File,
    ) -> (Option<Bytes>, Result<(), Refusal>) {
        let fetched = self.get(file).await;
        let given = self.give(update, file, &fetched).await;
        (fetched.ok(), given)
    }

    async fn give(
        &self,
        update: &mut Update,
        file: &File,
        fetched: &Fetched,
    ) -> Result<(), Refusal> {
        let role = file.role.as_str();
        let length = fetched.as_ref().map_or(0, Bytes::len);
        let given = off_the_way(self.name, length, self.deadline, || {
            let answer = match fetched {
                Ok(bytes) => Answer::Bytes(bytes),
                Err(FetchError::NotFound) => Answer::Absent,
                // What a bucket says of an object that is not there; python-tuf reads it so.
                Err(FetchError::Status(403)) if role == ROOT => Answer::Absent,
                Err(FetchError::TooLarge { limit }) => Answer::TooLong { limit: *limit },
                Err(error) => Answer::Unavailable(not_had(self.name, &file.path, error)),
            };
            update.take(role, answer)
        });
        given.await?
    }

    /// Where there is no room for one, there is none for the others either.
    async fn with_room(&self, file: &File) -> Result<Fetched, Unavailable> {
        match self.get(file).await {
            Err(FetchError::NoRoom) => Err(Unavailable::Overloaded),
            fetched => Ok(fetched),
        }
    }

    async fn get(&self, file: &File) -> Fetched {
        self.mirror.get(&file.path, file.max_bytes, self.room, self.deadline).await
    }

    async fn timestamp(&self) -> Fetched {
        let most = limits::TUF_TIMESTAMP_BYTES;
        self.mirror.get(TIMESTAMP_FILE, most, self.room, self.deadline).await
    }
}

/// Those of the wanted files that are fetched side by side: no more than fit into what is left
/// whatever their lengths turn out to be, or one that may take all of it.
fn fitting(mut wanted: Vec<File>, left: u64) -> Vec<File> {
    let mut sum: u64 = 0;
    let fits = |file: &&File| {
        sum = sum.saturating_add(file.max_bytes);
        sum <= left
    };
    let count = wanted.iter().take(SIDE_BY_SIDE).take_while(fits).count();
    wanted.truncate(count.max(1));
    if let [file] = wanted.as_mut_slice()
        && file.role != ROOT
    {
        file.max_bytes = file.max_bytes.min(left);
    }
    wanted
}

const SUM: &str = "the sum of a repository's metadata, in bytes,";

pub(super) fn too_much() -> Denial {
    Denial::LimitExceeded { what: SUM.to_owned(), limit: limits::TUF_REPOSITORY_BYTES }
}

/// Whether a refusal is of all files together being too large, and not of one that is bad.
pub(in crate::metadata) fn is_too_much(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Denied(Denial::LimitExceeded { what, .. }) if what == SUM)
}
