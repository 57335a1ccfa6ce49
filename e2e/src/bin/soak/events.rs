//! What happens while reviews go on, over and over, one after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::flood::ADMITTED;
use countersign_e2e::front::Mode;
use countersign_e2e::notary_client::Keeper;
use countersign_e2e::policies::Policy;
use countersign_e2e::{Outcome, reviews};

use crate::tally::Tally;
use crate::world::{SERVICE, World};

/// Between two events.
const PAUSE: Duration = Duration::from_secs(2);

/// How long a change may take to be seen: a refresh, and one that a fault has kept.
const SEEN: Duration = Duration::from_secs(40);

/// How long a server fails.
const FAULT: Duration = Duration::from_secs(3);

/// How servers fail, in turn.
const FAULTS: [Mode; 8] = [
    Mode::Down,
    Mode::Busy(1),
    Mode::Busy(600),
    Mode::Garbage,
    Mode::Altered,
    Mode::Truncated,
    Mode::Slow,
    Mode::Silent,
];

/// Whose keys are rotated, in turn.
const ROLES: [(&str, Keeper); 4] = [
    ("targets", Keeper::Client),
    ("snapshot", Keeper::Server),
    ("root", Keeper::Client),
    ("timestamp", Keeper::Server),
];

type Event = fn(&World, &Tally, usize) -> Outcome<()>;

const EVENTS: [(&str, Event); 7] = [
    ("a tag is signed, and revoked", signed_and_revoked),
    ("keys are rotated", rotated),
    ("a policy is edited", edited),
    ("the certificate is replaced", replaced),
    ("Notary fails", notary_fails),
    ("all is well for a while", well),
    ("the registry fails", registry_fails),
];

/// Lets one event follow the other until it is over.
pub(crate) fn run(world: &World, tally: &Tally, over: &AtomicBool) -> Outcome<()> {
    for round in 0.. {
        for (what, event) in EVENTS {
            if over.load(Ordering::Relaxed) {
                return Ok(());
            }
            let begun = Instant::now();
            match event(world, tally, round) {
                Ok(()) => tally.right("event", what, begun.elapsed()),
                Err(failure) => tally.wrong("event", &format!("{what}: {failure}")),
            }
            thread::sleep(PAUSE);
        }
    }
    Ok(())
}

fn signed_and_revoked(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let tag = format!("r{round}");
    let pushed = world.registry.push("changing/api", &tag, &tag)?;
    let image = pushed.at(world.registry_front.host());
    world.signer.sign(&image.name, &tag, &image.digest, image.size)?;
    follows(world, tally, "a signature is seen", &image.by_digest(), ADMITTED)?;
    world.signer.revoke(&image.name, &tag)?;
    follows(world, tally, "a revocation is seen", &image.by_digest(), "Unsigned")
}

fn rotated(world: &World, _: &Tally, round: usize) -> Outcome<()> {
    let (role, keeper) = ROLES[round % ROLES.len()];
    world.signer.rotate(&world.rotating.name, role, keeper)
}

fn edited(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    // Its namespace is one that no load has.
    let mut policy =
        Policy::new("edited", &format!("{}/steady/**", world.registry_front.host()), "notary");
    policy.namespaces = "kubernetes.io/metadata.name: edited".to_owned();
    policy.require_roles = vec!["targets/qa".to_owned()];
    policy.action = if round.is_multiple_of(2) { "Deny" } else { "Audit" };
    world.policies.policy(&policy)?;
    let code = if round.is_multiple_of(2) { "NotDelegated" } else { ADMITTED };
    follows(world, tally, "an edited policy is seen", &world.steady.by_digest(), code)
}

fn replaced(world: &World, _: &Tally, _: usize) -> Outcome<()> {
    let port = world.countersign.url().rsplit_once(':').map_or("", |(_, port)| port);
    world.authority.server_as(&format!("countersign-{port}"), &[SERVICE]).map(drop)
}

fn notary_fails(world: &World, _: &Tally, round: usize) -> Outcome<()> {
    world.fail(&world.notary_front, FAULTS[round % FAULTS.len()], FAULT);
    Ok(())
}

fn registry_fails(world: &World, _: &Tally, round: usize) -> Outcome<()> {
    world.fail(&world.registry_front, FAULTS[round % FAULTS.len()], FAULT);
    Ok(())
}

fn well(_: &World, _: &Tally, _: usize) -> Outcome<()> {
    thread::sleep(Duration::from_secs(16));
    Ok(())
}

/// Waits until pods in the namespace `edited` get this answer.
fn follows(
    world: &World,
    tally: &Tally,
    what: &'static str,
    image: &str,
    code: &str,
) -> Outcome<()> {
    let pod = reviews::create("edited", &reviews::pod("app", image));
    let begun = Instant::now();
    loop {
        let verdict = world.countersign.review("/validate", &pod)?;
        let is = if verdict.allowed { ADMITTED } else { verdict.code() };
        if is == code {
            tally.right(what, code, begun.elapsed());
            return Ok(());
        }
        if begun.elapsed() > SEEN {
            tally.wrong(what, &format!("{is}, not {code}: {}", verdict.message));
            return Ok(());
        }
        thread::sleep(Duration::from_millis(50));
    }
}
