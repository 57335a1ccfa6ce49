//! Whether this replica should be sent requests, and whether it should be started again.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::clock::{BEHIND, Clock};

/// How often the tasks that answer reviews show that they get their turns...
const BEAT: Duration = Duration::from_secs(1);

/// ...and when they get none. An overload delays them by far less.
const STUCK: Duration = Duration::from_secs(30);

/// Whether this replica should be sent requests: it is ready while nothing holds it back.
/// Clones are the same.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    held: Mutex<BTreeMap<&'static str, String>>,
    clock: Clock,
    /// Whether the log has it that the clock is behind.
    clock_told: AtomicBool,
    /// When a task last had its turn; `None` before it is served.
    beat: Mutex<Option<Instant>>,
}

impl Default for Readiness {
    fn default() -> Self {
        Self::by(Clock::system())
    }
}

impl Readiness {
    /// Ready: nothing holds it back yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The same where the time is read from `clock`.
    pub fn by(clock: Clock) -> Self {
        let (held, beat) = (Mutex::default(), Mutex::default());
        Self(Arc::new(Inner { held, clock, clock_told: AtomicBool::new(false), beat }))
    }

    /// Not ready, because of `what`, until that is released. `/readyz` shows the reason.
    pub fn hold(&self, what: &'static str, reason: impl Into<String>) {
        lock(&self.0.held).insert(what, reason.into());
    }

    /// `what` no longer holds it back.
    pub fn release(&self, what: &'static str) {
        lock(&self.0.held).remove(what);
    }

    /// Everything that holds it back, a line each, or `None`.
    pub fn held(&self) -> Option<String> {
        let mut lines = self.broken().unwrap_or_default();
        lines.extend(lock(&self.0.held).iter().map(|(what, reason)| format!("{what}: {reason}\n")));
        (!lines.is_empty()).then_some(lines)
    }

    /// What of it only a new process heals, a line each, or `None`.
    pub fn broken(&self) -> Option<String> {
        let lines: String =
            [self.clock_is_behind(), self.is_stuck()].into_iter().flatten().collect();
        (!lines.is_empty()).then_some(lines)
    }

    /// How far the time that is held is ahead of the machine's clock.
    pub(crate) fn clock_ahead(&self) -> Duration {
        self.0.clock.ahead()
    }

    fn clock_is_behind(&self) -> Option<String> {
        let ahead = self.clock_ahead();
        let behind = ahead > BEHIND;
        let told = self.0.clock_told.swap(behind, Ordering::Relaxed);
        let seconds = ahead.as_secs();
        match (behind, told) {
            (true, false) => tracing::error!(
                seconds,
                "the machine's clock was ahead, or is set back: the time that is held is ahead of \
                 it until this process is started again; not ready"
            ),
            (false, true) => tracing::info!("the machine's clock is no longer behind"),
            _ => {}
        }
        behind.then(|| {
            format!(
                "clock: the machine's clock is {seconds} s behind the time that this process \
                 has seen; a new process goes by it again\n"
            )
        })
    }

    fn is_stuck(&self) -> Option<String> {
        let since = lock(&self.0.beat).map(|beat| beat.elapsed())?;
        (since > STUCK).then(|| format!("tasks: none had its turn for {} s\n", since.as_secs()))
    }

    /// Shows for ever that tasks get their turns.
    pub(super) async fn beat(self) {
        let mut ticks = tokio::time::interval(BEAT);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            *lock(&self.0.beat) = Some(Instant::now());
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn tasks_that_get_no_turn_are_noticed() {
        let readiness = Readiness::new();
        tokio::time::sleep(2 * STUCK).await;
        assert_eq!(readiness.broken(), None, "nothing is served yet");
        let beating = tokio::spawn(readiness.clone().beat());
        tokio::time::sleep(2 * STUCK).await;
        assert_eq!(readiness.held(), None);
        beating.abort();
        tokio::time::sleep(STUCK + BEAT).await;
        for told in [readiness.broken(), readiness.held()] {
            assert!(told.is_some_and(|told| told.starts_with("tasks: none had its turn for 3")));
        }
    }
}
