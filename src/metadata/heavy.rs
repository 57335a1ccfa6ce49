//! Work that would keep a worker thread from other reviews.

use std::sync::{Arc, LazyLock};

use countersign_verify::outcome::Unavailable;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::time::{Instant, timeout_at};

use crate::fair::Places;

/// Files up to so many bytes are verified where they arrive: some milliseconds.
const LIGHT_BYTES: usize = 256 << 10;

/// Larger files that are verified at a time, in the whole process: while one is read it may take
/// many times its length, a hundred MiB at the limits.
const HEAVY: usize = 2;

static TURNS: LazyLock<Arc<Places<String>>> = LazyLock::new(|| Places::new(HEAVY));

/// Works on so many bytes for `holder`. Where they are many, it does so in its turn, if that comes
/// before the deadline, and other tasks leave this worker thread first, if the runtime has any other.
pub(super) async fn off_the_way<T>(
    holder: &str,
    bytes: usize,
    deadline: Instant,
    work: impl FnOnce() -> T,
) -> Result<T, Unavailable> {
    if bytes <= LIGHT_BYTES {
        return Ok(work());
    }
    let turn = timeout_at(deadline, TURNS.take(holder.to_owned())).await;
    let _turn = turn.map_err(|_| Unavailable::Overloaded)?;
    let others = || Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if matches!(others(), Ok(RuntimeFlavor::MultiThread)) {
        return Ok(tokio::task::block_in_place(work));
    }
    Ok(work())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    /// Longer than any of this takes.
    fn late() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn k10_a_large_file_leaves_the_worker_to_others() {
        let done = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&done);
        let work = tokio::spawn(async move {
            // On the same worker's queue, behind this task.
            tokio::spawn(async move { other.store(true, Ordering::SeqCst) });
            off_the_way("one", LIGHT_BYTES + 1, late(), || {
                let begun = Instant::now();
                while !done.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                done.load(Ordering::SeqCst)
            })
            .await
        });
        assert_eq!(work.await.expect("no panic"), Ok(true), "the other task had to wait");
    }

    #[tokio::test]
    async fn without_other_workers_it_is_done_in_place() {
        assert_eq!(off_the_way("one", LIGHT_BYTES + 1, late(), || 7).await, Ok(7));
    }

    #[tokio::test]
    async fn k10_a_turn_that_does_not_come_is_not_waited_for_beyond_the_deadline() {
        let held = TURNS.take("slow".to_owned()).await;
        let soon = Instant::now() + Duration::from_millis(20);
        let work = timeout_at(late(), off_the_way("slow", LIGHT_BYTES + 1, soon, || 7)).await;
        assert_eq!(work.expect("it waits no longer"), Err(Unavailable::Overloaded));
        drop(held);
        assert_eq!(off_the_way("slow", LIGHT_BYTES + 1, late(), || 7).await, Ok(7));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn t2_k10_large_files_are_read_in_turn_and_no_holder_has_all_turns() {
        let (begun, done) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let work = |holder: &'static str| {
            let (begun, done) = (Arc::clone(&begun), Arc::clone(&done));
            tokio::spawn(async move {
                off_the_way(holder, LIGHT_BYTES + 1, late(), || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    while !done.load(Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                })
                .await
            })
        };
        let mut all = vec![work("hostile"), work("hostile"), work("hostile")];
        let have_begun = async |count: usize| {
            while begun.load(Ordering::SeqCst) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // Time for one that must not begin.
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert_eq!(begun.load(Ordering::SeqCst), count);
        };
        have_begun(1).await;
        all.push(work("other"));
        have_begun(2).await;
        let small = off_the_way("hostile", LIGHT_BYTES, Instant::now(), || 7).await;
        assert_eq!(small, Ok(7), "small ones do not wait");
        done.store(true, Ordering::SeqCst);
        for work in all {
            work.await.expect("no panic").expect("in time");
        }
        assert_eq!(begun.load(Ordering::SeqCst), 4);
    }
}
