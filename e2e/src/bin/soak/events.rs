//! What happens while reviews go on, over and over, one after the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::flood::ADMITTED;
use countersign_e2e::front::Mode;
use countersign_e2e::notary_client::Keeper;
use countersign_e2e::policies::Policy;
use countersign_e2e::reviews::{self, Verdict};
use countersign_e2e::{Failure, Outcome};

use crate::burst;
use crate::checkpoints;
use crate::load::code_of;
use crate::replicas::Replica;
use crate::tally::Tally;
use crate::trouble::{Fault, Trouble};
use crate::tuf;
use crate::world::{EDITED, SERVICE, World};

/// Between two events.
const PAUSE: Duration = Duration::from_secs(2);

/// How long a change may take to be seen: a refresh, and one that a fault has kept.
pub(crate) const SEEN: Duration = Duration::from_secs(40);

/// How long a server fails.
const FAULT: Duration = Duration::from_secs(3);

/// How long nothing happens: the longest trouble is over by then, and what failed meanwhile has been
/// tried again.
const WELL: Duration = Duration::from_secs(20);

/// How servers fail, in turn.
const FAULTS: [Fault; 13] = [
    Fault::Answers(Mode::Down),
    Fault::Closed,
    Fault::OtherName,
    Fault::OtherAuthority,
    Fault::Mute,
    Fault::Answers(Mode::Busy(1)),
    Fault::Answers(Mode::Busy(600)),
    Fault::Answers(Mode::Garbage),
    Fault::Expired,
    Fault::Answers(Mode::Altered),
    Fault::Answers(Mode::Truncated),
    Fault::Answers(Mode::Slow),
    Fault::Answers(Mode::Silent),
];

/// Whose keys are rotated, in turn.
const ROLES: [(&str, Keeper); 4] = [
    ("targets", Keeper::Client),
    ("snapshot", Keeper::Server),
    ("root", Keeper::Client),
    ("timestamp", Keeper::Server),
];

type Event = fn(&World, &Tally, usize) -> Outcome<()>;

const EVENTS: [(&str, Event); 15] = [
    // The first, so that what it takes of memory is taken before anything is compared.
    ("more is asked for than there are places for", burst::overload),
    ("a tag is signed, and revoked", signed_and_revoked),
    ("a TUF target is signed and revoked, and comes back", tuf::went_back),
    ("keys are rotated", rotated),
    ("a policy is edited", edited),
    ("the certificate is replaced", replaced),
    ("a checkpoint is deleted", checkpoints::deleted),
    ("Notary fails", notary_fails),
    ("TUF fails", tuf_fails),
    ("all is well for a while", well),
    ("a replica is killed", killed),
    ("the registry fails", registry_fails),
    ("a checkpoint is set back", checkpoints::set_back),
    ("the API server restarts", restarted),
    ("all is well for a while", well),
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
    let image = world.signed("changing/api", &tag)?;
    follow(world, tally, "a signature is seen", &image.by_digest(), ADMITTED)?;
    world.signer.revoke(&image.name, &tag)?;
    follow(world, tally, "a revocation is seen", &image.by_digest(), "Unsigned")
}

/// What is signed with the new keys is seen: a replica that refuses them goes on with what it has,
/// for as long as the source says.
fn rotated(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let (role, keeper) = ROLES[round % ROLES.len()];
    let rotate = || world.signer.rotate(&world.rotating.name, role, keeper);
    world.troubles.with(Trouble::Rotation, rotate)?;
    let image = world.signed("rotating/api", &format!("r{round}"))?;
    follow(world, tally, "rotated keys are seen", &image.by_digest(), ADMITTED)
}

fn edited(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let images = format!("{}/steady/**", world.host);
    let mut policy = Policy::new("edited", &images, "notary");
    policy.namespaces = format!("kubernetes.io/metadata.name: {EDITED}");
    policy.require_roles = vec!["targets/qa".to_owned()];
    policy.action = if round.is_multiple_of(2) { "Deny" } else { "Audit" };
    world.apply(&policy.yaml())?;
    let code = if round.is_multiple_of(2) { "NotDelegated" } else { ADMITTED };
    follow(world, tally, "an edited policy is seen", &world.steady.by_digest(), code)
}

fn replaced(world: &World, _: &Tally, _: usize) -> Outcome<()> {
    for replica in world.replicas.all() {
        let port = replica.url().rsplit_once(':').map_or("", |(_, port)| port);
        world.replicas.authority().server_as(&format!("countersign-{port}"), &[SERVICE])?;
    }
    Ok(())
}

/// One that comes back refuses what was there before a revocation that it had seen.
fn killed(world: &World, tally: &Tally, round: usize) -> Outcome<()> {
    let tag = format!("k{round}");
    let image = world.signed("changing/api", &tag)?;
    let digest = image.by_digest();
    follow(world, tally, "a signature is seen", &digest, ADMITTED)?;
    let old = world.notary_front().recorded(&image.name);
    world.signer.revoke(&image.name, &tag)?;
    follow(world, tally, "a revocation is seen", &digest, "Unsigned")?;
    world.replicas.kill()?;
    for (path, bytes) in old {
        world.notary_front().answer_with(&path, bytes);
    }
    let second = world.replicas.start_second();
    let remembered = second.as_ref().map_or(Ok(()), |second| {
        follow_on(second, tally, "a rollback is refused after a crash", &digest, "Rollback")
    });
    world.notary_front().answer_as_before();
    remembered?;
    let second = second?;
    follow_on(&second, tally, "what is newer is seen again", &digest, "Unsigned")?;
    world.warm_up(&second)?;
    world.replicas.admit(second);
    Ok(())
}

/// Reviews of what is known go on meanwhile: nothing excuses them.
fn restarted(world: &World, _: &Tally, _: usize) -> Outcome<()> {
    world.troubles.with(Trouble::ApiServer, || {
        let mut api_server = world.api_server();
        api_server.stop();
        thread::sleep(FAULT);
        api_server.start_again()
    })
}

fn notary_fails(world: &World, _: &Tally, round: usize) -> Outcome<()> {
    let fault = FAULTS[round % FAULTS.len()];
    world.troubles.fail(Trouble::Notary, &mut world.notary_front(), fault, FAULT)
}

fn registry_fails(world: &World, _: &Tally, round: usize) -> Outcome<()> {
    let fault = FAULTS[round % FAULTS.len()];
    world.troubles.fail(Trouble::Registry, &mut world.registry_front(), fault, FAULT)
}

/// What is at hand of it is enough for every review.
fn tuf_fails(world: &World, _: &Tally, round: usize) -> Outcome<()> {
    let fault = FAULTS[round % FAULTS.len()];
    world.troubles.fail(Trouble::Tuf, &mut world.tuf.front(), fault, FAULT)
}

/// By the end nothing excuses anything, and nothing is left of what was.
fn well(world: &World, _: &Tally, _: usize) -> Outcome<()> {
    thread::sleep(WELL);
    match world.failing()? {
        0.0 => Ok(()),
        failing => Err(Failure::new(format!("{failing} repositories are not updated any more"))),
    }
}

/// Waits until pods in the namespace that no load is in get this answer of every replica.
pub(crate) fn follow(
    world: &World,
    tally: &Tally,
    what: &'static str,
    image: &str,
    code: &str,
) -> Outcome<()> {
    world.replicas.all().iter().try_for_each(|it| follow_on(it, tally, what, image, code))
}

fn follow_on(
    replica: &Replica,
    tally: &Tally,
    what: &'static str,
    image: &str,
    code: &str,
) -> Outcome<()> {
    let begun = Instant::now();
    loop {
        let verdict = ask(replica, image)?;
        let is = code_of(&verdict);
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

/// Whether every replica gives one of these answers now.
pub(crate) fn holds(
    world: &World,
    tally: &Tally,
    what: &'static str,
    image: &str,
    codes: &[&str],
) -> Outcome<()> {
    for replica in world.replicas.all() {
        let asked = Instant::now();
        let verdict = ask(&replica, image)?;
        let is = code_of(&verdict);
        if codes.contains(&is) {
            tally.right(what, is, asked.elapsed());
        } else {
            tally.wrong(what, &format!("{is}, not {codes:?}: {}", verdict.message));
        }
    }
    Ok(())
}

/// The verdict on a pod in the namespace that no load is in.
fn ask(replica: &Replica, image: &str) -> Outcome<Verdict> {
    replica.review("/validate", &reviews::create(EDITED, &reviews::pod("app", image)))
}
