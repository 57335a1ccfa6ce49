//! Reviews make way for others.

use std::time::{Duration, Instant};

/// How long a review may keep its thread without looking whether others wait for it.
const SLICE: Duration = Duration::from_millis(1);

/// Since when a review has had its thread. Whoever gives up waiting for it is heard, too.
#[derive(Debug, Default)]
pub(super) struct Pace {
    since: Option<Instant>,
}

impl Pace {
    /// Between two images. Costs a review of one image nothing.
    pub(super) async fn keep(&mut self) {
        match self.since {
            None => self.since = Some(Instant::now()),
            Some(since) if since.elapsed() >= SLICE => {
                tokio::task::yield_now().await;
                self.since = Some(Instant::now());
            }
            Some(_) => {}
        }
    }
}

/// Before a review begins what it waits for: who has polled it once knows then that it is not ready
/// at once, and may drop it before anything is asked of anybody.
pub(super) async fn before_waiting() {
    tokio::task::yield_now().await;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[tokio::test]
    async fn k10_between_images_others_have_their_turn() {
        let had = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&had);
        tokio::spawn(async move { other.store(true, Ordering::SeqCst) });
        let mut pace = Pace::default();
        pace.keep().await;
        assert!(!had.load(Ordering::SeqCst));
        std::thread::sleep(SLICE);
        pace.keep().await;
        assert!(had.load(Ordering::SeqCst));
    }
}
