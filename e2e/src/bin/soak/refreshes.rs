//! Repositories in which nothing changes are refreshed all the time, and nothing is written of that.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::Outcome;
use serde_json::Value;

use crate::many;
use crate::tally::Tally;
use crate::world::World;

/// Between two looks: half as long again as a repository may go without a refresh.
const LOOK: Duration = Duration::from_secs(90);

const SECOND: Duration = Duration::from_secs(1);

const WHAT: &str = "refreshes without a write";

/// The resource versions of checkpoints, by repository.
type Written = BTreeMap<String, String>;

/// Compares what is there now with what was there before, over and over until it is over.
pub(crate) fn run(world: &World, tally: &Tally, over: &AtomicBool) -> Outcome<()> {
    let (mut before, mut looked) = (Written::new(), Instant::now());
    while !over.load(Ordering::Relaxed) {
        thread::sleep(SECOND);
        if looked.elapsed() < LOOK {
            continue;
        }
        let (took, reads) = (looked.elapsed(), world.many.take_reads());
        looked = Instant::now();
        match written(world) {
            Ok(now) => {
                compare(tally, &before, &now, reads, took);
                before = now;
            }
            Err(failure) => tally.wrong(WHAT, &failure.to_string()),
        }
    }
    Ok(())
}

/// Checkpoints that were there before have to be as they were, and their repositories to have been
/// read since.
fn compare(tally: &Tally, before: &Written, now: &Written, reads: Vec<String>, took: Duration) {
    let count = reads.len();
    let reads: BTreeSet<String> = reads.into_iter().collect();
    let written =
        before.iter().filter(|(repository, version)| now.get(*repository) != Some(version));
    let written: Vec<_> = written.map(|(repository, _)| repository).collect();
    let is_left = |repository: &&String| !reads.contains(&many::timestamp(repository));
    let left: Vec<_> = before.keys().filter(is_left).collect();
    println!(
        "{} repositories of many: {count} reads in {took:.0?}, {} checkpoints written again",
        before.len(),
        written.len()
    );
    if let Some(one) = written.first() {
        tally.wrong(WHAT, &format!("{} were written, as that of {one}", written.len()));
    }
    if let Some(one) = left.first() {
        tally.wrong(WHAT, &format!("{} were not refreshed, as {one}", left.len()));
    }
    if written.is_empty() && left.is_empty() && !before.is_empty() {
        let all = before.len() == many::REPOSITORIES;
        tally.right(WHAT, if all { "of all of many" } else { "of those in use" }, took);
    }
}

fn written(world: &World) -> Outcome<Written> {
    let all = world.api_server().get(&["tcp"])?;
    let items = all["items"].as_array().into_iter().flatten();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let of_many = items.filter(|item| item["spec"]["source"] == many::SOURCE);
    Ok(of_many
        .map(|it| (text(&it["spec"]["repository"]), text(&it["metadata"]["resourceVersion"])))
        .collect())
}
