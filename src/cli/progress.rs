//! Work on many images, told on a terminal while it lasts.

use std::io::IsTerminal as _;

use futures_util::{StreamExt as _, stream};

/// Images worked on at the same time.
const SIDE_BY_SIDE: usize = 8;

/// Begins the line on a terminal anew.
const ANEW: &str = "\r\x1b[K";

/// Does all the work, some of it at a time, and gives what came of it in its order. What takes long
/// holds up nothing that comes after it but its own place among the some. A terminal on standard
/// error is told how far it is, as `verified 3 of 8 images`.
pub(super) async fn side_by_side<T>(
    verb: &str,
    work: impl ExactSizeIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let total = work.len();
    let progress = std::io::stderr().is_terminal();
    let mut done = Vec::with_capacity(total);
    let work = work.enumerate().map(|(place, work)| async move { (place, work.await) });
    let mut working = stream::iter(work).buffer_unordered(SIDE_BY_SIDE);
    loop {
        if progress {
            eprint!("{ANEW}{verb} {} of {total} images", done.len());
        }
        match working.next().await {
            Some(came) => done.push(came),
            None => break,
        }
    }
    if progress {
        eprint!("{ANEW}");
    }
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, came)| came).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_that_takes_long_holds_up_no_other_and_keeps_its_place() {
        let (last, total) = (Notify::new(), 4 * SIDE_BY_SIDE);
        let work = (0..total).map(|number| {
            let last = &last;
            async move {
                if number == 0 {
                    last.notified().await;
                } else if number + 1 == total {
                    last.notify_one();
                }
                number
            }
        });
        let done = timeout(Duration::from_secs(1), side_by_side("done", work)).await;
        assert_eq!(done, Ok(Vec::from_iter(0..total)));
    }
}
