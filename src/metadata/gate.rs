//! How many updates run and wait at a time.

use countersign_verify::outcome::Unavailable;
use tokio::sync::{Semaphore, SemaphorePermit};

/// Updates that run at a time, in the whole process: each may hold tens of MiB while it does.
const RUNNING: usize = 32;

/// Updates that wait for their turn; more are refused at once.
const WAITING: usize = 512;

/// Lets a bounded number of updates run.
#[derive(Debug)]
pub(super) struct Gate {
    /// To run or to wait.
    places: Semaphore,
    turns: Semaphore,
}

/// Held while an update runs.
#[derive(Debug)]
pub(super) struct Turn<'g> {
    _place: SemaphorePermit<'g>,
    _turn: SemaphorePermit<'g>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { places: Semaphore::new(RUNNING + WAITING), turns: Semaphore::new(RUNNING) }
    }
}

impl Gate {
    /// Waits for a turn, where there is a place to wait.
    pub(super) async fn enter(&self) -> Result<Turn<'_>, Unavailable> {
        let place = self.places.try_acquire().map_err(|_| Unavailable::Overloaded)?;
        let turn = self.turns.acquire().await.map_err(|_| Unavailable::Overloaded)?;
        Ok(Turn { _place: place, _turn: turn })
    }
}
