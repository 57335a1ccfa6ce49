//! Turns at hosts, and places to wait for them.

use std::sync::Arc;

use countersign_verify::outcome::Unavailable;
use moka::sync::Cache;

use crate::fair::{Place, Places};

/// Hosts whose turns are counted.
const HOSTS: u64 = 1_000;

/// How much of one kind of work runs and waits at a time, in the whole process. A host alone gets
/// half of it, and of that a namespace alone half.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// What runs.
    pub(crate) running: usize,
    /// What runs or waits for its turn; more is refused at once.
    pub(crate) entered: usize,
}

/// Lets a bounded amount of work run, and no host and no namespace keep all of it.
#[derive(Debug)]
pub(crate) struct Gate {
    bounds: Bounds,
    all: Line,
    /// Shared by the namespaces that ask for the host.
    at_host: Cache<String, Line>,
}

#[derive(Debug, Clone)]
struct Line {
    /// To run or to wait.
    places: Arc<Places<String>>,
    turns: Arc<Places<String>>,
}

/// Held while the work runs.
#[derive(Debug)]
pub(crate) struct Turn {
    _places: [Place<String>; 2],
    _turns: [Place<String>; 2],
}

impl Gate {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, all: Line::new(bounds), at_host: Cache::new(HOSTS) }
    }

    /// Waits for a turn at this host on behalf of a namespace; `Overloaded` where there is no place
    /// to wait.
    pub(crate) async fn enter(&self, host: &str, namespace: &str) -> Result<Turn, Unavailable> {
        let Bounds { running, entered } = self.bounds;
        let half = Bounds { running: running / 2, entered: entered / 2 };
        let at_host = self.at_host.get_with_by_ref(host, || Line::new(half));
        let places = [at_host.place(namespace)?, self.all.place(host)?];
        // The host's first: who waits for a slow host holds no other host's turn.
        let own = at_host.turns.take(namespace.to_owned()).await;
        Ok(Turn { _places: places, _turns: [own, self.all.turns.take(host.to_owned()).await] })
    }
}

impl Line {
    fn new(bounds: Bounds) -> Self {
        Self { places: Places::new(bounds.entered), turns: Places::new(bounds.running) }
    }

    fn place(&self, holder: &str) -> Result<Place<String>, Unavailable> {
        self.places.try_take(holder.to_owned()).ok_or(Unavailable::Overloaded)
    }
}
