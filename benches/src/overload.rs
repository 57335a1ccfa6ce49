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

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::countersign::Countersign;
use countersign_e2e::flood::{ADMITTED, Answers, Flood};
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::pod_of;
use countersign_e2e::{Context, Failure, Outcome};

use crate::load::{Sample, Start, Target};
use crate::many::{Many, image};
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

/// Cold reviews of other namespaces in a round, and how often one is sent: all within less than
/// [`WAIT`].
const COLD: usize = 200;
const COLD_EVERY: Duration = Duration::from_millis(10);
const ROUNDS_COLD: usize = 7;

/// What was asked for once is not to be refreshed beside what is cold.
const REFRESH_AFTER_SECONDS: u32 = 3600;

/// Connections of each client beside the load: each may have 200 requests at a time.
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
        let over = overload.over(EVERYBODY, round, || overload.warm(OVER))?;
        rounds.push((over, overload.peak(EVERYBODY, || overload.warm(PEAK))?));
    }
    let pairs = |of_over: fn(&Warm) -> f64, of_peak: fn(&Warm) -> f64| -> Vec<(f64, f64)> {
        rounds.iter().map(|(over, peak)| (of_over(over), of_peak(peak))).collect()
    };
    let name = |what: &str| format!("ten times overloaded: {what}");
    let all = pairs(Warm::answered, Warm::answered);
    report.ratio(&name("all answers, refusals too"), "1/s", &all, Limit::AtLeast(0.9));
    // What is refused is the larger a share of the peak, the slower the machine.
    let admitted = pairs(Warm::admitted, Warm::admitted);
    report.ratio(&name("admitted answers"), "1/s", &admitted, Limit::None);
    let warm = pairs(Warm::throughput, Warm::throughput);
    report.ratio(&name("warm answers"), "1/s", &warm, Limit::AtLeast(0.9));
    // With fewer beside them the warm ones would have it easier.
    let beside = pairs(|over| over.rate(OVERLOADED), |peak| peak.rate(ADMITTED));
    report.ratio(&name("refusals"), "1/s", &beside, Limit::AtLeast(0.9));
    // At once: half of what is refused has its answer before the last of what is answered.
    let soon = rounds.iter().map(|(over, _)| (over.refused_micros(), over.p99_micros()));
    let soon: Vec<_> = soon.collect();
    report.ratio(&name("median refusal, warm p99"), "us", &soon, Limit::AtMost(1.0));
    let refused = rounds.iter().map(|(over, _)| over.share(OVERLOADED));
    report.value(&name("share refused"), "", median(refused.collect()), Limit::AtLeast(0.9));
    alone(&overload, report)
}

/// Adds what others have of one namespace that names slow servers.
fn alone(overload: &Overload, report: &mut Report) -> Outcome<()> {
    let (mut warm, mut cold) = (Vec::new(), Vec::new());
    let mut rounds = ROUNDS..;
    let name = |what: &str| format!("one namespace names slow servers: others' {what} p99");
    for round in rounds.by_ref().take(ROUNDS_ALONE) {
        let slow = overload.over(ONE, round, || overload.warm(PEAK))?;
        let quiet = overload.peak(ONE, || overload.warm(PEAK))?;
        warm.push((slow.p99_micros(), quiet.p99_micros()));
    }
    report.ratio(&name("warm"), "us", &warm, Limit::AtMost(1.5));
    for round in rounds.take(ROUNDS_COLD) {
        let slow = overload.over(ONE, round, || overload.cold())?;
        cold.push((slow.asked, overload.peak(ONE, || overload.cold())?.asked));
    }
    report.ratio(&name("cold"), "us", &cold, Limit::None);
    Ok(())
}

/// What one round found of what was asked, and of the reviews beside that.
struct Round<T> {
    asked: T,
    beside: Answers,
    /// For how long these were sent.
    sent_for: Duration,
}

type Warm = Round<Sample>;

impl Warm {
    fn throughput(&self) -> f64 {
        self.asked.throughput()
    }

    fn p99_micros(&self) -> f64 {
        self.asked.quantile(0.99)
    }

    /// Pods that were let in, a second.
    fn admitted(&self) -> f64 {
        self.throughput() + self.rate(ADMITTED)
    }

    /// The same, and those that were too many.
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
        micros(self.beside.within(OVERLOADED, 0.5))
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
    _many: Many,
    /// How many repositories of these have been asked for.
    asked: AtomicUsize,
    filling: Flood,
    beside: Flood,
    others: Flood,
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
        let many = Many::start(2 * ROUNDS_COLD * COLD)?;
        let countersign = world.countersign_with("overload", |policies| {
            many.write(policies, world, REFRESH_AFTER_SECONDS)?;
            write(policies, world, &slow_registries, slow_notary.url())
        })?;
        let at_hand = world.near.by_digest();
        let flood = || {
            let flood = Flood::new(countersign.url(), world.authority.certificate(), CONNECTIONS)?;
            flood.connect(PATH, &pod_of("team-0", [at_hand.clone()]))?;
            Outcome::Ok(flood)
        };
        let (filling, beside, others) = (flood()?, flood()?, flood()?);
        Ok(Self {
            warm: world.reviews(&countersign, "/validate", &at_hand)?,
            at_hand,
            _many: many,
            asked: AtomicUsize::new(0),
            filling,
            beside,
            others,
            countersign,
            slow_registries,
            _slow_notary: slow_notary,
        })
    }

    /// So many warm reviews, over so many connections.
    fn warm(&self, (connections, requests): (usize, usize)) -> Outcome<Sample> {
        self.warm.ask(connections, requests, Start::Warm)
    }

    /// The p99 of cold reviews of namespaces that are in no crowd, in microseconds.
    fn cold(&self) -> Outcome<f64> {
        let review = |n: usize| {
            let image = image(self.asked.fetch_add(1, Ordering::Relaxed));
            pod_of(&format!("other-{}", n % 16), [image])
        };
        let answers = self.others.send_every(COLD_EVERY, PATH, (0..COLD).map(review))?;
        if answers.only(&[ADMITTED]) {
            Ok(micros(answers.within(ADMITTED, 0.99)))
        } else {
            Err(Failure::new(format!("cold reviews beside others: {answers}")))
        }
    }

    /// Nothing waits.
    fn peak<T>(&self, crowd: Crowd, ask: impl FnOnce() -> Outcome<T>) -> Outcome<Round<T>> {
        let idle = || Ok(self.waiting()? == 0.0);
        wait_until("places to be given back", SOON, idle)?;
        self.round(crowd.every, |number| pod(crowd, number, self.at_hand.clone()), ask)
    }

    /// As many wait as may of these. They are asked about by tag.
    fn over<T>(
        &self,
        crowd: Crowd,
        round: usize,
        ask: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<Round<T>> {
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
            let over = self.round(crowd.every, cold, ask)?;
            if filling.is_finished() {
                return Err(Failure::new("the places were given back during a round"));
            }
            filling.join().ok().context("it panicked")??;
            Ok(over)
        })
    }

    /// Asks, and beside that sends these reviews and probes for as long.
    fn round<T>(
        &self,
        every: Duration,
        review: impl Fn(usize) -> String + Sync,
        ask: impl FnOnce() -> Outcome<T>,
    ) -> Outcome<Round<T>> {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let begun = Instant::now();
            let beside = scope.spawn(|| {
                let until_over = |_: &usize| !over.load(Ordering::Relaxed);
                let reviews = (0..).take_while(until_over).map(&review);
                self.beside.send_every(every, PATH, reviews)
            });
            let probes = scope.spawn(|| self.probe(&over));
            let asked = ask();
            let sent_for = begun.elapsed();
            over.store(true, Ordering::Relaxed);
            let (asked, beside) = (asked?, beside.join().ok().context("it panicked")??);
            probes.join().ok().context("it panicked")??;
            Ok(Round { asked, beside, sent_for })
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

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
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
