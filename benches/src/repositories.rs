//! A thousand repositories in use: the memory that they take, and what keeping them fresh costs the
//! reviews of others. What they are refreshed from is in this process, so its work is counted as a
//! cost of refreshing, too.

use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::policies::Policies;
use countersign_e2e::{Failure, Outcome, reviews, usage};
use serde_json::{Value, json};

use crate::load::{Start, Target};
use crate::many::{Many, image};
use crate::report::{Limit, Report, median};
use crate::world::World;

const REPOSITORIES: usize = 1_000;

/// Six times as often as by default: what refreshing costs is to be seen.
const REFRESH_AFTER_SECONDS: u32 = 10;

/// So that every repository has been refreshed before anything is measured.
const SETTLE: Duration = Duration::from_secs(12);

/// So that what became due while the server was suspended has been refreshed, and what is measured
/// is how it always is.
const CATCH_UP: Duration = Duration::from_secs(1);

const REFRESHES: &str = "countersign_metadata_update_duration_seconds_count{outcome=\"unchanged\"}";

const ROUNDS: usize = 11;

/// Connections, and requests a round.
const LOADED: (usize, usize) = (16, 4_000);

/// Images of one pod.
const POD: usize = 50;

const MIB: f64 = 1024.0 * 1024.0;

/// Adds memory and throughput.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let repositories = Many::start(REPOSITORIES)?;
    let one = start(&repositories, world, "one")?;
    let mut many = start(&repositories, world, "many")?;
    admit(&one, 0..1)?;
    admit(&many, 0..1)?;
    let before = usage::resident(many.process().pid())?;
    admit(&many, 0..REPOSITORIES)?;
    let taken = usage::resident(many.process().pid())?.saturating_sub(before);
    report.value("memory of 1,000 repositories", "MiB", taken as f64 / MIB, Limit::AtMost(64.0));
    thread::sleep(SETTLE);

    let target = |countersign: &Countersign| world.reviews(countersign, "/validate", &image(0));
    let (target_one, target_many) = (target(&one)?, target(&many)?);
    let throughput = |target: &Target| {
        let sample = target.ask(LOADED.0, LOADED.1, Start::Warm)?;
        Ok::<_, Failure>((sample.throughput(), sample.quantile(0.99)))
    };
    let (mut throughputs, mut slowest, mut refreshes) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        // It would take its processor time from the reference, too.
        let suspended = many.process().suspend()?;
        let (beside, beside_p99) = throughput(&target_one)?;
        drop(suspended);
        thread::sleep(CATCH_UP);
        let (before, begun) = (many.metric(REFRESHES)?, Instant::now());
        let (measured, p99) = throughput(&target_many)?;
        refreshes.push((many.metric(REFRESHES)? - before) / begun.elapsed().as_secs_f64());
        throughputs.push((measured, beside));
        slowest.push((p99, beside_p99));
    }
    let name = "warm while 1,000 repositories refresh, beside one";
    report.ratio(&format!("{name}: 16 connections"), "1/s", &throughputs, Limit::AtLeast(0.8));
    report.ratio(&format!("{name}: p99 at 16"), "us", &slowest, Limit::AtMost(1.5));
    // Otherwise there was less to pay for: all of them within a refresh's time, give or take.
    let all = REPOSITORIES as f64 / f64::from(REFRESH_AFTER_SECONDS);
    let least = Limit::AtLeast(all * 0.8);
    report.value("refreshes meanwhile", "1/s", median(refreshes), least);
    Ok(())
}

/// Has the images of these repositories reviewed, each of which has to be allowed.
fn admit(countersign: &Countersign, numbers: std::ops::Range<usize>) -> Outcome<()> {
    let numbers: Vec<usize> = numbers.collect();
    for numbers in numbers.chunks(POD) {
        let container =
            |number: &usize| json!({"name": format!("app-{number}"), "image": image(*number)});
        let mut pod = reviews::pod("app", "");
        pod["spec"]["containers"] = numbers.iter().map(container).collect::<Vec<Value>>().into();
        let verdict = countersign.review("/validate", &reviews::create("team", &pod))?;
        if !verdict.allowed {
            return Err(Failure::new(format!("signed images are refused: {}", verdict.message)));
        }
    }
    Ok(())
}

fn start(repositories: &Many, world: &World, name: &str) -> Outcome<Countersign> {
    let folder = world.folder.join(format!("repositories-{name}"));
    let policies = Policies::new(&folder.join("policies"))?;
    repositories.write(&policies, world, REFRESH_AFTER_SECONDS)?;
    Countersign::start(&folder, &world.authority, &Config::new(policies.folder()))
}
