//! Reads of mounted folders, any of which may hang for as long as it likes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::http::FetchError;

/// Reads of one folder at a time. Each may take a thread until the folder answers, of the hundreds
/// that everything else in the process needs as well.
const AT_A_TIME: usize = 8;

/// The turns of the folders that are being read. Those of a folder that hangs stay taken, also when
/// its source is configured anew.
static FOLDERS: LazyLock<Mutex<HashMap<PathBuf, Weak<Semaphore>>>> = LazyLock::new(Mutex::default);

/// Why a read has not ended.
#[derive(Debug)]
pub(in crate::metadata) enum ReadError {
    /// The folder has not answered until the deadline.
    Deadline,
    /// A bug.
    Ended(String),
}

impl From<ReadError> for FetchError {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Deadline => Self::Deadline,
            ReadError::Ended(error) => Self::File(error),
        }
    }
}

/// The reads of one folder. Clones share its turns.
#[derive(Debug, Clone)]
pub(in crate::metadata) struct Reads(Arc<Semaphore>);

impl Reads {
    pub(in crate::metadata) fn of(folder: &Path) -> Self {
        let mut folders = FOLDERS.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(turns) = folders.get(folder).and_then(Weak::upgrade) {
            return Self(turns);
        }
        folders.retain(|_, turns| turns.strong_count() > 0);
        let turns = Arc::new(Semaphore::new(AT_A_TIME));
        folders.insert(folder.to_owned(), Arc::downgrade(&turns));
        Self(turns)
    }

    /// Does what blocks, in its turn. After the deadline it is given up: it goes on, and keeps its
    /// turn and its thread until the folder answers.
    pub(in crate::metadata) async fn run<T, E>(
        &self,
        deadline: Instant,
        work: impl FnOnce() -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<ReadError> + Send + 'static,
    {
        let turns = Arc::clone(&self.0);
        let turn = timeout_at(deadline, turns.acquire_owned()).await;
        let turn = turn.map_err(|_| ReadError::Deadline)?.map_err(ended)?;
        let reading = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work()
        });
        timeout_at(deadline, reading).await.map_err(|_| ReadError::Deadline)?.map_err(ended)?
    }
}

fn ended(error: impl std::error::Error) -> ReadError {
    ReadError::Ended(error.to_string())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn k10_a_folder_that_hangs_takes_some_threads_and_others_none_of_them() {
        let (hung, other) = (Path::new("/hung"), Path::new("/other"));
        let begun = Arc::new(AtomicUsize::new(0));
        let mut releases = Vec::new();
        let soon = || Instant::now() + Duration::from_millis(50);
        for round in 0..2 {
            let reads = (0..AT_A_TIME).map(|_| {
                let (release, released) = mpsc::channel::<()>();
                releases.push(release);
                let begun = Arc::clone(&begun);
                let work = move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    // Until its sender is dropped.
                    let _ = released.recv();
                    Ok(())
                };
                async move { Reads::of(hung).run(soon(), work).await }
            });
            for read in futures_util::future::join_all(reads).await {
                assert_eq!(read, Err(FetchError::Deadline), "{round}");
            }
            assert_eq!(begun.load(Ordering::SeqCst), AT_A_TIME, "{round}");
            let elsewhere = Reads::of(other).run(soon(), || Ok::<_, FetchError>(1)).await;
            assert_eq!(elsewhere, Ok(1));
        }
        releases.clear();
        let later = Instant::now() + Duration::from_secs(5);
        assert_eq!(Reads::of(hung).run(later, || Ok::<_, FetchError>(1)).await, Ok(1));
    }
}
