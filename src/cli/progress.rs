//! Work on many images, told on a terminal while it lasts.

use std::io::IsTerminal as _;

use futures_util::{StreamExt as _, stream};

/// Images worked on at the same time.
const SIDE_BY_SIDE: usize = 8;

/// Begins the line on a terminal anew.
const ANEW: &str = "\r\x1b[K";

/// Does all the work, some of it at a time, and gives what came of it in its order. A terminal on
/// standard error is told how far it is, as `verified 3 of 8 images`.
pub(super) async fn side_by_side<T>(
    verb: &str,
    work: impl ExactSizeIterator<Item = impl Future<Output = T>>,
) -> Vec<T> {
    let total = work.len();
    let progress = std::io::stderr().is_terminal();
    let mut done = Vec::with_capacity(total);
    let mut working = stream::iter(work).buffered(SIDE_BY_SIDE);
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
    done
}
