//! Concurrent askers of one key share one piece of work.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::oneshot;

type Flight<V> = Shared<BoxFuture<'static, Result<V, Aborted>>>;
type Flights<K, V> = Mutex<HashMap<K, Flight<V>>>;

/// The shared work ended without a value: it panicked, or the runtime is shutting down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the shared work ended without an answer")]
pub struct Aborted;

/// Runs one piece of work for all who ask for the same key while it is under way. It remembers
/// nothing afterwards: caching is the caller's.
#[derive(Debug)]
pub struct SingleFlight<K, V> {
    flights: Arc<Flights<K, V>>,
}

impl<K, V> Clone for SingleFlight<K, V> {
    /// Shares the work under way.
    fn clone(&self) -> Self {
        Self { flights: Arc::clone(&self.flights) }
    }
}

impl<K, V> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self { flights: Arc::default() }
    }
}

impl<K, V> SingleFlight<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Joins the work under way for `key`, or starts `work`.
    ///
    /// The work runs in a task of its own, so it goes on when its callers are dropped: no caller
    /// harms another. It must therefore bound its own time. Needs a Tokio runtime.
    pub async fn run<F, Fut>(&self, key: K, work: F) -> Result<V, Aborted>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        let (flight, start) = self.join(&key);
        if let Some(done) = start {
            let landing = Landing { flights: self.flights.clone(), key };
            tokio::spawn(async move {
                let value = work().await;
                // Gone from the table first: who asks after the answer is out starts anew.
                drop(landing);
                let _ = done.send(value);
            });
        }
        flight.await
    }

    /// The flight for `key`, and where it was not yet under way, the means to end it.
    fn join(&self, key: &K) -> (Flight<V>, Option<oneshot::Sender<V>>) {
        let mut flights = lock(&self.flights);
        if let Some(flight) = flights.get(key) {
            return (flight.clone(), None);
        }
        let (done, value) = oneshot::channel();
        let flight = value.map(|value| value.map_err(|_| Aborted)).boxed().shared();
        flights.insert(key.clone(), flight.clone());
        (flight, Some(done))
    }
}

/// Takes a flight out of the table when its work ends, also by a panic.
struct Landing<K: Hash + Eq, V> {
    flights: Arc<Flights<K, V>>,
    key: K,
}

impl<K: Hash + Eq, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        lock(&self.flights).remove(&self.key);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The table is whole between any two statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    async fn count(runs: Arc<AtomicUsize>) -> usize {
        let run = runs.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(50)).await;
        run
    }

    #[tokio::test]
    async fn o6_a_thousand_callers_cause_one_run() {
        let flights = Arc::new(SingleFlight::default());
        let runs = Arc::new(AtomicUsize::new(0));
        let callers = (0..1000).map(|_| {
            let (flights, runs) = (flights.clone(), runs.clone());
            tokio::spawn(async move { flights.run("key", move || count(runs)).await })
        });
        for answer in futures_util::future::join_all(callers).await {
            assert_eq!(answer.expect("joined"), Ok(0));
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
        assert!(lock(&flights.flights).is_empty());
    }

    #[tokio::test]
    async fn o6_a_cancelled_first_caller_harms_nobody() {
        let flights = Arc::new(SingleFlight::default());
        let runs = Arc::new(AtomicUsize::new(0));
        let first = {
            let (flights, runs) = (flights.clone(), runs.clone());
            tokio::spawn(async move { flights.run("key", move || count(runs)).await })
        };
        while runs.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        first.abort();
        let second = flights
            .run("key", {
                let runs = runs.clone();
                move || count(runs)
            })
            .await;
        assert_eq!(second, Ok(0));
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_for_all_and_the_key_is_free_again() {
        let flights: SingleFlight<&str, u8> = SingleFlight::default();
        async fn boom() -> u8 {
            tokio::task::yield_now().await;
            panic!("the work's own fault")
        }
        let (first, second) = tokio::join!(flights.run("key", boom), flights.run("key", boom));
        assert_eq!((first, second), (Err(Aborted), Err(Aborted)));
        assert_eq!(flights.run("key", || async { 7 }).await, Ok(7));
    }

    #[tokio::test]
    async fn keys_do_not_wait_for_each_other() {
        let flights: SingleFlight<u8, u8> = SingleFlight::default();
        let slow = flights.run(1, std::future::pending);
        tokio::select! {
            _ = slow => unreachable!("pending"),
            fast = flights.run(2, || async { 2 }) => assert_eq!(fast, Ok(2)),
        }
    }
}
