//! Places that many share, of which nobody can take all.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// A bounded number of places. Whoever holds fewer than are free may take one more: alone it gets
/// half of them, and however many hold theirs for long, some are left for whoever comes next.
#[derive(Debug)]
pub(crate) struct Places {
    most: usize,
    held: Mutex<Held>,
    given_back: Notify,
}

#[derive(Debug, Default)]
struct Held {
    all: usize,
    by: HashMap<String, usize>,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(crate) struct Place<'p> {
    places: &'p Places,
    holder: String,
}

impl Places {
    /// So many places.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, held: Mutex::default(), given_back: Notify::new() }
    }

    /// A place for `holder`, if it may take one now.
    pub(crate) fn try_take(&self, holder: &str) -> Option<Place<'_>> {
        let mut held = self.held();
        let own = held.by.get(holder).copied().unwrap_or_default();
        if own >= self.most.saturating_sub(held.all) {
            return None;
        }
        held.all += 1;
        held.by.insert(holder.to_owned(), own + 1);
        Some(Place { places: self, holder: holder.to_owned() })
    }

    /// A place for `holder`, as soon as it may take one.
    pub(crate) async fn take(&self, holder: &str) -> Place<'_> {
        loop {
            let given_back = self.given_back.notified();
            if let Some(place) = self.try_take(holder) {
                return place;
            }
            given_back.await;
        }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        // Between any two places it is whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut held = self.places.held();
        held.all = held.all.saturating_sub(1);
        if let Some(own) = held.by.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                held.by.remove(&self.holder);
            }
        }
        drop(held);
        self.places.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn all<'p>(places: &'p Places, holder: &str) -> Vec<Place<'p>> {
        std::iter::from_fn(|| places.try_take(holder)).collect()
    }

    #[test]
    fn k10_however_many_hold_theirs_some_are_left_for_the_next() {
        let places = Places::new(32);
        let (one, two, three) = (all(&places, "1"), all(&places, "2"), all(&places, "3"));
        assert_eq!([one.len(), two.len(), three.len()], [16, 8, 4]);
        drop(one);
        assert_eq!(all(&places, "4").len(), 10);
        drop((two, three));
        assert!(places.held().by.is_empty(), "nobody is remembered who holds none");
        assert_eq!(all(&places, "2").len(), 16);
    }

    #[test]
    fn a_single_place_is_given_and_none_is_not() {
        assert_eq!(all(&Places::new(1), "1").len(), 1);
        assert_eq!(all(&Places::new(0), "1").len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn k10_who_waits_goes_on_when_it_may_and_no_sooner() {
        let places = Places::new(4);
        let mut held = all(&places, "1");
        let other = timeout(Duration::from_secs(1), places.take("2")).await;
        assert!(other.is_ok(), "another does not wait");
        assert!(timeout(Duration::from_secs(1), places.take("1")).await.is_err());
        let (place, ()) = tokio::join!(places.take("1"), async { drop(held.pop()) });
        drop((place, other));
    }
}
