//! The mirrors of one repository: which is asked first, and for how long.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::Mirror;

/// The mirrors of one repository, in order.
#[derive(Debug)]
pub(in crate::metadata) struct Mirrors {
    all: Vec<Mirror>,
    /// The one that served last: one that hangs does not take its time of every update.
    served: AtomicUsize,
}

impl Mirrors {
    pub(in crate::metadata) fn new(all: Vec<Mirror>) -> Self {
        Self { all, served: AtomicUsize::new(0) }
    }

    /// Each once with its number, the one that served last first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &Mirror)> {
        let first = self.served.load(Ordering::Relaxed);
        let numbered = || self.all.iter().enumerate();
        numbered().skip(first).chain(numbered().take(first))
    }

    pub(super) fn count(&self) -> usize {
        self.all.len()
    }

    pub(super) fn has_served(&self, number: usize) {
        self.served.store(number, Ordering::Relaxed);
    }
}

/// When the next of so many mirrors has to be done: none takes the time of those after it.
pub(super) fn share(deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let time = deadline.saturating_duration_since(now);
    let left = u32::try_from(left).unwrap_or(u32::MAX).max(1);
    now + time.checked_div(left).unwrap_or(Duration::ZERO)
}
