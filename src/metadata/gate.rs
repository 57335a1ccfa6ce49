//! How many updates run and wait at a time, and how much they hold.

use std::sync::Arc;

use countersign_verify::limits;
use countersign_verify::outcome::Unavailable;
use moka::sync::Cache;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::fair::{Place, Places};
use crate::http::Room;

/// Updates that reviews wait for and that run at a time, in the whole process.
const RUNNING: usize = 32;

/// Updates that run or wait for their turn; more are refused at once.
const ENTERED: usize = 1024;

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

/// Hosts whose turns are counted.
const HOSTS: u64 = 1_000;

/// Lets a bounded number of updates run, and no host keep all of them.
#[derive(Debug)]
pub(super) struct Gate {
    /// To run or to wait.
    places: Arc<Places<String>>,
    turns: Arc<Places<String>>,
    at_host: Cache<String, AtHost>,
    refreshes: Arc<Semaphore>,
    refreshes_at: Cache<String, Arc<Semaphore>>,
    bytes: Arc<Places<String>>,
}

/// What one host can get of the places and turns, shared by the namespaces that ask for it.
#[derive(Debug, Clone)]
struct AtHost {
    places: Arc<Places<String>>,
    turns: Arc<Places<String>>,
}

impl AtHost {
    fn new() -> Self {
        // A host alone gets half of all.
        Self { places: Places::new(ENTERED / 2), turns: Places::new(RUNNING / 2) }
    }
}

/// Held while an update runs that reviews wait for.
#[derive(Debug)]
pub(super) struct Turn {
    _places: [Place<String>; 2],
    _turns: [Place<String>; 2],
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
            places: Places::new(ENTERED),
            turns: Places::new(RUNNING),
            at_host: Cache::new(HOSTS),
            refreshes: Arc::new(Semaphore::new(REFRESHING)),
            refreshes_at: Cache::new(HOSTS),
            bytes: Places::new(SHARED_BYTES),
        }
    }
}

impl Gate {
    /// Waits for a turn at this host on behalf of a namespace, where there is a place to wait.
    pub(super) async fn enter(&self, host: &str, namespace: &str) -> Result<Turn, Unavailable> {
        let at_host = self.at_host.get_with_by_ref(host, AtHost::new);
        let place = |places: &Arc<Places<String>>, holder: &str| {
            places.try_take(holder.to_owned()).ok_or(Unavailable::Overloaded)
        };
        let places = [place(&at_host.places, namespace)?, place(&self.places, host)?];
        // The host's first: who waits for a slow host holds no other host's turn.
        let own = at_host.turns.take(namespace.to_owned()).await;
        Ok(Turn { _places: places, _turns: [own, self.turns.take(host.to_owned()).await] })
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
