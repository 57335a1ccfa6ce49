//! Reviews without a pause, of every kind, each with the answers that it may get.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::flood::ADMITTED;
use countersign_e2e::reviews::{self, Verdict};
use countersign_e2e::{Failure, Outcome, http};

use crate::tally::Tally;
use crate::world::World;

/// What no evidence is told as, and what it is while a server talks nonsense.
const FAULTS: [&str; 6] = [
    "SourceUnavailable",
    "RegistryUnavailable",
    "DeadlineExceeded",
    "MalformedMetadata",
    "ThresholdNotMet",
    "Overloaded",
];

/// One kind of review.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    what: &'static str,
    /// The image of the review of this number.
    image: fn(&World, usize) -> String,
    /// The only right answer.
    code: &'static str,
    /// Whether a server's fault excuses a refusal as unavailable.
    excusable: bool,
    /// Whether each is sent over a connection of its own.
    afresh: bool,
    /// The pause between two.
    pause: Duration,
}

impl Kind {
    const fn new(
        what: &'static str,
        image: fn(&World, usize) -> String,
        code: &'static str,
    ) -> Self {
        Self { what, image, code, excusable: false, afresh: false, pause: Duration::from_millis(2) }
    }

    const fn excusable(self) -> Self {
        Self { excusable: true, ..self }
    }

    const fn every(self, millis: u64) -> Self {
        Self { pause: Duration::from_millis(millis), ..self }
    }

    const fn afresh(self) -> Self {
        Self { afresh: true, ..self }
    }
}

/// All kinds, each sent by a thread of its own. What is in memory is never excused.
pub(crate) const KINDS: [Kind; 7] = [
    Kind::new("warm, signed", |world, _| world.steady.by_digest(), ADMITTED),
    Kind::new("warm, not signed", |world, _| world.unsigned.by_digest(), "Unsigned"),
    Kind::new("tag, signed", |world, _| world.steady.tagged("1"), ADMITTED).excusable(),
    Kind::new("tag, not signed", |world, _| world.unsigned.tagged("2"), "Unsigned").excusable(),
    Kind::new("keys rotated, signed", |world, _| world.rotating.by_digest(), ADMITTED).excusable(),
    Kind::new("cold, not signed", cold, "Unsigned").excusable().every(50),
    Kind::new("over a new connection, signed", |world, _| world.steady.by_digest(), ADMITTED)
        .afresh()
        .every(100),
];

/// A repository that nobody has asked for.
fn cold(world: &World, number: usize) -> String {
    format!("{}/cold/{number}@{}", world.registry_front.host(), world.steady.digest)
}

/// Sends reviews of a kind until it is over.
pub(crate) fn run(kind: Kind, world: &World, tally: &Tally, over: &AtomicBool) -> Outcome<()> {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let image = (kind.image)(world, number);
        let asked = Instant::now();
        match ask(&kind, world, &image) {
            Ok(verdict) => judge(&kind, world, tally, asked, &verdict),
            Err(failure) => tally.wrong(kind.what, &format!("no verdict: {failure}")),
        }
        number += 1;
        thread::sleep(kind.pause);
    }
    Ok(())
}

fn ask(kind: &Kind, world: &World, image: &str) -> Outcome<Verdict> {
    if !kind.afresh {
        return Ok(world.countersign.pod(image)?.0);
    }
    let client = http::client(world.authority.certificate())?;
    let review = reviews::create("payments", &reviews::pod("app", image)).to_string();
    let answer =
        client.post(format!("{}/validate", world.countersign.url())).body(review).send()?;
    let (status, body) = (answer.status(), answer.text()?);
    if status.is_success() { reviews::verdict(&body) } else { Err(Failure::new(body)) }
}

fn judge(kind: &Kind, world: &World, tally: &Tally, asked: Instant, verdict: &Verdict) {
    let code = if verdict.allowed { ADMITTED } else { verdict.code() };
    let excused = kind.excusable && FAULTS.contains(&code) && world.is_excused(asked);
    if code == kind.code || excused {
        tally.right(kind.what, code, asked.elapsed());
    } else {
        tally.wrong(kind.what, &format!("{code}, not {}: {}", kind.code, verdict.message));
    }
}
