//! Ten times what gives the most answers: more connections, and more cold reviews than may wait.

use std::thread;
use std::time::Duration;

use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::flood::{Answers, Flood};
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::pod_of;
use countersign_e2e::{Context, Outcome};

use crate::load::{Start, Target};
use crate::report::{Limit, Report};
use crate::world::World;

const ROUNDS: usize = 5;

/// Connections that give the most answers, and requests a round.
const PEAK: (usize, usize) = (16, 8_000);
const OVER: (usize, usize) = (160, 8_000);

/// Cold reviews at one time, of as many namespaces: ten times what half of the places are.
const COLD: usize = 10_240;
const NAMESPACES: usize = 64;

/// Connections that they come over: each may have 200 at a time.
const CONNECTIONS: usize = 64;

/// How many of them wait at least, of the 2,048 that may: the last places are always left.
const WAITING: u64 = 1_900;

/// The metrics of what waits, and of what was refused as too much.
const IN_FLIGHT: &str = "countersign_reviews_in_flight";
const SHED: &str =
    "countersign_reviews_total{action=\"validate\",outcome=\"denied\",code=\"Overloaded\"}";

/// Adds the answers a second beside their peak, and how soon too much is told.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let slow = Front::start(world.notary.url(), &world.authority)?;
    slow.set(Mode::Silent);
    let countersign = countersign(world, &slow)?;
    let warm = world.reviews(&countersign, "/validate", &world.near.by_digest())?;
    let mut rounds = Vec::new();
    let (mut shed, mut told) = (0, Vec::new());
    for round in 0..ROUNDS {
        let peak = warm.ask(PEAK.0, PEAK.1, Start::Warm)?.throughput();
        let (over, cold) = overloaded(world, &countersign, &warm, round)?;
        rounds.push((over, peak));
        shed += cold.count("Overloaded");
        told.push(cold.within("Overloaded", 0.5).as_secs_f64() * 1e3);
    }
    report.ratio("ten times overloaded: answers", "1/s", &rounds, Limit::AtLeast(0.9));
    report.value(
        "cold reviews refused as Overloaded",
        "",
        shed as f64 / ROUNDS as f64,
        Limit::AtLeast(1.0),
    );
    report.value("how soon, median", "ms", crate::report::median(told), Limit::None);
    Ok(())
}

/// Answers a second, warm reviews' and refusals as too much, while as many cold ones wait as may;
/// and what became of these.
fn overloaded(
    world: &World,
    countersign: &Countersign,
    warm: &Target,
    round: usize,
) -> Outcome<(f64, Answers)> {
    thread::scope(|scope| {
        let cold = scope.spawn(move || -> Outcome<Answers> {
            let image = move |n: usize| format!("slow.example/r{round}/{n}@sha256:{n:064x}");
            let pod = move |n: usize| pod_of(&format!("team-{}", n % NAMESPACES), [image(n)]);
            let authority = world.authority.certificate();
            let flood = Flood::new(countersign.url(), authority, CONNECTIONS)?;
            flood.send("/validate?timeout=10s", (0..COLD).map(pod), COLD)
        });
        wait_until("cold reviews to wait", Duration::from_secs(20), || {
            Ok(cold.is_finished() || metric(countersign, IN_FLIGHT)? >= WAITING)
        })?;
        let before = metric(countersign, SHED)?;
        let sample = warm.ask(OVER.0, OVER.1, Start::Warm)?;
        let shed = metric(countersign, SHED)? - before;
        let throughput = sample.throughput() + shed as f64 / sample.took().as_secs_f64();
        Ok((throughput, cold.join().ok().context("it panicked")??))
    })
}

fn metric(countersign: &Countersign, name: &str) -> Outcome<u64> {
    let metrics = countersign.probe("/metrics")?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    Ok(line.context("no such metric")?.parse()?)
}

/// With a source that never answers, beside the near one.
fn countersign(world: &World, slow: &Front) -> Outcome<Countersign> {
    let folder = world.folder.join("overload");
    let policies = Policies::new(&folder.join("policies"))?;
    let (near, authority) = (&world.near, world.authority.pem());
    let mut source =
        Source::new("notary", &near.notary, &authority).pin("bench", &near.name, &near.pin);
    source.refresh_after = 60;
    policies.source(&source)?;
    policies.policy(&Policy::new("near", &near.name, "notary"))?;
    let slow = Source::new("slow", slow.url(), &authority).pin("all", "slow.example/**", &near.pin);
    policies.source(&slow)?;
    policies.policy(&Policy::new("slow", "slow.example/**", "slow"))?;
    Countersign::start(&folder, &world.authority, &Config::new(policies.folder()))
}
