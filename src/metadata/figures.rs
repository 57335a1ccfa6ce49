//! How the sets at hand are, for metrics.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Shared;

/// How updates ended, and the state of the sets at hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Updates that found everything as it was.
    pub unchanged: u64,
    /// Updates that ended in a new set.
    pub updated: u64,
    /// Updates that failed.
    pub failed: u64,
    /// Updates under way.
    pub running: u64,
    /// Sets in use.
    pub in_use: u64,
    /// Sets in use whose last update failed.
    pub failing: u64,
    /// How long ago the last complete update of a set in use began, of that for which it is
    /// longest; zero where none is in use.
    pub oldest: Duration,
}

/// How updates ended.
#[derive(Debug, Default)]
pub(super) struct Counts {
    unchanged: AtomicU64,
    updated: AtomicU64,
    failed: AtomicU64,
    running: AtomicU64,
}

/// Counts an update as under way while it lives.
pub(super) struct Running<'c>(&'c AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Counts {
    pub(super) fn begun(&self) -> Running<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Running(&self.running)
    }

    pub(super) fn unchanged(&self) {
        self.unchanged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn updated(&self) {
        self.updated.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn figures(&self) -> Figures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Counts { unchanged, updated, failed, running } = &self.counts;
        let mut figures = Figures {
            unchanged: count(unchanged),
            updated: count(updated),
            failed: count(failed),
            running: count(running),
            in_use: 0,
            failing: 0,
            oldest: Duration::ZERO,
        };
        let now = Instant::now();
        for (_, set) in self.sets.iter().filter(|(_, set)| set.attention.is_in_use(now)) {
            figures.in_use += 1;
            figures.failing += u64::from(set.failures() > 0);
            figures.oldest = figures.oldest.max(set.age(now));
        }
        figures
    }
}
