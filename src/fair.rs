//! What many share, of which nobody can take all.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

/// A bounded number of places, which holders take one or several of. A holder may have as many as
/// are free besides: alone it gets half of them, and however many hold theirs for long, some are
/// left for whoever comes next.
#[derive(Debug)]
pub(crate) struct Places<K> {
    most: usize,
    held: Mutex<Held<K>>,
    given_back: Notify,
}

#[derive(Debug)]
struct Held<K> {
    all: usize,
    by: HashMap<K, usize>,
}

/// Places of one holder, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Eq + Hash> {
    places: Arc<Places<K>>,
    holder: K,
    count: usize,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// So many places.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        let held = Held { all: 0, by: HashMap::new() };
        Arc::new(Self { most, held: Mutex::new(held), given_back: Notify::new() })
    }

    /// A place for `holder`, if it may take one now.
    pub(crate) fn try_take(self: &Arc<Self>, holder: K) -> Option<Place<K>> {
        let mut place = self.none(holder);
        place.try_grow(1).then_some(place)
    }

    /// No place yet, to be grown.
    pub(crate) fn none(self: &Arc<Self>, holder: K) -> Place<K> {
        Place { places: Arc::clone(self), holder, count: 0 }
    }

    /// A place for `holder`, as soon as it may take one.
    pub(crate) async fn take(self: &Arc<Self>, holder: K) -> Place<K> {
        let mut place = self.none(holder);
        loop {
            let given_back = self.given_back.notified();
            if place.try_grow(1) {
                return place;
            }
            given_back.await;
        }
    }
}

impl<K: Clone + Eq + Hash> Place<K> {
    /// Takes `count` more, if its holder may have as many now.
    pub(crate) fn try_grow(&mut self, count: usize) -> bool {
        if count == 0 {
            return true;
        }
        let mut held = self.places.held();
        let free = self.places.most.saturating_sub(held.all);
        let own = held.by.get(&self.holder).copied().unwrap_or_default();
        // At most as many as are free then, and one: the last one has to be somebody's.
        if own.saturating_add(count) > free.saturating_sub(count - 1) {
            return false;
        }
        held.all += count;
        held.by.insert(self.holder.clone(), own + count);
        self.count += count;
        true
    }
}

impl<K> Places<K> {
    fn held(&self) -> MutexGuard<'_, Held<K>> {
        // Between any two changes it is whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut held = self.places.held();
        held.all = held.all.saturating_sub(self.count);
        if let Some(own) = held.by.get_mut(&self.holder) {
            *own = own.saturating_sub(self.count);
            if *own == 0 {
                held.by.remove(&self.holder);
            }
        }
        drop(held);
        self.places.given_back.notify_waiters();
    }
}

/// Bytes that keep `room`, the places that they take, until the last of them is sent or dropped.
pub(crate) fn until_sent<B, R>(bytes: B, room: R) -> Bytes
where
    B: AsRef<[u8]> + Send + 'static,
    R: Send + 'static,
{
    struct Kept<B, R>(B, R);
    impl<B: AsRef<[u8]>, R> AsRef<[u8]> for Kept<B, R> {
        fn as_ref(&self) -> &[u8] {
            self.0.as_ref()
        }
    }
    Bytes::from_owner(Kept(bytes, room))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn all(places: &Arc<Places<u8>>, holder: u8) -> Vec<Place<u8>> {
        std::iter::from_fn(|| places.try_take(holder)).collect()
    }

    #[test]
    fn k10_however_many_hold_theirs_some_are_left_for_the_next() {
        let places = Places::new(32);
        let (one, two, three) = (all(&places, 1), all(&places, 2), all(&places, 3));
        assert_eq!([one.len(), two.len(), three.len()], [16, 8, 4]);
        drop(one);
        assert_eq!(all(&places, 4).len(), 10);
        drop((two, three));
        assert!(places.held().by.is_empty(), "nobody is remembered who holds none");
        assert_eq!(all(&places, 2).len(), 16);
    }

    #[test]
    fn several_are_taken_together_or_not_at_all() {
        let places = Places::new(100);
        let mut one = places.none(1);
        assert!(one.try_grow(40) && !one.try_grow(11) && one.try_grow(10) && !one.try_grow(1));
        let mut two = places.none(2);
        assert!(!two.try_grow(26) && two.try_grow(25) && two.try_grow(0));
        drop(one);
        assert!(two.try_grow(25) && !two.try_grow(usize::MAX));
    }

    #[test]
    fn a_single_place_is_given_and_none_is_not() {
        assert_eq!(all(&Places::new(1), 1).len(), 1);
        assert_eq!(all(&Places::new(0), 1).len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn k10_who_waits_goes_on_when_it_may_and_no_sooner() {
        let places = Places::new(4);
        let mut held = all(&places, 1);
        let other = timeout(Duration::from_secs(1), places.take(2)).await;
        assert!(other.is_ok(), "another does not wait");
        assert!(timeout(Duration::from_secs(1), places.take(1)).await.is_err());
        let give_back = async { drop((held.pop(), other)) };
        let waiting = timeout(Duration::from_secs(1), places.take(1));
        let (place, ()) = tokio::join!(waiting, give_back);
        assert!(place.is_ok());
    }
}
