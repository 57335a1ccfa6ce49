//! What was answered, and what of it was wrong.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Wrong answers that are kept word by word.
const KEPT: usize = 20;

#[derive(Default)]
pub(crate) struct Tally(Mutex<Counts>);

#[derive(Default)]
struct Counts {
    answers: BTreeMap<(&'static str, String), Times>,
    wrong: usize,
    examples: Vec<String>,
}

/// How many answers of one kind there were.
#[derive(Default)]
struct Times {
    count: usize,
    longest: Duration,
}

impl Tally {
    /// An answer that was as it should be.
    pub(crate) fn right(&self, what: &'static str, code: &str, took: Duration) {
        self.all_right(what, code, 1, took);
    }

    /// So many of them, the slowest of which took so long.
    pub(crate) fn all_right(
        &self,
        what: &'static str,
        code: &str,
        count: usize,
        longest: Duration,
    ) {
        let mut counts = self.counts();
        let times = counts.answers.entry((what, code.to_owned())).or_default();
        times.count += count;
        times.longest = times.longest.max(longest);
    }

    /// One that was not.
    pub(crate) fn wrong(&self, what: &'static str, text: &str) {
        let mut counts = self.counts();
        counts.wrong += 1;
        if counts.examples.len() < KEPT {
            eprintln!("WRONG: {what}: {text}");
            counts.examples.push(format!("{what}: {text}"));
        }
    }

    /// How many answers there were, and how many of them wrong.
    pub(crate) fn so_far(&self) -> (usize, usize) {
        let counts = self.counts();
        (
            counts.answers.values().map(|times| times.count).sum::<usize>() + counts.wrong,
            counts.wrong,
        )
    }

    /// Prints the table; whether nothing was wrong.
    pub(crate) fn print(&self) -> bool {
        let counts = self.counts();
        println!("{:38} {:24} {:>10} {:>12}", "", "answer", "times", "longest");
        for ((what, code), times) in &counts.answers {
            let longest = format!("{:.1?}", times.longest);
            println!("{what:38} {code:24} {:>10} {longest:>12}", times.count);
        }
        println!("{} wrong", counts.wrong);
        counts.examples.iter().for_each(|example| println!("WRONG: {example}"));
        counts.wrong == 0
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
