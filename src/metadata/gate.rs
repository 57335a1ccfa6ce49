//! How many updates run and wait at a time, and how much they hold.

use std::sync::Arc;

use countersign_verify::limits;
use countersign_verify::outcome::Unavailable;
use moka::sync::Cache;

use super::live::SetKey;
use crate::fair::{Place, Places};
use crate::gate::{self, Bounds, Turn};
use crate::http::Room;

/// Of the updates that reviews wait for.
const BOUNDS: Bounds = Bounds { running: 32, entered: 1024 };

/// Refreshes that run at a time, in the whole process: so many in the background, and so many of
/// sets that a review finds due. Each have turns of their own: cold work does not keep them waiting,
/// nor they it, and no review waits for the background. A host alone gets half of them, and hosts
/// that hang leave others some: 10,000 repositories of one that are refreshed every 45 s, as by
/// default, are all in time where a refresh takes up to 72 ms.
const REFRESHING: usize = 32;

/// Bytes of files that each update may hold whatever the others do: hardly one needs more.
const OWN_BYTES: usize = 256 << 10;

/// Bytes of files beyond that which all updates hold at a time. A host alone gets half of them, and
/// so does a repository while nobody else has any at that host: the largest takes as many. Else it
/// gets what it leaves to others there.
const SHARED_BYTES: usize = 2 * limits::TUF_REPOSITORY_BYTES as usize;

/// Hosts whose bytes are counted.
const HOSTS: u64 = 1_000;

/// Lets a bounded number of updates run, and no host keep all of them.
#[derive(Debug)]
pub(super) struct Gate {
    asked: gate::Gate,
    background: Arc<Places<String>>,
    due: Arc<Places<String>>,
    bytes: Arc<Places<String>>,
    bytes_at: Cache<String, Arc<Places<String>>>,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            asked: gate::Gate::new(BOUNDS),
            background: Places::new(REFRESHING),
            due: Places::new(REFRESHING),
            bytes: Places::new(SHARED_BYTES),
            bytes_at: Cache::new(HOSTS),
        }
    }
}

impl Gate {
    /// Waits for a turn at this host on behalf of a namespace, where there is a place to wait.
    pub(super) async fn enter(&self, host: &str, namespace: &str) -> Result<Turn, Unavailable> {
        self.asked.enter(host, namespace).await
    }

    /// Room for the files of an update of this repository at this host.
    pub(super) fn room(&self, host: String, (source, repository): SetKey) -> Room {
        let at_host = || Places::all_for_one(SHARED_BYTES / 2);
        let at_host = self.bytes_at.get_with_by_ref(&host, at_host);
        let of_repository = at_host.none(format!("{source}/{repository}"));
        Room::new(OWN_BYTES, [of_repository, self.bytes.none(host)])
    }

    /// Waits for a turn to refresh what was verified before and a review finds due.
    pub(super) async fn enter_due(&self, host: String) -> Place<String> {
        self.due.take(host).await
    }

    /// Waits for a turn to refresh in the background, as long as it takes.
    pub(super) fn enter_background(
        &self,
        host: String,
    ) -> impl Future<Output = Place<String>> + Send + use<> {
        let background = Arc::clone(&self.background);
        async move { background.take(host).await }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LARGEST: usize = limits::TUF_REPOSITORY_BYTES as usize;

    fn room(gate: &Gate, host: &str, repository: usize) -> Room {
        gate.room(host.to_owned(), ("source".to_owned(), repository.to_string()))
    }

    #[test]
    fn t2_the_largest_repository_has_room_where_nobody_else_is() {
        let gate = Gate::default();
        let largest = room(&gate, "one", 0);
        largest.take(OWN_BYTES + LARGEST).expect("it is alone at its host");
        room(&gate, "other", 0).take(OWN_BYTES + LARGEST / 2).expect("half of the rest");
    }

    #[test]
    fn t2_o7_however_many_of_a_host_s_repositories_are_huge_others_there_have_room() {
        let gate = Gate::default();
        let bytes = OWN_BYTES + (15 << 20);
        let huge: Vec<Room> = (0..5).map(|number| room(&gate, "one", number)).collect();
        let taken = huge.iter().filter(|room| room.take(bytes).is_ok()).count();
        assert_eq!(taken, 3);
        room(&gate, "one", 5).take(OWN_BYTES + (4 << 20)).expect("some is left");
        drop(huge);
        room(&gate, "one", 6).take(OWN_BYTES + LARGEST / 2).expect("all is free again");
    }
}
