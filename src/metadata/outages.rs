//! Which sources fail, or take long.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use super::SERVERS;
use super::refresh::FAILING;

/// What takes an update longer than this is not to be waited for.
const SLOW: Duration = Duration::from_millis(1500);

/// What updates came to lately, by the fingerprints of their sources.
pub(super) struct Outages(Cache<[u8; 32], Arc<Mutex<Updates>>>);

#[derive(Default)]
struct Updates {
    /// When those under way began.
    begun: BTreeMap<u64, Instant>,
    next: u64,
    /// When the last that failed for its server, or the way there, began and ended.
    failed: Option<(Instant, Instant)>,
    /// When the last ended that did not fail.
    succeeded: Option<Instant>,
}

/// An update under way, until this is dropped.
pub(super) struct Attempt {
    updates: Arc<Mutex<Updates>>,
    number: u64,
    begun: Instant,
}

impl Outages {
    pub(super) fn new() -> Self {
        Self(Cache::new(SERVERS))
    }

    pub(super) fn begin(&self, fingerprint: [u8; 32]) -> Attempt {
        let updates = self.0.get_with(fingerprint, Arc::default);
        let (number, begun) = {
            let mut updates = lock(&updates);
            updates.next += 1;
            let (number, begun) = (updates.next, Instant::now());
            updates.begun.insert(number, begun);
            (number, begun)
        };
        Attempt { updates, number, begun }
    }

    /// Whether an update of the source has failed lately, or takes long, and none has succeeded since
    /// it began: one repository's own trouble is no outage.
    pub(super) fn is_away(&self, fingerprint: &[u8; 32]) -> bool {
        let (Some(updates), now) = (self.0.get(fingerprint), Instant::now()) else { return false };
        let updates = lock(&updates);
        let is_last = |begun: Instant| updates.succeeded.is_none_or(|at| at < begun);
        let is_slow = |begun: &Instant| now - *begun >= SLOW && is_last(*begun);
        let has_failed =
            |(begun, ended): (Instant, Instant)| now - ended < FAILING && is_last(begun);
        updates.failed.is_some_and(has_failed) || updates.begun.values().any(is_slow)
    }
}

impl Attempt {
    pub(super) fn succeeded(&self) {
        lock(&self.updates).succeeded = Some(Instant::now());
    }

    /// It failed for its server, or the way there.
    pub(super) fn failed(&self) {
        lock(&self.updates).failed = Some((self.begun, Instant::now()));
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        lock(&self.updates).begun.remove(&self.number);
    }
}

fn lock(updates: &Mutex<Updates>) -> MutexGuard<'_, Updates> {
    // Between any two changes it is whole.
    updates.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SOURCE: [u8; 32] = [0; 32];

    #[tokio::test(start_paused = true)]
    async fn o1_a_source_is_away_while_its_last_update_failed_lately_or_takes_long() {
        let outages = Outages::new();
        assert!(!outages.is_away(&SOURCE));
        let slow = outages.begin(SOURCE);
        advance(SLOW - Duration::from_millis(1)).await;
        assert!(!outages.is_away(&SOURCE));
        advance(Duration::from_millis(1)).await;
        assert!(outages.is_away(&SOURCE) && !outages.is_away(&[1; 32]));
        drop(slow);
        assert!(!outages.is_away(&SOURCE));
        outages.begin(SOURCE).failed();
        assert!(outages.is_away(&SOURCE));
        advance(FAILING).await;
        assert!(!outages.is_away(&SOURCE));
    }

    #[tokio::test(start_paused = true)]
    async fn o7_what_fails_or_hangs_beside_what_succeeds_is_no_outage() {
        let outages = Outages::new();
        let (hangs, fails) = (outages.begin(SOURCE), outages.begin(SOURCE));
        advance(2 * SLOW).await;
        outages.begin(SOURCE).succeeded();
        fails.failed();
        assert!(!outages.is_away(&SOURCE));
        advance(Duration::from_millis(1)).await;
        let next = outages.begin(SOURCE);
        next.failed();
        assert!(outages.is_away(&SOURCE), "it began after the one that succeeded");
        drop((hangs, fails, next));
    }
}
