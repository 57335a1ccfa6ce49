//! A thousand pods of one new image at once.

use std::collections::BTreeMap;

use countersign_e2e::{Context, Outcome};

use crate::load::Start;
use crate::report::{Limit, Report};
use crate::world::World;

const REVIEWS: usize = 1_000;

/// Adds how often the servers' own access logs show a file, and how long the last review took.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let countersign = world.countersign("stampede", &world.far, 10)?;
    let target = world.reviews(&countersign, "/mutate", &world.far.by_tag())?;
    let metadata_before = world.notary.requests()?.len();
    let manifests_before = world.registry.requests()?.len();
    let took = target.ask(REVIEWS, REVIEWS, Start::Cold)?.took();
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
