//! How many updates run and wait at a time.

use std::sync::Arc;

use countersign_verify::outcome::Unavailable;

use crate::fair::{Place, Places};

/// Updates that run at a time, in the whole process: each may hold tens of MiB while it does.
const RUNNING: usize = 32;

/// Updates that run or wait for their turn; more are refused at once.
const ENTERED: usize = 1024;

/// Lets a bounded number of updates run, and no host keep all of them.
#[derive(Debug)]
pub(super) struct Gate {
    places: Arc<Places<String>>,
    turns: Arc<Places<String>>,
}

/// Held while an update runs.
#[derive(Debug)]
pub(super) struct Turn {
    _place: Place<String>,
    _turn: Place<String>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { places: Places::new(ENTERED), turns: Places::new(RUNNING) }
    }
}

impl Gate {
    /// Waits for a turn at this host, where there is a place to wait.
    pub(super) async fn enter(&self, host: &str) -> Result<Turn, Unavailable> {
        let place = self.places.try_take(host.to_owned()).ok_or(Unavailable::Overloaded)?;
        Ok(Turn { _place: place, _turn: self.turns.take(host.to_owned()).await })
    }
}
