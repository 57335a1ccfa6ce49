//! From the start of the process to the first review that it may get.

use std::time::Instant;

use countersign_e2e::Outcome;

use crate::report::{Limit, Report, median};
use crate::world::World;

const ROUNDS: usize = 5;

/// Adds the time from start to ready with a thousand policies. Whether it is ready is asked every
/// few milliseconds.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let countersign = world.countersign("start", &world.near, 1_000)?;
        rounds.push(begun.elapsed().as_secs_f64());
        countersign.kill()?;
    }
    let name = "start to ready with 1,000 policies";
    report.value(name, "s", median(rounds), Limit::AtMost(2.0));
    Ok(())
}
