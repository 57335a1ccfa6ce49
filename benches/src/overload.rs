//! Ten times what the server takes: ten times the connections that give the most answers, and ten
//! times the cold reviews that there are places to wait for. And one namespace alone that names
//! servers that never answer.
//!
//! Clients and server share the machine's cores, so what a client costs would count against the
//! server. Therefore the same clients send at the same rate in both rounds of a pair, and only what
//! they ask for differs. In the reference everything is at hand. In the other round every place that
//! they may have is taken, by reviews that were sent before and do nothing but wait, and what is asked
//! for beside the warm reviews has to be refused. All answers are compared, of which a refusal is one;
//! then those that admit, of which there have to be fewer, by what is refused; and those to the warm
//! reviews, which are the same in both rounds. Probes are asked all the while, and have to say that all
//! is well.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::countersign::Countersign;
use countersign_e2e::flood::{ADMITTED, Answers, Flood};
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::pod_of;
use countersign_e2e::{Context, Failure, Outcome};

use crate::load::{Start, Target};
use crate::report::{Limit, Report, median};
use crate::world::{World, add_certificates};

const ROUNDS: usize = 7;

/// Of one namespace alone: only its p99 is compared, which the machine disturbs most.
const ROUNDS_ALONE: usize = 11;

/// Connections that give the most answers, and requests a round.
const PEAK: (usize, usize) = (16, 8_000);
const OVER: (usize, usize) = (160, 8_000);

/// Reviews that may wait at one time, and for how long: so many cold ones in that time are what
/// there are places for. Ten times as many are sent.
const PLACES: u64 = 2_048;
const WAIT: Duration = Duration::from_secs(8);

/// Who asks for what never comes: so many namespaces, and the reviews with which they fill the places
/// that they may have. At least `waiting` of these wait. Then they go on to ask, `every` so often.
#[derive(Clone, Copy)]
struct Crowd {
    namespaces: usize,
    reviews: usize,
    waiting: f64,
    every: Duration,
}

/// Each has as many places as are free besides, so that few are.
const EVERYBODY: Crowd = Crowd {
    namespaces: 64,
    reviews: 2_560,
    waiting: 1_900.0,
    every: Duration::from_nanos(WAIT.as_nanos() as u64 / PLACES / 10),
};

/// It gets half of the places, leaves the rest to the others, and asks for twice as many. With more
/// than that it would be the machine that there is too little of.
const ONE: Crowd = Crowd {
    namespaces: 1,
    reviews: 1_280,
    waiting: 1_000.0,
    every: Duration::from_nanos(WAIT.as_nanos() as u64 / PLACES),
};

/// Connections of either client beside the load: each may have 200 requests at a time.
const CONNECTIONS: usize = 32;

const PATH: &str = "/validate?timeout=10s";

/// Between two probes.
const PROBE: Duration = Duration::from_millis(50);

/// How long the places may take to be filled, or to be given back.
const SOON: Duration = Duration::from_secs(20);

const OVERLOADED: &str = "Overloaded";

/// Adds the warm answers beside their peak, and what becomes of the rest.
pub(crate) fn measure(world: &World, report: &mut Report) -> Outcome<()> {
    let overload = Overload::start(world)?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        rounds.push((overload.over(EVERYBODY, OVER, round)?, overload.peak(EVERYBODY)?));
    }
    let pairs = |of_over: fn(&Round) -> f64, of_peak: fn(&Round) -> f64| -> Vec<(f64, f64)> {
        rounds.iter().map(|(over, peak)| (of_over(over), of_peak(peak))).collect()
    };
    let name = |what: &str| format!("ten times overloaded: {what}");
    let all = pairs(Round::answered, Round::answered);
    report.ratio(&name("all answers, refusals too"), "1/s", &all, Limit::AtLeast(0.9));
    // What is refused is the larger a share of the peak, the slower the machine.
    let admitted = pairs(Round::admitted, Round::admitted);
    report.ratio(&name("admitted answers"), "1/s", &admitted, Limit::None);
    let warm = pairs(|over| over.throughput, |peak| peak.throughput);
    report.ratio(&name("warm answers"), "1/s", &warm, Limit::AtLeast(0.9));
    // With fewer beside them the warm ones would have it easier.
    let beside = pairs(|over| over.rate(OVERLOADED), |peak| peak.rate(ADMITTED));
    report.ratio(&name("refusals"), "1/s", &beside, Limit::AtLeast(0.9));
    // At once: half of what is refused has its answer before the last of what is answered.
    let soon = rounds.iter().map(|(over, _)| (over.refused_micros(), over.p99_micros));
    let soon: Vec<_> = soon.collect();
    report.ratio(&name("median refusal, warm p99"), "us", &soon, Limit::AtMost(1.0));
    let refused = rounds.iter().map(|(over, _)| over.share(OVERLOADED));
    report.value(&name("share refused"), "", median(refused.collect()), Limit::AtLeast(0.9));
    let mut alone = Vec::new();
    for round in ROUNDS..ROUNDS + ROUNDS_ALONE {
        let slow = overload.over(ONE, PEAK, round)?;
        alone.push((slow.p99_micros, overload.peak(ONE)?.p99_micros));
    }
    let name = "one namespace names slow servers: others' warm p99";
    report.ratio(name, "us", &alone, Limit::AtMost(1.5));
    Ok(())
}

/// What one round found of the warm reviews, and of those beside them.
struct Round {
    throughput: f64,
    p99_micros: f64,
    beside: Answers,
    /// For how long these were sent.
    sent_for: Duration,
}

impl Round {
    /// Pods that were let in, a second.
    fn admitted(&self) -> f64 {
        self.throughput + self.rate(ADMITTED)
    }

    /// The same, and those that were refused at once.
    fn answered(&self) -> f64 {
        self.admitted() + self.rate(OVERLOADED)
    }

    fn rate(&self, code: &str) -> f64 {
        self.beside.count(code) as f64 / self.sent_for.as_secs_f64()
    }

    fn share(&self, code: &str) -> f64 {
        self.beside.count(code) as f64 / self.beside.all() as f64
    }

    fn refused_micros(&self) -> f64 {
        self.beside.within(OVERLOADED, 0.5).as_secs_f64() * 1e6
    }
}

/// A server whose images are at hand, or at a source and a registry that never answer.
struct Overload {
    countersign: Countersign,
    warm: Target,
    /// The image of [`Self::warm`].
    at_hand: String,
    /// Two: at one alone no more may wait than there are places for reviews, and it is those that are
    /// to be what there is too little of.
    slow_registries: [Front; 2],
    _slow_notary: Front,
    filling: Flood,
    beside: Flood,
}

impl Overload {
    fn start(world: &World) -> Outcome<Self> {
        let registry = format!("https://{}", world.registry.host());
        let slow = |upstream: &str| {
            let front = Front::start(upstream, &world.authority)?;
            front.set(Mode::Silent);
            Outcome::Ok(front)
        };
        let slow_registries = [slow(&registry)?, slow(&registry)?];
        let slow_notary = slow(world.notary.url())?;
        for registry in &slow_registries {
            add_certificates(&world.registry, registry.host(), &world.authority)?;
        }
        let countersign = world.countersign_with("overload", |policies| {
            write(policies, world, &slow_registries, slow_notary.url())
        })?;
        let at_hand = world.near.by_digest();
        let flood = || {
            let flood = Flood::new(countersign.url(), world.authority.certificate(), CONNECTIONS)?;
            flood.connect(PATH, &pod_of("team-0", [at_hand.clone()]))?;
            Outcome::Ok(flood)
        };
        let (filling, beside) = (flood()?, flood()?);
        Ok(Self {
            warm: world.reviews(&countersign, "/validate", &at_hand)?,
            at_hand,
            filling,
            beside,
            countersign,
            slow_registries,
            _slow_notary: slow_notary,
        })
    }

    /// Nothing waits.
    fn peak(&self, crowd: Crowd) -> Outcome<Round> {
        let idle = || Ok(self.waiting()? == 0.0);
        wait_until("places to be given back", SOON, idle)?;
        self.round(PEAK, crowd.every, |number| pod(crowd, number, self.at_hand.clone()))
    }

    /// As many wait as may of these. They are asked about by tag.
    fn over(&self, crowd: Crowd, load: (usize, usize), round: usize) -> Outcome<Round> {
        let tag = |n: usize| {
            let registry = self.slow_registries[n / 2 % 2].host();
            format!("{registry}/round-{round}/app:{n}")
        };
        let by_digest = |n: usize| format!("slow.example/r{round}/{n}@sha256:{n:064x}");
        thread::scope(|scope| {
            let fill: Vec<String> = (0..crowd.reviews).map(|n| pod(crowd, n, tag(n))).collect();
            let filling = scope.spawn(|| self.filling.send(PATH, fill, crowd.reviews));
            let are_taken = || Ok(self.waiting()? >= crowd.waiting);
            wait_until("the places to be taken", SOON, are_taken)?;
            let cold = |n: usize| {
                let image = if n.is_multiple_of(2) { tag(crowd.reviews + n) } else { by_digest(n) };
                pod(crowd, n, image)
            };
            let over = self.round(load, crowd.every, cold)?;
            if filling.is_finished() {
                return Err(Failure::new("the places were given back during a round"));
            }
            filling.join().ok().context("it panicked")??;
            Ok(over)
        })
    }

    /// Warm reviews, and beside them these and probes for as long.
    fn round(
        &self,
        (connections, requests): (usize, usize),
        every: Duration,
        review: impl Fn(usize) -> String + Sync,
    ) -> Outcome<Round> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let begun = Instant::now();
            let beside = scope.spawn(|| {
                let until_over = |_: &usize| !over.load(Ordering::Relaxed);
                let reviews = (0..).take_while(until_over).map(&review);
                self.beside.send_every(every, PATH, reviews)
            });
            let probes = scope.spawn(|| self.probe(&over));
            let sample = self.warm.ask(connections, requests, Start::Warm);
            let sent_for = begun.elapsed();
            over.store(true, Ordering::Relaxed);
            let (sample, beside) = (sample?, beside.join().ok().context("it panicked")??);
            probes.join().ok().context("it panicked")??;
            let (throughput, p99_micros) = (sample.throughput(), sample.quantile(0.99));
            Ok(Round { throughput, p99_micros, beside, sent_for })
        })
    }

    /// Fails where one is not answered with 200.
    fn probe(&self, over: &AtomicBool) -> Outcome<()> {
        while !over.load(Ordering::Relaxed) {
            for probe in ["/livez", "/readyz"] {
                self.countersign.probe(probe).context(probe)?;
            }
            thread::sleep(PROBE);
        }
        Ok(())
    }

    fn waiting(&self) -> Outcome<f64> {
        self.countersign.metric("countersign_reviews_in_flight")
    }
}

fn pod(crowd: Crowd, number: usize, image: String) -> String {
    pod_of(&format!("team-{}", number % crowd.namespaces), [image])
}

fn write(
    policies: &Policies,
    world: &World,
    slow_registries: &[Front],
    slow_notary: &str,
) -> Outcome<()> {
    let (near, authority) = (&world.near, world.authority.pem());
    let mut source =
        Source::new("notary", &near.notary, &authority).pin("bench", &near.name, &near.pin);
    source.refresh_after = 60;
    policies.source(&source)?;
    let mut slow = Source::new("slow", slow_notary, &authority);
    let mut policy = Policy::new("slow", "slow.example/**", "slow");
    slow = slow.pin("all", "slow.example/**", &near.pin);
    for (number, registry) in slow_registries.iter().enumerate() {
        let tags = format!("{}/**", registry.host());
        slow = slow.pin(&format!("tags-{number}"), &tags, &near.pin);
        policy.include.push(tags);
    }
    policies.source(&slow)?;
    policies.policy(&Policy::new("near", &near.name, "notary"))?;
    policies.policy(&policy)
}
