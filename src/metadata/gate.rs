//! How many updates run and wait at a time.

use std::sync::Arc;

use countersign_verify::outcome::Unavailable;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gate::{self, Bounds, Turn};

/// Of the updates that reviews wait for: each may hold tens of MiB while it runs.
const BOUNDS: Bounds = Bounds { running: 32, entered: 1024 };

/// Updates in the background that run at a time, in the whole process. They have turns of their
/// own: cold work does not keep them waiting, nor they it.
pub(super) const REFRESHING: usize = 32;

/// The same at one host: one that hangs leaves the others their turns.
pub(super) const REFRESHING_AT_HOST: usize = 8;

/// Hosts whose background turns are counted.
const HOSTS: u64 = 1_000;

/// Lets a bounded number of updates run, and no host keep all of them.
#[derive(Debug)]
pub(super) struct Gate {
    asked: gate::Gate,
    refreshes: Arc<Semaphore>,
    refreshes_at: Cache<String, Arc<Semaphore>>,
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
        }
    }
}

impl Gate {
    /// Waits for a turn at this host on behalf of a namespace, where there is a place to wait.
    pub(super) async fn enter(&self, host: &str, namespace: &str) -> Result<Turn, Unavailable> {
        self.asked.enter(host, namespace).await
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
