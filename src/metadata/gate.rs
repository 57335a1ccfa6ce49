//! How many updates run and wait at a time, and how much they hold.

use std::sync::Arc;

use countersign_verify::limits;
use countersign_verify::outcome::Unavailable;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fair::Places;
use crate::gate::{self, Bounds, Turn};
use crate::http::Room;

/// Of the updates that reviews wait for.
const BOUNDS: Bounds = Bounds { running: 32, entered: 1024 };

/// Updates in the background that run at a time, in the whole process. They have turns of their
/// own: cold work does not keep them waiting, nor they it.
const REFRESHING: usize = 32;

/// The same at one host, which gets half of all as it does of the others: one that hangs leaves the
/// rest their turns. 10,000 repositories that are refreshed every 45 s, as by default, are all in time
/// where a refresh takes up to 72 ms.
const REFRESHING_AT_HOST: usize = REFRESHING / 2;

/// Bytes of files that each update may hold whatever the others do: hardly one needs more.
const OWN_BYTES: usize = 256 << 10;

/// Bytes of files beyond that which all updates hold at a time. A host alone gets half of them,
/// which is what the largest repository takes.
const SHARED_BYTES: usize = 2 * limits::TUF_REPOSITORY_BYTES as usize;

/// Hosts whose background turns are counted.
const HOSTS: u64 = 1_000;

/// Lets a bounded number of updates run, and no host keep all of them.
#[derive(Debug)]
pub(super) struct Gate {
    asked: gate::Gate,
    refreshes: Arc<Semaphore>,
    refreshes_at: Cache<String, Arc<Semaphore>>,
    bytes: Arc<Places<String>>,
}

/// Held while an update runs in the background.
#[derive(Debug)]
pub(super) struct BackgroundTurn {
    _at_host: OwnedSemaphorePermit,
    _in_all: OwnedSemaphorePermit,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            asked: gate::Gate::new(BOUNDS),
            refreshes: Arc::new(Semaphore::new(REFRESHING)),
            refreshes_at: Cache::new(HOSTS),
            bytes: Places::new(SHARED_BYTES),
        }
    }
}

impl Gate {
    /// Waits for a turn at this host on behalf of a namespace, where there is a place to wait.
    pub(super) async fn enter(&self, host: &str, namespace: &str) -> Result<Turn, Unavailable> {
        self.asked.enter(host, namespace).await
    }

    /// Room for the files of an update at this host.
    pub(super) fn room(&self, host: String) -> Room {
        Room::new(OWN_BYTES, &self.bytes, host)
    }

    /// Waits for a turn in the background, as long as it takes; `None` where there are no more.
    pub(super) async fn enter_background(&self, host: &str) -> Option<BackgroundTurn> {
        let new = || Arc::new(Semaphore::new(REFRESHING_AT_HOST));
        let at_host = self.refreshes_at.get_with_by_ref(host, new);
        // The host's first: who waits for a slow host holds no other host's turn.
        let at_host = at_host.acquire_owned().await.ok()?;
        let in_all = Arc::clone(&self.refreshes).acquire_owned().await.ok()?;
        Some(BackgroundTurn { _at_host: at_host, _in_all: in_all })
    }
}
