//! Reviews without a pause, of every kind, each with the answers that it may get.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::flood::ADMITTED;
use countersign_e2e::reviews::{self, Verdict};
use countersign_e2e::{Failure, Outcome, http};

use crate::many;
use crate::replicas::Replica;
use crate::tally::Tally;
use crate::trouble::Trouble;
use crate::world::World;

/// What is told of a review whose replica was killed before it had answered.
const KILLED: &str = "(killed)";

/// One kind of review.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    what: &'static str,
    /// The image of the review of this number.
    image: fn(&World, usize) -> String,
    /// The only right answer.
    code: &'static str,
    /// What may keep its evidence from being had; nothing where that is in memory.
    excuses: &'static [Trouble],
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
        Self { what, image, code, excuses: &[], afresh: false, pause: Duration::from_millis(2) }
    }

    const fn excused_by(self, excuses: &'static [Trouble]) -> Self {
        Self { excuses, ..self }
    }

    const fn every(self, millis: u64) -> Self {
        Self { pause: Duration::from_millis(millis), ..self }
    }

    const fn afresh(self) -> Self {
        Self { afresh: true, ..self }
    }
}

/// All kinds, each sent by a thread of its own. A tag that is not signed is refused for that,
/// whatever the registry says.
pub(crate) const KINDS: [Kind; 10] = [
    Kind::new("warm, signed", |world, _| world.steady.by_digest(), ADMITTED),
    Kind::new("warm, not signed", |world, _| world.unsigned.by_digest(), "Unsigned"),
    Kind::new("tag, signed", |world, _| world.steady.tagged("1"), ADMITTED)
        .excused_by(&[Trouble::Registry]),
    Kind::new("tag, not signed", |world, _| world.unsigned.tagged("2"), "Unsigned"),
    Kind::new("keys rotated, signed", |world, _| world.rotating.by_digest(), ADMITTED)
        .excused_by(&[Trouble::Rotation]),
    Kind::new("cold, not signed", cold, "Unsigned").excused_by(&[Trouble::Notary]).every(50),
    Kind::new("over a new connection, signed", |world, _| world.steady.by_digest(), ADMITTED)
        .afresh()
        .every(100),
    Kind::new("TUF, signed", |world, _| world.tuf.steady.by_digest(), ADMITTED).every(10),
    Kind::new("TUF, not signed", unsigned_by_tuf, "Unsigned").every(10),
    // Of a repository that a replica has never seen it has to write what it has seen.
    Kind::new("one of many repositories, signed", |_, number| many::image(number), ADMITTED)
        .excused_by(&[Trouble::ApiServer])
        .every(20),
];

/// A repository that nobody has asked for.
fn cold(world: &World, number: usize) -> String {
    format!("{}/cold/{number}@{}", world.host, world.steady.digest)
}

/// A repository that the TUF source has no target of.
fn unsigned_by_tuf(world: &World, number: usize) -> String {
    format!("{}/tuf/cold-{number}@{}", world.host, world.tuf.steady.digest)
}

/// Sends reviews of a kind until it is over.
pub(crate) fn run(kind: Kind, world: &World, tally: &Tally, over: &AtomicBool) -> Outcome<()> {
    let mut number = 0;
    while !over.load(Ordering::Relaxed) {
        let image = (kind.image)(world, number);
        let (asked, replica) = (Instant::now(), world.replicas.turn(number));
        match ask(&kind, world, &replica, &image) {
            Ok(verdict) => judge(&kind, world, tally, asked, &verdict),
            // The API server asks another one then.
            Err(_) if replica.is_killed() => tally.right(kind.what, KILLED, asked.elapsed()),
            Err(failure) => tally.wrong(kind.what, &format!("no verdict: {failure}")),
        }
        number += 1;
        thread::sleep(kind.pause);
    }
    Ok(())
}

fn ask(kind: &Kind, world: &World, replica: &Replica, image: &str) -> Outcome<Verdict> {
    if !kind.afresh {
        return Ok(replica.pod(image)?.0);
    }
    let client = http::client(world.replicas.authority().certificate())?;
    let review = reviews::create("payments", &reviews::pod("app", image)).to_string();
    let answer = client.post(format!("{}/validate", replica.url())).body(review).send()?;
    let (status, body) = (answer.status(), answer.text()?);
    if status.is_success() { reviews::verdict(&body) } else { Err(Failure::new(body)) }
}

fn judge(kind: &Kind, world: &World, tally: &Tally, asked: Instant, verdict: &Verdict) {
    let code = code_of(verdict);
    let excused = || kind.excuses.iter().any(|it| world.troubles.excuse(*it, code, asked));
    if code == kind.code || excused() {
        tally.right(kind.what, code, asked.elapsed());
    } else {
        tally.wrong(kind.what, &format!("{code}, not {}: {}", kind.code, verdict.message));
    }
}

/// The code of a refusal, or [`ADMITTED`].
pub(crate) fn code_of(verdict: &Verdict) -> &str {
    if verdict.allowed { ADMITTED } else { verdict.code() }
}
