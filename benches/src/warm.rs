//! Reviews whose evidence is at hand, beside an echo of the same bytes.

use std::thread;
use std::time::Duration;

use countersign_e2e::{Outcome, usage};

use crate::echo::Echo;
use crate::load::{Start, Target};
use crate::report::{Limit, Report, median};
use crate::world::World;
use crate::{machine, review};

/// Rounds of everything in turn, many and short: what disturbs the machine for a while disturbs
/// all alike.
pub(crate) const ROUNDS: usize = 21;

/// Connections that load a server, and requests a round.
const LOADED: (usize, usize) = (16, 4_000);

/// The same for the time of a single answer.
const ALONE: (usize, usize) = (1, 1_000);

/// How long a server gets to come to rest.
const REST: Duration = Duration::from_secs(1);

const MIB: f64 = 1024.0 * 1024.0;

/// A server under measurement, and one kind of review that it gets.
pub(crate) struct Contender {
    name: &'static str,
    target: Target,
    pid: u32,
    loaded: Vec<Round>,
    alone: Vec<Round>,
}

/// What one round of one contender gave.
struct Round {
    throughput: f64,
    median_micros: f64,
    p99_micros: f64,
    processor_micros: f64,
}

impl Contender {
    /// No rounds yet.
    pub(crate) fn new(name: &'static str, target: Target, pid: u32) -> Self {
        Self { name, target, pid, loaded: Vec::new(), alone: Vec::new() }
    }

    fn round(&self, (connections, requests): (usize, usize)) -> Outcome<Round> {
        let before = machine::processor_nanos(self.pid)?;
        let sample = self.target.ask(connections, requests, Start::Warm)?;
        let used = machine::processor_nanos(self.pid)?.saturating_sub(before);
        Ok(Round {
            throughput: sample.throughput(),
            median_micros: sample.quantile(0.5),
            p99_micros: sample.quantile(0.99),
            processor_micros: used as f64 / 1_000.0 / requests as f64,
        })
    }
}

/// Adds throughput, times and memory of warm reviews.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let near = &world.near;
    let (echo, echoed) = echo(world)?;
    let mut ten = world.countersign("ten", near, 10)?;
    let mut many = world.countersign("many", near, 10_000)?;

    let by_digest = world.reviews(&ten, "/validate", &near.by_digest())?;
    let by_tag = world.reviews(&ten, "/mutate", &near.by_tag())?;
    let of_many = world.reviews(&many, "/validate", &near.by_digest())?;
    let (echo, ten, many) = (echo.server.pid(), ten.process().pid(), many.process().pid());

    thread::sleep(REST);
    memory(report, "idle memory, fresh", ten, echo)?;
    let mut http1 = [
        Contender::new("echo", echoed.http1(), echo),
        Contender::new("by digest", by_digest.http1(), ten),
        Contender::new("by cached tag", by_tag.http1(), ten),
    ];
    let mut http2 = [
        Contender::new("echo", echoed, echo),
        Contender::new("by digest", by_digest, ten),
        Contender::new("by cached tag", by_tag, ten),
    ];
    let mut many = Contender::new("of 10,000 policies", of_many, many);
    for _ in 0..ROUNDS {
        round(&mut http2)?;
        round(&mut http1)?;
        many.loaded.push(many.round(LOADED)?);
    }
    thread::sleep(REST);
    memory(report, "idle memory, after load", ten, echo)?;
    tell(report, "HTTP/2", &http2);
    tell(report, "HTTP/1.1", &http1);
    let throughput = |round: &Round| round.throughput;
    let pairs = pairs(&many.loaded, &http2[1].loaded, throughput);
    report.ratio("10,000 policies beside ten", "1/s", &pairs, Limit::AtLeast(0.5));
    report.value("echo's own spread at 16", "", spread(&http2[0].loaded), Limit::None);
    Ok(())
}

/// An echo, and what asks it for the bytes of a review.
pub(crate) fn echo(world: &World) -> Outcome<(Echo, Target)> {
    let echo = Echo::start(&world.folder, &world.authority)?;
    let digest = review::of(&world.near.by_digest());
    let authority = world.authority.certificate();
    let at = (echo.port, "/validate");
    let echoed = Target::new(at, &digest, "AdmissionReview", authority, &world.folder)?;
    Ok((echo, echoed))
}

/// One round of each, loaded and alone.
pub(crate) fn round(contenders: &mut [Contender]) -> Outcome<()> {
    for contender in contenders {
        contender.loaded.push(contender.round(LOADED)?);
        contender.alone.push(contender.round(ALONE)?);
    }
    Ok(())
}

fn memory(report: &mut Report, name: &str, pid: u32, echo: u32) -> Outcome<()> {
    let mebibytes = |pid| Ok::<_, countersign_e2e::Failure>(usage::resident(pid)? as f64 / MIB);
    report.ratio(name, "MiB", &[(mebibytes(pid)?, mebibytes(echo)?)], Limit::AtMost(3.0));
    Ok(())
}

/// Adds the rows of all but the first, which is the echo.
pub(crate) fn tell(report: &mut Report, protocol: &str, [echo, kinds @ ..]: &[Contender; 3]) {
    for kind in kinds {
        let name = |what: &str| format!("warm {}, {protocol}: {what}", kind.name);
        let loaded = |part| pairs(&kind.loaded, &echo.loaded, part);
        let alone = |part| pairs(&kind.alone, &echo.alone, part);
        let throughput = loaded(|round| round.throughput);
        report.ratio(&name("16 connections"), "1/s", &throughput, Limit::AtLeast(0.7));
        let slowest = Limit::AtMost(1.5);
        report.ratio(&name("p99 at 16"), "us", &loaded(|round| round.p99_micros), slowest);
        report.ratio(&name("p99 at 1"), "us", &alone(|round| round.p99_micros), slowest);
        report.ratio(&name("median at 1"), "us", &alone(|round| round.median_micros), Limit::None);
        let processor = loaded(|round| round.processor_micros);
        report.ratio(&name("server's CPU"), "us", &processor, Limit::None);
    }
}

/// The same part of the same rounds of two contenders.
fn pairs(rounds: &[Round], beside: &[Round], part: fn(&Round) -> f64) -> Vec<(f64, f64)> {
    rounds.iter().zip(beside).map(|(round, other)| (part(round), part(other))).collect()
}

/// How far the quarters of the rounds are apart: a machine with other work shows here.
fn spread(rounds: &[Round]) -> f64 {
    let mut throughputs: Vec<f64> = rounds.iter().map(|round| round.throughput).collect();
    throughputs.sort_unstable_by(f64::total_cmp);
    let quarter = throughputs.len() / 4;
    let (slow, fast) = (throughputs[quarter], throughputs[throughputs.len() - 1 - quarter]);
    (fast - slow) / median(throughputs)
}
