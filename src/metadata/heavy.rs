//! Work that would keep a worker thread from other reviews.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Files up to so many bytes are verified where they arrive: some milliseconds.
const LIGHT_BYTES: usize = 256 << 10;

/// Works on so many bytes. Where they are many, other tasks leave this worker thread first, if
/// the runtime has any other.
pub(super) fn off_the_way<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let others = || Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if bytes > LIGHT_BYTES && matches!(others(), Ok(RuntimeFlavor::MultiThread)) {
        return tokio::task::block_in_place(work);
    }
    work()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::{Duration, Instant};

    use super::*;

    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn k10_a_large_file_leaves_the_worker_to_others() {
        let done = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&done);
        let work = tokio::spawn(async move {
            // On the same worker's queue, behind this task.
            tokio::spawn(async move { other.store(true, Ordering::SeqCst) });
            off_the_way(LIGHT_BYTES + 1, || {
                let begun = Instant::now();
                while !done.load(Ordering::SeqCst) && begun.elapsed() < Duration::from_secs(10) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                done.load(Ordering::SeqCst)
            })
        });
        assert!(work.await.expect("no panic"), "the other task had to wait");
    }

    #[tokio::test]
    async fn without_other_workers_it_is_done_in_place() {
        assert_eq!(off_the_way(LIGHT_BYTES + 1, || 7), 7);
    }
}
