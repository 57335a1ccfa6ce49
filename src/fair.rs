//! What many share, of which nobody can take all.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;

/// A bounded number of places, which holders take one or several of. A holder may have as many as
/// are free besides: alone it gets half of them, and however many hold theirs for long, some are
/// left for whoever comes next.
#[derive(Debug)]
pub(crate) struct Places<K: Clone + Eq + Hash> {
    held: Mutex<Held<K>>,
}

#[derive(Debug)]
struct Held<K: Clone + Eq + Hash> {
    most: usize,
    /// So many are one holder's while nobody else has any.
    alone: usize,
    all: usize,
    by: HashMap<K, usize>,
    /// In the order in which they came, with their numbers.
    waiting: HashMap<K, VecDeque<(u64, Waiter<K>)>>,
    came: u64,
}

type Waiter<K> = oneshot::Sender<Place<K>>;

/// Places of one holder, until this is dropped.
#[derive(Debug)]
pub(crate) struct Place<K: Clone + Eq + Hash> {
    places: Arc<Places<K>>,
    holder: K,
    count: usize,
}

impl<K: Clone + Eq + Hash> Places<K> {
    /// So many places.
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Self::of(most, 0)
    }

    /// So many, and all of them for one holder while nobody else has any.
    pub(crate) fn all_for_one(most: usize) -> Arc<Self> {
        Self::of(most, most)
    }

    fn of(most: usize, alone: usize) -> Arc<Self> {
        let (by, waiting) = (HashMap::new(), HashMap::new());
        let held = Held { most, alone, all: 0, by, waiting, came: 0 };
        Arc::new(Self { held: Mutex::new(held) })
    }

    /// A place for `holder`, if it may take one now.
    pub(crate) fn try_take(self: &Arc<Self>, holder: K) -> Option<Place<K>> {
        let mut place = self.none(holder);
        place.try_grow(1).then_some(place)
    }

    /// No place yet, to be grown.
    pub(crate) fn none(self: &Arc<Self>, holder: K) -> Place<K> {
        self.some(holder, 0)
    }

    /// A place for `holder`, as soon as it may take one. Of those that wait, the holder with the
    /// fewest is next, and of a holder's the first that came.
    pub(crate) async fn take(self: &Arc<Self>, holder: K) -> Place<K> {
        loop {
            let given = {
                let mut held = self.held();
                if held.grow(&holder, 1) {
                    drop(held);
                    return self.some(holder, 1);
                }
                held.wait(holder.clone())
            };
            // It is never closed before: what is told to wait is told, or has left.
            if let Ok(place) = given.await {
                return place;
            }
        }
    }

    fn some(self: &Arc<Self>, holder: K, count: usize) -> Place<K> {
        Place { places: Arc::clone(self), holder, count }
    }

    fn held(&self) -> MutexGuard<'_, Held<K>> {
        // Between any two changes it is whole.
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whose turn it is to have a place, which is theirs with that.
    fn next(&self) -> Option<(K, Waiter<K>)> {
        self.held().next()
    }
}

impl<K: Clone + Eq + Hash> Held<K> {
    fn own(&self, holder: &K) -> usize {
        self.by.get(holder).copied().unwrap_or_default()
    }

    fn grow(&mut self, holder: &K, count: usize) -> bool {
        let (free, own) = (self.most.saturating_sub(self.all), self.own(holder));
        let wanted = own.saturating_add(count);
        let is_alone = own == self.all && wanted <= self.alone;
        // At most as many as are free then, and one: the last one has to be somebody's.
        if !is_alone && wanted > free.saturating_sub(count - 1) {
            return false;
        }
        self.all += count;
        self.by.insert(holder.clone(), own + count);
        true
    }

    fn give_back(&mut self, holder: &K, count: usize) {
        self.all = self.all.saturating_sub(count);
        if let Some(own) = self.by.get_mut(holder) {
            *own = own.saturating_sub(count);
            if *own == 0 {
                self.by.remove(holder);
            }
        }
    }

    fn wait(&mut self, holder: K) -> oneshot::Receiver<Place<K>> {
        let (waiter, given) = oneshot::channel();
        self.came += 1;
        self.waiting.entry(holder).or_default().push_back((self.came, waiter));
        given
    }

    fn next(&mut self) -> Option<(K, Waiter<K>)> {
        self.waiting.retain(|_, queue| {
            while queue.pop_front_if(|(_, waiter)| waiter.is_closed()).is_some() {}
            !queue.is_empty()
        });
        let fewest = self
            .waiting
            .iter()
            .filter_map(|(holder, queue)| Some((self.own(holder), queue.front()?.0, holder)))
            .min_by_key(|(own, came, _)| (*own, *came));
        let holder = fewest?.2.clone();
        // Where the one with the fewest may have none, nobody may.
        if !self.grow(&holder, 1) {
            return None;
        }
        let (_, waiter) = self.waiting.get_mut(&holder)?.pop_front()?;
        Some((holder, waiter))
    }
}

impl<K: Clone + Eq + Hash> Place<K> {
    /// Takes `count` more, if its holder may have as many now.
    pub(crate) fn try_grow(&mut self, count: usize) -> bool {
        if count == 0 {
            return true;
        }
        let grown = self.places.held().grow(&self.holder, count);
        self.count += if grown { count } else { 0 };
        grown
    }

    /// How many these are.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Gives back what is beyond `count`.
    pub(crate) fn shrink_to(&mut self, count: usize) {
        let over = self.count.saturating_sub(count);
        if over == 0 {
            return;
        }
        self.count = count;
        self.places.held().give_back(&self.holder, over);
        while let Some((holder, waiter)) = self.places.next() {
            // Who has just left gives it back by this.
            drop(waiter.send(self.places.some(holder, 1)));
        }
    }
}

impl<K: Clone + Eq + Hash> Drop for Place<K> {
    fn drop(&mut self) {
        self.shrink_to(0);
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

    use futures_util::poll;
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
    fn k10_who_is_alone_may_have_all_where_that_is_said_and_leaves_some_to_others_else() {
        let places = Places::all_for_one(32);
        let mut alone = all(&places, 1);
        assert_eq!(alone.len(), 32);
        assert_eq!(all(&places, 2).len(), 0);
        alone.truncate(20);
        let two = all(&places, 2);
        assert_eq!((two.len(), all(&places, 1).len()), (6, 0));
        assert_eq!(all(&places, 3).len(), 3);
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

    #[tokio::test(start_paused = true)]
    async fn k10_of_those_that_wait_who_has_the_fewest_is_next_and_then_who_came_first() {
        let places = Places::new(4);
        let (mut one, two, three) = (all(&places, 1), all(&places, 2), all(&places, 3));
        assert_eq!([one.len(), two.len(), three.len()], [2, 1, 1]);
        let (mut first, mut second) = (Box::pin(places.take(1)), Box::pin(places.take(2)));
        let (mut third, mut fourth) = (Box::pin(places.take(2)), Box::pin(places.take(4)));
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        assert!(poll!(&mut third).is_pending() && poll!(&mut fourth).is_pending());
        one.pop();
        assert!(poll!(&mut first).is_pending() && poll!(&mut second).is_pending());
        let fourth = timeout(Duration::from_secs(1), fourth).await.expect("it has none");
        drop((fourth, three));
        let first = timeout(Duration::from_secs(1), first).await.expect("it came first");
        assert!(poll!(&mut second).is_pending());
        drop(first);
        let _second = timeout(Duration::from_secs(1), second).await.expect("it has the fewest");
        assert!(poll!(&mut third).is_pending());
    }

    #[tokio::test]
    async fn who_waits_no_more_is_passed_over_and_gives_back_what_it_was_given() {
        let places = Places::new(1);
        let held = all(&places, 1);
        let mut waiting: Vec<_> = (0..100_000).map(|_| Box::pin(places.take(1))).collect();
        for place in &mut waiting {
            assert!(poll!(place).is_pending());
        }
        drop(waiting.drain(3..));
        drop(waiting.remove(0));
        drop(held);
        // It is theirs from then on, whether or not they know.
        assert!(places.try_take(2).is_none());
        drop(waiting.remove(0));
        drop(waiting.remove(0).await);
        assert!(places.held().waiting.is_empty());
        assert_eq!(all(&places, 2).len(), 1);
    }
}
