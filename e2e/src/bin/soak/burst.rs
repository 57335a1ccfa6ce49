//! More reviews at once than there are places for: all name servers that never answer.

use countersign_e2e::flood::Flood;
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::reviews::pod_of;
use countersign_e2e::{Failure, Outcome};

use crate::tally::Tally;
use crate::world::World;

const SOURCE: &str = "slow";

/// What it is asked about by digest.
const HOST: &str = "slow.example";

/// Of so many namespaces; 2,048 may wait.
const REVIEWS: usize = 3_500;
const NAMESPACES: usize = 100;

const CONNECTIONS: usize = 32;

/// Of half of them no more than 512 may wait for the source: with these there is room to spare for a
/// machine that is slow to send them.
const SHED: usize = 500;

/// What becomes of who names slow servers.
const REFUSED: [&str; 3] = ["Overloaded", "DeadlineExceeded", "SourceUnavailable"];

/// A source and a registry.
pub(crate) struct Slow {
    source: Front,
    pub(crate) registry: Front,
}

impl Slow {
    pub(crate) fn start(authority: &Authority) -> Outcome<Self> {
        // Nothing is ever passed on.
        let front = || Front::start("https://localhost:1", authority);
        let slow = Self { source: front()?, registry: front()? };
        for front in [&slow.source, &slow.registry] {
            front.set(Mode::Silent);
        }
        Ok(slow)
    }

    /// It speaks for both, by somebody's key.
    pub(crate) fn source(&self, authority: &Authority, key: &str) -> Source {
        let source = Source::new(SOURCE, self.source.url(), &authority.pem());
        let tags = format!("{}/**", self.registry.host());
        source.pin("digests", &format!("{HOST}/**"), key).pin("tags", &tags, key)
    }

    pub(crate) fn policy(&self) -> Policy {
        let mut policy = Policy::new(SOURCE, &format!("{HOST}/**"), SOURCE);
        policy.include.push(format!("{}/**", self.registry.host()));
        policy
    }
}

/// What is too much is refused as that, and nothing of it is ever let in.
pub(crate) fn overload(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let (replica, authority) = (world.replicas.first(), world.replicas.authority().certificate());
    let registry = world.slow.registry.host();
    let image = |number: usize| match number % 2 {
        0 => format!("{registry}/burst-{round}/app:{number}"),
        _ => format!("{HOST}/burst-{round}/{number}@sha256:{}", "a".repeat(64)),
    };
    let pod = |number: usize| pod_of(&format!("team-{}", number % NAMESPACES), [image(number)]);
    let reviews: Vec<String> = (0..REVIEWS).map(pod).collect();
    let flood = Flood::new(replica.url(), authority, CONNECTIONS)?;
    flood.connect("/validate", &pod_of("burst", [world.steady.by_digest()]))?;
    let answers = flood.send("/validate?timeout=10s", reviews, REVIEWS)?;
    for code in REFUSED {
        let longest = answers.within(code, 1.0);
        tally.all_right("one of a burst", code, answers.count(code), longest);
    }
    if !answers.only(&REFUSED) || answers.count("Overloaded") < SHED {
        return Err(Failure::new(answers));
    }
    Ok(())
}
