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
        match start {
            Some(done) => {
                let landing = Landing { flights: self.flights.clone(), key };
                tokio::spawn(async move {
                    let value = work().await;
                    // Gone from the table first: who asks after the answer is out starts anew.
                    drop(landing);
                    let _ = done.send(value);
                });
            }
            // What it holds is not needed any more.
            None => drop(work),
        }
        flight.await
    }

    fn under_way(&self, key: &K) -> Option<Flight<V>> {
        lock(&self.flights).get(key).cloned()
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

/// The same for askers who each wait for a turn of their own to begin work, so that nobody waits in
/// another's queue. To join what is under way takes no turn.
#[derive(Debug)]
pub(crate) struct InTurn<K, V> {
    waiting: SingleFlight<(K, String), Result<V, Aborted>>,
    flights: SingleFlight<K, V>,
}

impl<K, V> Default for InTurn<K, V> {
    fn default() -> Self {
        Self { waiting: SingleFlight::default(), flights: SingleFlight::default() }
    }
}

impl<K, V> InTurn<K, V>
where
    K: Hash + Eq + Clone + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// What the work under way for `key` comes to; where there is none, what `work` does, once `turn`
    /// has given the asker one, or what the asker is told where it gives none. Both are shared by all
    /// who ask as this asker, and must bound their own time.
    pub(crate) async fn run<T, Turn, F, Fut>(
        &self,
        key: K,
        asker: &str,
        turn: Turn,
        work: F,
    ) -> Result<V, Aborted>
    where
        T: Send + 'static,
        Turn: Future<Output = Result<T, V>> + Send + 'static,
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        if let Some(flight) = self.flights.under_way(&key) {
            return flight.await;
        }
        let (flights, shared) = (self.flights.clone(), key.clone());
        let in_turn = move || async move {
            match turn.await {
                Ok(turn) => flights.run(shared, move || holding(turn, work)).await,
                Err(told) => Ok(told),
            }
        };
        self.waiting.run((key, asker.to_owned()), in_turn).await.flatten()
    }

    /// Joins the work under way for `key`, or starts `work`, for whoever has a turn already.
    pub(crate) async fn at_once<F, Fut>(&self, key: K, work: F) -> Result<V, Aborted>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = V> + Send + 'static,
    {
        self.flights.run(key, work).await
    }
}

async fn holding<T, Fut: Future>(turn: T, work: impl FnOnce() -> Fut) -> Fut::Output {
    let done = work().await;
    drop(turn);
    done
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

    #[tokio::test]
    async fn o6_nobody_waits_for_anothers_turn_and_the_work_is_done_once() {
        let flights = InTurn::default();
        let runs = Arc::new(AtomicUsize::new(0));
        let work = || {
            let runs = Arc::clone(&runs);
            move || count(runs)
        };
        let never = std::future::pending::<Result<(), usize>>();
        let greedy = flights.run("key", "greedy", never, work());
        let refused = flights.run("key", "refused", async { Err::<(), _>(7) }, work());
        let one = flights.run("key", "one", async { Ok(()) }, work());
        let other = flights.run("key", "other", async { Ok(()) }, work());
        tokio::select! {
            _ = greedy => unreachable!("its turn never comes"),
            answers = async { tokio::join!(refused, one, other) } => {
                assert_eq!(answers, (Ok(7), Ok(0), Ok(0)));
            }
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn o7_a_turn_is_held_while_its_own_work_runs_and_joining_takes_none() {
        let flights: InTurn<&str, u8> = InTurn::default();
        let (turn, joins) = (Arc::new(()), Arc::new(()));
        let (end, ended) = oneshot::channel::<()>();
        let taken = |turn: &Arc<()>| {
            let turn = Arc::clone(turn);
            async move { Ok(turn) }
        };
        let work = || async move {
            ended.await.expect("told");
            1
        };
        let first = flights.run("key", "first", taken(&turn), work);
        // Both wait for their turns before either's work has begun.
        let second = flights.run("key", "second", taken(&joins), || async { 2 });
        let look = async {
            while flights.flights.under_way(&"key").is_none() {
                tokio::task::yield_now().await;
            }
            let never = std::future::pending::<Result<(), u8>>();
            let third = flights.run("key", "third", never, || async { 3 });
            let told = async {
                while Arc::strong_count(&joins) > 1 {
                    tokio::task::yield_now().await;
                }
                assert_eq!(Arc::strong_count(&turn), 2, "held while the work runs");
                end.send(()).expect("awaited");
            };
            tokio::join!(third, told).0
        };
        assert_eq!(tokio::join!(first, second, look), (Ok(1), Ok(1), Ok(1)));
        assert_eq!(Arc::strong_count(&turn), 1);
        assert!(flights.flights.under_way(&"key").is_none());
    }
}
