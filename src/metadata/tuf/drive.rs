//! Gives an update the files that it wants, until it wants none.

use bytes::Bytes;
use countersign_verify::limits;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use countersign_verify::tuf::{Answer, File, Update};
use futures_util::future::join_all;
use tokio::time::Instant;

use super::Mirror;
use crate::http::FetchError;
use crate::metadata::heavy::off_the_way;

const ROOT: &str = "root";
const TIMESTAMP: &str = "timestamp";
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
    /// When everything has to be there.
    pub deadline: Instant,
    /// Whether the timestamp is fetched beside the first root that is asked for, which saves a
    /// round trip; it is verified in its turn. Without it requests are in the specification's
    /// order.
    pub ahead: bool,
}

/// Is told of every file that an update took without failing: its role and its bytes. A delegated
/// role among them may be bad, which the finished repository tells.
pub type Taken<'t> = &'t mut (dyn FnMut(&str, &Bytes) + Send);

type Fetched = Result<Bytes, FetchError>;

impl Drive<'_> {
    /// Fetches what the update wants, side by side where it wants several files, and gives it to
    /// it. At most [`limits::TUF_REPOSITORY_BYTES`] in all, older roots left out, beyond which no
    /// further file is fetched.
    ///
    /// # Errors
    /// Why the update failed. What it has verified by then is in its memory.
    pub async fn run(&self, update: &mut Update, taken: Taken<'_>) -> Result<(), Refusal> {
        let mut timestamp = None;
        let mut is_first = true;
        let mut bytes: u64 = 0;
        loop {
            let mut wanted = update.wanted();
            wanted.truncate(SIDE_BY_SIDE);
            if wanted.is_empty() {
                return Ok(());
            }
            if bytes > limits::TUF_REPOSITORY_BYTES {
                return Err(too_much().into());
            }
            let fetched = if self.ahead && is_first && wanted[0].role == ROOT {
                let (root, ahead) = tokio::join!(self.get(&wanted[0]), self.timestamp());
                timestamp = Some(ahead);
                vec![root]
            } else {
                match timestamp.take_if(|_| wanted[0].role == TIMESTAMP) {
                    Some(fetched) => vec![fetched],
                    None => join_all(wanted.iter().map(|file| self.get(file))).await,
                }
            };
            is_first = false;
            for (file, fetched) in wanted.iter().zip(fetched) {
                if let (Ok(read), false) = (&fetched, file.role == ROOT) {
                    bytes += read.len() as u64;
                }
                self.give(update, file, &fetched).await?;
                if let Ok(read) = &fetched {
                    taken(&file.role, read);
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
        off_the_way(self.name, length, || {
            let answer = match fetched {
                Ok(bytes) => Answer::Bytes(bytes),
                Err(FetchError::NotFound) => Answer::Absent,
                // What a bucket says of an object that is not there; python-tuf reads it so.
                Err(FetchError::Status(403)) if role == ROOT => Answer::Absent,
                Err(FetchError::TooLarge { limit }) => Answer::TooLong { limit: *limit },
                Err(error) => Answer::Unavailable(Unavailable::SourceUnavailable {
                    source_name: self.name.to_owned(),
                    cause: format!("{}: {error}", file.path),
                }),
            };
            update.take(role, answer)
        })
        .await
    }

    async fn get(&self, file: &File) -> Fetched {
        self.mirror.get(&file.path, file.max_bytes, self.deadline).await
    }

    async fn timestamp(&self) -> Fetched {
        self.mirror.get(TIMESTAMP_FILE, limits::TUF_TIMESTAMP_BYTES, self.deadline).await
    }
}

const SUM: &str = "the sum of a repository's metadata, in bytes,";

pub(super) fn too_much() -> Denial {
    Denial::LimitExceeded { what: SUM.to_owned(), limit: limits::TUF_REPOSITORY_BYTES }
}

/// Whether a refusal is of all files together being too large, and not of one that is bad.
pub(in crate::metadata) fn is_too_much(refusal: &Refusal) -> bool {
    matches!(refusal, Refusal::Denied(Denial::LimitExceeded { what, .. }) if what == SUM)
}
