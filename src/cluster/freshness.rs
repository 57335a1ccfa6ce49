//! Whether what is known of the cluster is still what the API server has.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// When a watch was last known to be complete.
#[derive(Debug)]
pub(super) struct Heard {
    what: &'static str,
    start: Instant,
    /// Milliseconds after `start`, and one; 0 before the first full list.
    at: AtomicU64,
    error: Mutex<Option<String>>,
}

impl Heard {
    pub(super) fn new(what: &'static str) -> Arc<Self> {
        let (at, error) = (AtomicU64::new(0), Mutex::new(None));
        Arc::new(Self { what, start: Instant::now(), at, error })
    }

    /// What is watched, as `TrustPolicies`.
    pub(super) fn what(&self) -> &'static str {
        self.what
    }

    /// A full list is at hand.
    pub(super) fn listed(&self) {
        self.at.store(self.now(), Ordering::Release);
        *self.error() = None;
    }

    /// The API server goes on with the watch. It says nothing of what was never listed.
    pub(super) fn goes_on(&self) {
        if self.at.load(Ordering::Acquire) != 0 {
            self.at.store(self.now(), Ordering::Release);
        }
    }

    /// The watch broke.
    pub(super) fn failed(&self, error: &dyn Display) {
        *self.error() = Some(error.to_string());
    }

    /// Whether it was heard of, and longer ago than `bound`.
    pub(super) fn is_stale(&self, bound: Duration) -> bool {
        self.age().is_some_and(|age| age > bound)
    }

    /// For how long nothing was heard; `None` before the first full list.
    fn age(&self) -> Option<Duration> {
        match self.at.load(Ordering::Acquire) {
            0 => None,
            at => Some(Duration::from_millis(self.now().saturating_sub(at))),
        }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn error(&self) -> MutexGuard<'_, Option<String>> {
        self.error.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, bound: Duration) -> Result<(), String> {
        let said = match self.age() {
            None => format!("{} have not been listed yet", self.what),
            Some(age) if age <= bound => return Ok(()),
            Some(age) => {
                let (age, bound) = (age.as_secs(), bound.as_secs());
                format!("nothing was heard of {} for {age} s, more than {bound} s", self.what)
            }
        };
        Err(match &*self.error() {
            Some(error) => format!("{said} ({error})"),
            None => said,
        })
    }
}

/// Whether the policies in place are those of the API server, as far as can be known.
#[derive(Debug)]
pub struct Freshness {
    watches: Vec<Arc<Heard>>,
    bound: Duration,
    in_place: AtomicBool,
}

impl Freshness {
    pub(super) fn new(watches: Vec<Arc<Heard>>, bound: Duration) -> Self {
        Self { watches, bound, in_place: AtomicBool::new(false) }
    }

    /// Whether what was listed is what reviews go by.
    pub(crate) fn put_in_place(&self, in_place: bool) {
        self.in_place.store(in_place, Ordering::Release);
    }

    /// Everything listed, heard of within the bound, and in place; or what is not.
    pub fn check(&self) -> Result<(), String> {
        self.watches.iter().try_for_each(|heard| heard.check(self.bound))?;
        if self.in_place.load(Ordering::Acquire) {
            return Ok(());
        }
        Err("the policies have not been compiled yet, or could not be".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(30);

    fn two() -> (Arc<Heard>, Arc<Heard>, Freshness) {
        let (policies, secrets) = (Heard::new("TrustPolicies"), Heard::new("Secrets"));
        let freshness = Freshness::new(vec![policies.clone(), secrets.clone()], BOUND);
        freshness.put_in_place(true);
        (policies, secrets, freshness)
    }

    #[tokio::test(start_paused = true)]
    async fn k11_nothing_is_known_before_everything_was_listed_and_put_in_place() {
        let (policies, secrets, freshness) = two();
        policies.listed();
        secrets.goes_on();
        secrets.failed(&"forbidden");
        let said = freshness.check().expect_err("a list is missing");
        assert_eq!(said, "Secrets have not been listed yet (forbidden)");
        secrets.listed();
        assert_eq!(freshness.check(), Ok(()));
        freshness.put_in_place(false);
        assert!(freshness.check().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn k11_one_silent_watch_makes_all_of_it_stale_until_it_is_heard_again() {
        let (policies, secrets, freshness) = two();
        policies.listed();
        secrets.listed();
        tokio::time::advance(BOUND).await;
        assert_eq!(freshness.check(), Ok(()));
        policies.goes_on();
        tokio::time::advance(Duration::from_secs(1)).await;
        let said = freshness.check().expect_err("too old");
        assert_eq!(said, "nothing was heard of Secrets for 31 s, more than 30 s");
        secrets.goes_on();
        assert_eq!(freshness.check(), Ok(()));
    }
}
