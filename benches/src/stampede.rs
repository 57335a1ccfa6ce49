//! A thousand pods of one new image at once.

use std::collections::BTreeMap;
use std::time::Instant;

use countersign_e2e::{Context, Failure, Outcome};
use futures_util::future::{join_all, try_join_all};

use crate::load::Connection;
use crate::report::{Limit, Report};
use crate::world::World;

const REVIEWS: usize = 1_000;

/// Adds how often the servers' own access logs show a file, and how long the last review took.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let countersign = world.countersign("stampede", &world.far, 10)?;
    let target = world.reviews(&countersign, "/mutate", &world.far.by_tag())?;
    let metadata_before = world.notary.requests()?.len();
    let manifests_before = world.registry.requests()?.len();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let took = runtime.block_on(async {
        let mut connections = try_join_all((0..REVIEWS).map(|_| Connection::open(&target))).await?;
        let begun = Instant::now();
        let answers = join_all(connections.iter_mut().map(Connection::ask)).await;
        let took = begun.elapsed();
        let failed = answers.iter().filter(|answer| answer.is_err()).count();
        match answers.into_iter().find_map(Result::err) {
            None => Ok(took),
            Some(first) => Err(Failure::new(format!("{failed} of {REVIEWS} failed: {first}"))),
        }
    })?;
    let files = world.notary.requests()?.split_off(metadata_before);
    let manifests = world.registry.requests()?.split_off(manifests_before);
    let most = |paths: Vec<String>| {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        paths.into_iter().for_each(|path| *counts.entry(path).or_default() += 1);
        counts.into_values().max().context("a review that fetched nothing")
    };
    let of_a_file = most(files.into_iter().map(|request| request.path).collect())?;
    let of_the_tag = most(manifests)?;
    let once = Limit::AtMost(1.0);
    report.value("1,000 cold reviews: GETs of a metadata file", "", of_a_file as f64, once);
    report.value("1,000 cold reviews: requests for the tag", "", of_the_tag as f64, once);
    report.value(
        "1,000 cold reviews: the last answer",
        "ms",
        took.as_secs_f64() * 1e3,
        Limit::None,
    );
    Ok(())
}
