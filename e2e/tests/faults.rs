//! Every way in which a Notary server or a registry fails, one beside the other: what answers
//! meanwhile, what is refused and how soon, and how soon it is noticed that they are well again.

use std::fmt::Display;
use std::fs;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::countersign::{Config, Countersign};
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::network::Network;
use countersign_e2e::notary::{Notary, Options};
use countersign_e2e::notary_client::NotaryClient;
use countersign_e2e::pki::Authority;
use countersign_e2e::place::Place;
use countersign_e2e::policies::{Policies, Policy, Source};
use countersign_e2e::process::eventually;
use countersign_e2e::registry::{Auth, Image, Registry};
use countersign_e2e::reviews::{self, Verdict};
use countersign_e2e::{Context, Failure, Outcome};
use tempfile::TempDir;

const TEST: &str = "o1_o2_t9_every_way_to_fail_is_told_survived_and_recovered_from";

/// What the API server's patience is here; Countersign answers a second sooner.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long images are asked for that were verified before.
const MEANWHILE: Duration = Duration::from_secs(2);

/// How long a refusal is remembered, of a source and of a registry.
const REMEMBERED: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(2)];

/// How long what was asked while nobody answered may go on: it may have been asked just before.
const UNDER_WAY: Duration = Duration::from_secs(10);

/// What two busy cores, with programs that are not optimised, may add to a time.
const BUSY: Duration = Duration::from_secs(3);

/// How many faults are tried at the same time: most of it is waiting.
const AT_ONCE: usize = 12;

/// Whose servers fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Notary,
    Registry,
}

/// What is wrong with a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It refuses connections.
    Gone,
    /// It takes them, and says nothing ever.
    Mute,
    /// It is cut off: packets are lost, also on connections that there are.
    Vanished,
    /// Its certificate is another authority's.
    OtherAuthority,
    /// Its certificate's time is over.
    Expired,
    /// Its certificate is for another name.
    OtherName,
    /// Its name does not exist.
    NoName,
    /// Its name servers say nothing.
    NameHangs,
    /// It answers, and how.
    Answers(Mode),
}

use Fault::*;

/// Every fault; what refuses an image that is not known yet, by a Notary server and by a registry;
/// and what the log says of it, where that is said while the fault lasts.
const FAULTS: [(Fault, [&str; 2], &str); 16] = [
    (Gone, ["SourceUnavailable", "RegistryUnavailable"], "Connection refused"),
    (Mute, ["DeadlineExceeded", "DeadlineExceeded"], ""),
    (Vanished, ["DeadlineExceeded", "DeadlineExceeded"], ""),
    (OtherAuthority, ["SourceUnavailable", "RegistryUnavailable"], "invalid peer certificate"),
    (Expired, ["SourceUnavailable", "RegistryUnavailable"], "expired"),
    (OtherName, ["SourceUnavailable", "RegistryUnavailable"], "not valid for name"),
    (NoName, ["SourceUnavailable", "RegistryUnavailable"], "lookup address"),
    (NameHangs, ["DeadlineExceeded", "DeadlineExceeded"], ""),
    (Answers(Mode::Down), ["SourceUnavailable", "RegistryUnavailable"], "status 503"),
    (Answers(Mode::Busy(1)), ["SourceUnavailable", "RegistryUnavailable"], "status 429"),
    (Answers(Mode::Busy(3600)), ["SourceUnavailable", "RegistryUnavailable"], "status 429"),
    (Answers(Mode::Garbage), ["MalformedMetadata", "RegistryUnavailable"], ""),
    (Answers(Mode::Altered), ["ThresholdNotMet", "RegistryUnavailable"], ""),
    (Answers(Mode::Truncated), ["SourceUnavailable", "RegistryUnavailable"], ""),
    (Answers(Mode::Slow), ["DeadlineExceeded", "DeadlineExceeded"], ""),
    (Answers(Mode::Silent), ["DeadlineExceeded", "DeadlineExceeded"], ""),
];

/// One fault of one server.
#[derive(Debug, Clone, Copy)]
struct Case {
    number: usize,
    whose: Whose,
    fault: Fault,
    code: &'static str,
    logged: &'static str,
}

impl Case {
    fn all() -> Vec<Self> {
        let mut cases = Vec::new();
        for (fault, codes, logged) in FAULTS {
            for whose in [Whose::Notary, Whose::Registry] {
                let code = codes[whose as usize];
                cases.push(Self { number: cases.len(), whose, fault, code, logged });
            }
        }
        cases
    }

    /// The name of the server that fails.
    fn name(&self) -> String {
        let what = if self.fault == NameHangs { "hangs" } else { "fails" };
        format!("{what}-{}.outage.example", self.number)
    }

    /// How long until it is seen that the server is well again.
    fn bound(&self) -> Duration {
        // What keeps its connections, or the questions for its name, keeps what was asked on them.
        let holds = matches!(self.fault, NameHangs | Vanished | Answers(Mode::Slow | Mode::Silent));
        let under_way = if holds { UNDER_WAY } else { Duration::ZERO };
        REMEMBERED[self.whose as usize] + under_way + BUSY
    }
}

/// The servers that do not fail.
struct Ground {
    network: Network,
    folder: TempDir,
    authority: Authority,
    other_authority: Authority,
    notary: Notary,
    registry: Registry,
}

#[test]
fn o1_o2_t9_every_way_to_fail_is_told_survived_and_recovered_from() -> Outcome<()> {
    let cases = Case::all();
    let names: Vec<String> =
        cases.iter().map(Case::name).chain(["well.outage.example".to_owned()]).collect();
    let Some(network) = Network::own(TEST, &names)? else { return Ok(()) };
    let folder = tempfile::tempdir()?;
    let authority = Authority::new(&folder.path().join("pki"))?;
    let other_authority = Authority::new(&folder.path().join("other"))?;
    let place = network.place("well.outage.example");
    let options = Options { place, ..Options::default() };
    let notary = Notary::start_with(&folder.path().join("notary"), &authority, options)?;
    let registry =
        Registry::start_at(place, &folder.path().join("registry"), &authority, Auth::None)?;
    let ground = Ground { network, folder, authority, other_authority, notary, registry };

    let (left, lines) = (Mutex::new(cases.iter()), Mutex::new(Vec::new()));
    let work = || {
        loop {
            let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
            let Some(case) = next else { return };
            let line = Trial::of(&ground, *case).and_then(Trial::run);
            let line = line.map_err(|failure| format!("{case:?}: {failure}"));
            lines.lock().unwrap_or_else(PoisonError::into_inner).push((case.number, line));
        }
    };
    thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().ok().context("it panicked"))
    })?;
    let mut lines = lines.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.sort();
    println!(
        "{:8} {:22} {:22} {:>11} {:>12} {:>11}",
        "", "fault", "not known yet", "refused in", "known waited", "seen after"
    );
    let mut failed = Vec::new();
    for (_, line) in lines {
        line.map_or_else(|failure| failed.push(failure), |line| println!("{line}"));
    }
    if failed.is_empty() { Ok(()) } else { Err(Failure::new(failed.join("\n"))) }
}

/// A server that is going to fail, and the program that needs it.
struct Trial<'a> {
    ground: &'a Ground,
    case: Case,
    front: Front,
    image: Image,
    config: Config,
    /// What has the image's metadata.
    knowing: Countersign,
}

impl<'a> Trial<'a> {
    fn of(ground: &'a Ground, case: Case) -> Outcome<Self> {
        let Ground { network, folder, authority, notary, registry, .. } = ground;
        let folder = folder.path().join(format!("case-{}", case.number));
        let place: Place = network.place(&case.name());
        let behind = match case.whose {
            Whose::Notary => notary.url().to_owned(),
            Whose::Registry => format!("https://{}", registry.host()),
        };
        let front = Front::start_at(place, &behind, authority)?;
        let (source, host) = match case.whose {
            Whose::Notary => (front.url(), registry.host()),
            Whose::Registry => (notary.url(), front.host()),
        };
        let repository = format!("payments/case-{}", case.number);
        let mut image = registry.push(&repository, "1.4", "signed")?;
        image.name = format!("{host}/{repository}");
        let signer = NotaryClient::new(&folder.join("signer"), notary)?;
        signer.init(&image.name)?;
        signer.sign(&image.name, "1.4", &image.digest, image.size)?;

        let certs = folder.join("certs.d");
        fs::create_dir_all(certs.join(host))?;
        fs::copy(authority.certificate(), certs.join(host).join("ca.crt"))?;
        let policies = Policies::new(&folder.join("policies"))?;
        let pin = signer.pin(&image.name)?;
        let source = Source::new("corp-notary", source, &authority.pem());
        policies.source(&source.pin("payments", &image.name, &pin))?;
        policies.policy(&Policy::new("payments", &format!("{host}/**"), "corp-notary"))?;
        let mut config = Config::new(policies.folder());
        config.registry_certs = Some(certs);
        let knowing = Countersign::start(&folder.join("knowing"), authority, &config)?;
        Ok(Self { ground, case, front, image, config, knowing })
    }

    /// A line of the table.
    fn run(mut self) -> Outcome<String> {
        let known = self.image.by_digest();
        ask(&self.knowing, &known)?.0.admitted()?;
        self.begin()?;
        let waited = self.meanwhile(&known)?;
        // Nothing is known to it; or all that it takes but for the tag.
        let folder = self.ground.folder.path().join(format!("case-{}/new", self.case.number));
        let new = match self.case.whose {
            Whose::Notary => {
                Some(Countersign::start(&folder, &self.ground.authority, &self.config)?)
            }
            Whose::Registry => None,
        };
        let wanted = match self.case.whose {
            Whose::Notary => known.clone(),
            Whose::Registry => self.image.tagged("1.4"),
        };
        let (verdict, refused) = ask(new.as_ref().unwrap_or(&self.knowing), &wanted)?;
        self.told(verdict)?;
        holds(refused < TIMEOUT, format!("refused after {refused:?}"))?;
        let program = new.as_ref().unwrap_or(&self.knowing);
        eventually("the log", || program.log(), |log| log.contains(self.case.logged))?;
        ask(&self.knowing, &known)?.0.admitted()?;

        self.end()?;
        let ended = Instant::now();
        let program = new.as_ref().unwrap_or(&self.knowing);
        while !ask(program, &wanted)?.0.allowed {
            let late = ended.elapsed();
            holds(late < self.case.bound(), format!("not seen after {late:?}"))?;
            thread::sleep(Duration::from_millis(20));
        }
        let seen = ended.elapsed();
        holds(seen < self.case.bound(), format!("seen after {seen:?}"))?;
        let Case { whose, fault, code, .. } = self.case;
        let fault = format!("{fault:?}");
        Ok(format!(
            "{:8} {fault:22} {code:22} {:>9} ms {:>9} ms {:>8} ms",
            format!("{whose:?}"),
            refused.as_millis(),
            waited.as_millis(),
            seen.as_millis()
        ))
    }

    /// The longest wait for an image whose metadata is there.
    fn meanwhile(&self, known: &str) -> Outcome<Duration> {
        let (begun, mut longest) = (Instant::now(), Duration::ZERO);
        while begun.elapsed() < MEANWHILE {
            let (verdict, took) = ask(&self.knowing, known)?;
            verdict.admitted()?;
            longest = longest.max(took);
            thread::sleep(Duration::from_millis(50));
        }
        holds(longest < TIMEOUT, format!("an image that is known waited {longest:?}"))?;
        Ok(longest)
    }

    /// The refusal has its code, names who did not answer, and nothing of how.
    fn told(&self, verdict: Verdict) -> Outcome<()> {
        let message = verdict.denied_as(self.case.code)?.message;
        let names = match (self.case.code, self.case.whose) {
            ("SourceUnavailable", _) => "TrustSource \"corp-notary\" could not be read",
            ("RegistryUnavailable", _) => "gave no digest for this tag",
            ("DeadlineExceeded", _) => "not answered within the review's deadline",
            _ => "release-team: ",
        };
        holds(message.contains(names), &message)?;
        for never in ["os error", "certificate", "dns", "status ", "10.77.0.1", "TLS"] {
            holds(!message.contains(never), format!("{never:?} in {message}"))?;
        }
        Ok(())
    }

    fn begin(&mut self) -> Outcome<()> {
        let (name, ground) = (self.case.name(), self.ground);
        let shown = format!("shown-{}", self.case.number);
        match self.case.fault {
            Gone => self.front.close(),
            Mute => self.front.mute()?,
            Vanished => ground.network.drop_packets(self.front.port())?,
            OtherAuthority => {
                self.front.show(&ground.other_authority.server_only(&shown, &[&name])?)?;
            }
            Expired => self.front.show(&ground.authority.expired_server(&shown, &[&name])?)?,
            OtherName => {
                self.front.show(&ground.authority.server_only(&shown, &["other.example"])?)?;
            }
            NoName | NameHangs => {
                ground.network.forget(&name)?;
                // Connections that there are need no name.
                self.front.restart()?;
            }
            Answers(mode) => self.front.set(mode),
        }
        Ok(())
    }

    fn end(&mut self) -> Outcome<()> {
        match self.case.fault {
            Gone | Mute | OtherAuthority | Expired | OtherName => self.front.restart(),
            Vanished => self.ground.network.pass_packets(self.front.port()),
            NoName | NameHangs => self.ground.network.remember(&self.case.name()),
            // What it has not answered yet it never will.
            Answers(_) => {
                self.front.set(Mode::Forward);
                Ok(())
            }
        }
    }
}

/// The verdict on a pod of this image, as the API server comes to it: first the mutating webhook,
/// then the validating one. And the longer time of the two.
fn ask(countersign: &Countersign, image: &str) -> Outcome<(Verdict, Duration)> {
    let query = format!("?timeout={}s", TIMEOUT.as_secs());
    let pod = reviews::pod("app", image);
    let asked = Instant::now();
    let create = reviews::create("payments", &pod);
    let mutated = countersign.review(&format!("/mutate{query}"), &create)?;
    let took = asked.elapsed();
    let asked = Instant::now();
    let create = reviews::create("payments", &reviews::patched(&pod, &mutated.patch)?);
    let verdict = countersign.review(&format!("/validate{query}"), &create)?;
    Ok((verdict, took.max(asked.elapsed())))
}

/// A failure of this text, unless `it` is so: other faults are tried all the same.
fn holds(it: bool, text: impl Display) -> Outcome<()> {
    if it { Ok(()) } else { Err(Failure::new(text)) }
}
