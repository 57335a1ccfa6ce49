//! One namespace, or everybody at once, asks for more than there is.

use std::fs;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::countersign::Countersign;
use countersign_e2e::flood::{ADMITTED, Answers, Flood};
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::lab::Lab;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::process::wait_until;
use countersign_e2e::reviews::pod_of;
use countersign_e2e::{Context, Outcome};
use serde_json::Value;

const REPOSITORY: &str = "payments/api";

/// Reviews of the quiet namespace in one measurement.
const WARM: usize = 2_000;
const COLD: usize = 200;

/// Reviews of the greedy one: more than may wait, and then again and again as many as may.
const GREEDY: usize = 1_500;
const STEADY: usize = 500;

/// How many of these wait at least before anything is measured: half of those that may.
const LEAST_WAITING: f64 = 500.0;

const SOON: Duration = Duration::from_secs(30);

/// Reviews of everybody when all ask for more than there is, of so many namespaces.
const EVERYBODY: usize = 3_500;
const NAMESPACES: usize = 100;
const CONNECTIONS: usize = 32;

/// What becomes of who names slow hosts.
const SLOW: [&str; 3] = ["Overloaded", "DeadlineExceeded", "SourceUnavailable"];

/// How many of them are asked at a time.
const AT_ONCE: usize = 4;

/// Beyond three times what it was before, how long half of the quiet namespace's answers may take,
/// and nine in ten: that is for a machine that is busy with the flood itself. Who has to wait for
/// slow hosts waits for seconds, and all do.
const MORE: [(f64, Duration); 2] =
    [(0.5, Duration::from_millis(250)), (0.9, Duration::from_secs(1))];

/// How soon, by the server's own clock, as much has to be refused as there are no places for: before
/// anything that waits is answered, on a machine that is busy with the flood itself. Who has waited in
/// vain for a turn is told after 8 s that there was too much.
const SHED_AFTER: Duration = Duration::from_secs(4);

/// The longest that a probe may take: kubelet waits no longer (a probe's `timeoutSeconds` is 1 unless
/// it is set), and one that fails is enough for a replica not to be ready.
const PROBE: Duration = Duration::from_secs(1);

/// A lab with a source and a registry beside it that never answer, and who asks.
struct Crowd {
    lab: Lab,
    _slow_notary: Front,
    slow_registry: Front,
    warm: String,
    countersign: Countersign,
}

impl Crowd {
    fn start() -> Outcome<Self> {
        let lab = Lab::start()?;
        let image = lab.trusted(REPOSITORY, "1.4")?;
        let slow_notary = Front::start(lab.notary.url(), &lab.authority)?;
        let slow_registry =
            Front::start(&format!("https://{}", lab.registry.host()), &lab.authority)?;
        for front in [&slow_notary, &slow_registry] {
            front.set(Mode::Silent);
        }
        let certs = lab.registry.certs().join(slow_registry.host());
        fs::create_dir_all(&certs)?;
        fs::copy(lab.authority.certificate(), certs.join("ca.crt"))?;
        // Every repository of the lab has a pin, so that any may be asked for.
        let pin = lab.signer.pin(&image.name)?;
        let mut source = lab.source(REPOSITORY)?.pin("all", &lab.gun("cold/**"), &pin);
        source.refresh_after = 60;
        lab.policies.source(&source)?;
        let slow = Source::new("slow", slow_notary.url(), &lab.authority.pem());
        lab.policies.source(&slow.pin("all", "slow.example/**", &pin).pin(
            "tags",
            &format!("{}/**", slow_registry.host()),
            &pin,
        ))?;
        lab.policies.policy(&Policy::new("slow", "slow.example/**", "slow"))?;
        let include = format!("{}/**", slow_registry.host());
        lab.policies.policy(&Policy::new("slow-registry", &include, "slow"))?;
        let countersign = lab.countersign("countersign")?;
        countersign.pod(&image.by_digest())?.0.admitted()?;
        Ok(Self {
            warm: image.by_digest(),
            lab,
            _slow_notary: slow_notary,
            slow_registry,
            countersign,
        })
    }

    fn flood(&self, connections: usize) -> Outcome<Flood> {
        let authority = self.lab.authority.certificate();
        let flood = Flood::new(self.countersign.url(), authority, connections)?;
        flood.connect("/validate?timeout=10s", &pod_of("quiet", [self.warm.clone()]))?;
        Ok(flood)
    }

    /// How many reviews wait for something.
    fn waiting(&self) -> Outcome<f64> {
        self.countersign.metric("countersign_reviews_in_flight")
    }

    /// How long the server took to refuse as too much, in ascending order.
    fn shed_after(&self) -> Outcome<Vec<Duration>> {
        let log = self.countersign.log()?;
        let shed = log.lines().filter(|line| line.contains("\"code\":\"Overloaded\""));
        let micros = |line: &str| serde_json::from_str::<Value>(line).ok()?["duration_us"].as_u64();
        let mut times: Vec<Duration> = shed.filter_map(micros).map(Duration::from_micros).collect();
        times.sort_unstable();
        Ok(times)
    }

    /// An image that nobody has asked for.
    fn cold(&self, name: &str, number: usize) -> String {
        format!("{}@sha256:{number:064x}", self.lab.gun(&format!("cold/{name}-{number}")))
    }

    /// Warm and cold reviews of a namespace of its own.
    fn quiet(&self, name: &str) -> Outcome<[Answers; 2]> {
        let flood = self.flood(AT_ONCE)?;
        let review = pod_of("quiet", [self.warm.clone()]);
        let warm = flood.send("/validate?timeout=10s", vec![review; WARM], AT_ONCE)?;
        let cold: Vec<String> =
            (0..COLD).map(|number| pod_of("quiet", [self.cold(name, number)])).collect();
        Ok([warm, flood.send("/validate?timeout=10s", cold, AT_ONCE)?])
    }

    /// The reviews of a namespace that names nothing but slow hosts, again and again until it is
    /// over, and never the same image twice.
    fn greedy(&self, over: &AtomicBool) -> Outcome<()> {
        let flood = self.flood(16)?;
        let mut numbers = 0..GREEDY;
        while !over.load(Ordering::Relaxed) {
            let reviews = self.slow(numbers.clone(), |_| "greedy".to_owned());
            let answers = flood.send("/validate?timeout=10s", reviews, numbers.len())?;
            println!("greedy: {answers}");
            assert!(answers.only(&SLOW), "{answers}");
            numbers = numbers.end..numbers.end + STEADY;
        }
        Ok(())
    }

    fn slow(&self, numbers: Range<usize>, namespace: impl Fn(usize) -> String) -> Vec<String> {
        let (registry, digest) = (self.slow_registry.host(), "a".repeat(64));
        let image = |number: usize| match number % 2 {
            0 => format!("{registry}/a/b:{number}"),
            _ => format!("slow.example/a/b-{number}@sha256:{digest}"),
        };
        numbers.map(|number| pod_of(&namespace(number), [image(number)])).collect()
    }
}

/// Nothing that was asked for in vain, and nothing that was not answered in time.
fn served([warm, cold]: &[Answers; 2]) {
    assert!(warm.only(&[ADMITTED]) && warm.count(ADMITTED) == WARM, "{warm}");
    // It is looked for at Notary, which does not have it.
    assert!(cold.only(&["Unsigned"]) && cold.count("Unsigned") == COLD, "{cold}");
}

#[test]
fn k10_a_namespace_that_names_slow_hosts_keeps_no_other_waiting() -> Outcome<()> {
    let crowd = Crowd::start()?;
    let before = crowd.quiet("before")?;
    served(&before);
    let over = AtomicBool::new(false);
    let during = thread::scope(|scope| {
        let greedy = scope.spawn(|| crowd.greedy(&over));
        // So that it is the hosts that are slow, and not the machine.
        let during =
            wait_until("the namespace's reviews", SOON, || Ok(crowd.waiting()? >= LEAST_WAITING))
                .and_then(|()| crowd.quiet("during"));
        over.store(true, Ordering::Relaxed);
        greedy.join().ok().context("it panicked")??;
        during
    })?;
    served(&during);
    for (what, code, [before, during]) in [
        ("warm", ADMITTED, [&before[0], &during[0]]),
        ("cold", "Unsigned", [&before[1], &during[1]]),
    ] {
        println!("{what}, before: {before}");
        println!("{what}, during: {during}");
        for (share, more) in MORE {
            let most = before.within(code, share) * 3 + more;
            assert!(during.within(code, share) <= most, "{what}: {during}; {before} before");
        }
    }
    Ok(())
}

#[test]
fn o7_what_is_too_much_is_told_at_once_and_probes_stay_green() -> Outcome<()> {
    let crowd = Crowd::start()?;
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let probing = scope.spawn(|| -> Outcome<(usize, Duration)> {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !over.load(Ordering::Relaxed) {
                for probe in ["/livez", "/readyz"] {
                    let asked = Instant::now();
                    crowd.countersign.probe(probe)?;
                    longest = longest.max(asked.elapsed());
                    count += 1;
                }
            }
            Ok((count, longest))
        });
        let warm = scope.spawn(|| -> Outcome<Answers> {
            let review = pod_of("quiet", [crowd.warm.clone()]);
            crowd.flood(AT_ONCE)?.send("/validate?timeout=10s", vec![review; WARM], AT_ONCE)
        });
        let all = crowd.slow(0..EVERYBODY, |number| format!("team-{}", number % NAMESPACES));
        let all = crowd
            .flood(CONNECTIONS)
            .and_then(|flood| flood.send("/validate?timeout=10s", all, EVERYBODY));
        over.store(true, Ordering::Relaxed);
        let (all, warm) = (all?, warm.join().ok().context("it panicked")??);
        let (probes, longest) = probing.join().ok().context("it panicked")??;
        println!("everybody: {all}");
        println!("warm meanwhile: {warm}");
        println!("{probes} probes were green, at most after {longest:.1?}");
        assert!(longest <= PROBE, "{longest:?}");
        assert!(all.only(&SLOW), "{all}");
        // Most of what is too much has to be told before the first that waited is answered.
        let too_much = (EVERYBODY - 2_048) / 2;
        assert!(all.count("Overloaded") >= too_much, "{all}");
        let shed = crowd.shed_after()?;
        let (median, at_once) = (shed[shed.len() / 2], shed[too_much - 1]);
        println!("Overloaded by the server's own clock: median {median:?}, at once {at_once:?}");
        assert!(at_once <= SHED_AFTER, "{at_once:?}");
        assert!(warm.only(&[ADMITTED]), "{warm}");
        Ok(())
    })
}

#[test]
fn k10_one_pod_that_names_six_hundred_repositories_leaves_others_their_places() -> Outcome<()> {
    let crowd = Crowd::start()?;
    // The server that everybody needs is slow, too.
    crowd.lab.front.set(Mode::Late(300));
    thread::scope(|scope| {
        let greedy = scope.spawn(|| {
            let images = (0..600).map(|number| crowd.cold("greedy", number));
            let pods: Vec<String> = vec![pod_of("greedy", images)];
            crowd.flood(1)?.send("/validate?timeout=10s", pods, 1)
        });
        let before = crowd.lab.front.reads().len();
        let waiting = || Ok(crowd.lab.front.reads().len() > before + 16);
        wait_until("the greedy pod", Duration::from_secs(20), waiting)?;
        let cold: Vec<String> =
            (0..8).map(|number| pod_of("quiet", [crowd.cold("quiet", number)])).collect();
        let quiet = crowd.flood(AT_ONCE)?.send("/validate?timeout=10s", cold, AT_ONCE)?;
        let greedy: Outcome<Answers> = greedy.join().ok().context("it panicked")?;
        println!("quiet: {quiet}");
        println!("greedy: {}", greedy?);
        assert!(quiet.only(&["Unsigned"]), "{quiet}");
        Ok(())
    })
}
