//! What answers while a source is away, lies or hangs, for how long, and when it is back.

use super::updates::updates;
use super::world::{World, signs};
use super::*;

pub(crate) const REFUSE: Duration = Duration::from_secs(300);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// What a source may do instead of its work.
#[derive(Debug, Clone, Copy)]
enum Away {
    Gone,
    Lying,
    Hanging,
    /// As a proxy answers before a server that is not there.
    Failing,
}

impl Away {
    const ALL: [Self; 4] = [Self::Gone, Self::Lying, Self::Hanging, Self::Failing];

    fn begin(self, world: &World) {
        match self {
            Self::Gone => world.server.has_nothing(),
            Self::Lying => world.server.lies(true),
            Self::Hanging => world.server.hold(),
            Self::Failing => world.server.fails(GUN, 503),
        }
    }

    async fn end(self, world: &World, repo: &Repo) {
        world.serve(&repo.seal());
        world.server.lies(false);
        world.server.works();
        world.server.release();
        // What hung until now is answered before its time is over.
        world.settle().await;
    }
}

/// The next version of the files, with tag 1.0 for another image.
pub(crate) fn second(repo: &Repo) -> Repo {
    let mut repo = repo.clone();
    repo.targets(&[("1.0", "second")]);
    for role in ["timestamp", "snapshot", "targets"] {
        repo.set(role, "version", json!(2));
    }
    repo
}

fn stale(refusal: &Refusal) -> Option<u64> {
    match refusal {
        Refusal::Unavailable(Unavailable::SourceStale { age_seconds, .. }) => Some(*age_seconds),
        _ => None,
    }
}

#[tokio::test(start_paused = true)]
async fn o1_an_older_set_answers_without_a_wait_until_its_bound_and_not_a_second_longer() {
    for away in Away::ALL {
        let repo = sound();
        let world = World::new(&repo, REFUSE).await;
        world.ask().await.0.expect("verified");
        let begun = tokio::time::Instant::now();
        away.begin(&world);
        let mut waits = Duration::ZERO;
        while begun.elapsed() < REFUSE {
            let (answer, waited) = world.ask().await;
            assert!(signs(&answer.expect("the old set"), "1.0", "old"), "{away:?}");
            waits += waited;
            world.pass(SECOND).await;
        }
        // At most the one review that finds it out, or that the background is late by its turn.
        assert!(waits <= 2 * SECOND, "{away:?}: {waits:?}");
        let (answer, waited) = world.ask().await;
        let age = stale(&answer.expect_err("too old")).expect("SourceStale");
        assert!((300..=303).contains(&age), "{away:?}: {age}");
        assert!(waited <= 2 * SECOND, "{away:?}: {waited:?}");
        assert_eq!(world.sets().failing, 1);

        // Back again: seen as soon as the refusal's short life is over.
        away.end(&world, &second(&repo)).await;
        world.pass(12 * SECOND).await;
        let (answer, _) = world.ask().await;
        assert!(signs(&answer.expect("a new set"), "1.0", "second"), "{away:?}");
        assert_eq!(world.sets().failing, 0);
    }
}

#[tokio::test(start_paused = true)]
async fn o2_a_source_that_is_back_answers_where_the_set_is_too_old_though_nobody_knows_yet() {
    for away in [Away::Gone, Away::Lying, Away::Failing] {
        let repo = sound();
        let world = World::new(&repo, REFUSE).await;
        world.ask().await.0.expect("verified");
        away.begin(&world);
        world.pass(REFUSE + MINUTE).await;
        // The background has just found it away, and leaves it alone for more than nine seconds.
        world.server.asked_since();
        while world.server.asked_since().is_empty() {
            world.pass(SECOND).await;
        }
        assert!(stale(&world.ask().await.0.expect_err("too old")).is_some(), "{away:?}");
        // What was tried for that has ended, too.
        world.pass(3 * SECOND).await;
        away.end(&world, &second(&repo)).await;
        world.server.asked_since();
        world.pass(SECOND).await;
        assert_eq!(world.server.asked_since(), [""; 0], "{away:?}: by nobody yet");
        let (answer, _) = world.ask().await;
        assert!(signs(&answer.expect("a new set"), "1.0", "second"), "{away:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn o2_what_is_not_at_hand_is_asked_for_again_within_a_refusal_s_short_life() {
    let repo = sound();
    let world = World::new(&repo, REFUSE).await;
    world.server.has_nothing();
    assert_eq!(world.ask().await.0.expect_err("nothing").code(), "Unsigned");
    world.server.asked_since();
    for _ in 0..100 {
        assert_eq!(world.ask().await.0.expect_err("nothing").code(), "Unsigned");
    }
    assert_eq!(world.server.asked_since(), [""; 0]);
    world.serve(&repo.seal());
    world.pass(SECOND).await;
    world.ask().await.0.expect("signed by now");
}

#[tokio::test(start_paused = true)]
async fn o2_a_source_that_is_away_is_asked_ever_less_and_seen_when_it_is_back() {
    for away in Away::ALL {
        let repo = sound();
        let world = World::new(&repo, 24 * REFUSE).await;
        world.ask().await.0.expect("verified");
        away.begin(&world);
        world.pass(2 * MINUTE).await;
        let [.., before] = updates(&world.repositories);
        for _ in 0..120 {
            world.ask().await.0.expect("the old set");
            world.pass(SECOND).await;
        }
        let tries = updates(&world.repositories)[2] - before;
        assert!((4..=13).contains(&tries), "{away:?}: {tries} in two minutes");
        away.end(&world, &second(&repo)).await;
        // The longest pause, and an attempt that hung until then.
        for _ in 0..26 {
            world.ask().await.0.expect("a set");
            world.pass(SECOND).await;
        }
        let (answer, waited) = world.ask().await;
        assert!(signs(&answer.expect("a set"), "1.0", "second"), "{away:?}");
        assert!(waited.is_zero(), "{away:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn t8_a_rollback_that_is_served_to_a_refresh_neither_counts_nor_takes_the_set_away() {
    let old = sound();
    let repo = second(&old);
    let world = World::new(&repo, REFUSE).await;
    world.ask().await.0.expect("verified");
    // As it was, and under a timestamp of the same version by the same key.
    let mut mixed = old.clone();
    mixed.set("timestamp", "version", json!(2));
    for files in [old.seal(), mixed.seal()] {
        world.serve(&files);
        for _ in 0..70 {
            let (answer, _) = world.ask().await;
            assert!(signs(&answer.expect("the newer set"), "1.0", "second"));
            world.pass(SECOND).await;
        }
    }
    world.pass(REFUSE).await;
    assert!(stale(&world.ask().await.0.expect_err("too old")).is_some());
}

#[tokio::test(start_paused = true)]
async fn t8_a_verified_step_sticks_while_what_follows_it_is_not_to_be_had() {
    let old = sound();
    for awaited in ["snapshot", "targets"] {
        let world = World::new(&old, REFUSE).await;
        world.ask().await.0.expect("verified");
        world.server.asked_since();
        world.serve(&second(&old).seal());
        world.server.hold_only(awaited);
        let is_awaited = |name: &String| name.starts_with(awaited);
        while !world.server.asked_since().iter().any(is_awaited) {
            world.pass(SECOND).await;
        }
        world.pass(2 * SECOND).await;
        assert!(world.repositories.current(&world.live).is_none(), "{awaited}");
        let answer = {
            let (repositories, live) = (world.repositories.clone(), world.live.clone());
            tokio::spawn(async move { repositories.update(&live, "payments").await })
        };
        world.pass(3 * SECOND).await;
        assert!(!answer.is_finished(), "{awaited}: a review waits for the update");
        world.server.release();
        world.until(|| answer.is_finished()).await;
        let set = answer.await.expect("no panic").expect("the newer set");
        assert!(signs(&set, "1.0", "second"), "{awaited}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_verified_step_sticks_though_the_update_fails() {
    let old = sound();
    let newer = second(&old);
    let mut rotated = old.clone();
    let root = rotated.root(2, &[rotated.root_key.clone()], 1);
    rotated.roots.insert(2, root);

    // A newer timestamp whose snapshot is not to be had, or is another's.
    let mut without = newer.seal();
    without.snapshot = b"{}".to_vec();
    // A newer timestamp and snapshot, and no targets.
    let mut halves = newer.seal();
    halves.roles.clear();
    // A newer root, and a timestamp that is none.
    let mut root = rotated.seal();
    root.timestamp = b"{}".to_vec();
    for files in [without, halves, root] {
        let world = World::new(&old, REFUSE).await;
        world.ask().await.0.expect("verified");
        world.serve(&files);
        world.pass(MINUTE).await;
        assert!(world.repositories.current(&world.live).is_none());
        let refusal = world.ask().await.0.expect_err("passed by what was verified");
        assert!(stale(&refusal).is_none(), "{refusal:?}");
        // Nor does it come back when the old files are served again.
        world.serve(&old.seal());
        world.pass(2 * SECOND).await;
        assert_eq!(world.ask().await.0.expect_err("rolled back").code(), "Rollback");
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_that_is_not_verified_changes_nothing() {
    let repo = sound();
    let world = World::new(&repo, REFUSE).await;
    world.ask().await.0.expect("verified");
    // Newer by its own word, and signed by nobody that counts.
    let mut forged = second(&repo);
    let root = forged.root(2, &[forged.root_key.clone()], 1);
    forged.roots.insert(2, root);
    for role in ["root", "timestamp", "snapshot", "targets"] {
        forged.set(role, "version", json!(u64::MAX));
        forged.role(role).signers = vec![Signer::new(Kind::P256)];
    }
    world.serve(&forged.seal());
    for _ in 0..70 {
        let (answer, _) = world.ask().await;
        assert!(signs(&answer.expect("the old set"), "1.0", "old"));
        world.pass(SECOND).await;
    }
    // And the right one is taken when it comes.
    world.serve(&second(&repo).seal());
    world.pass(26 * SECOND).await;
    assert!(signs(&world.ask().await.0.expect("a set"), "1.0", "second"));
}

#[tokio::test(start_paused = true)]
async fn t7_a_role_that_is_served_wrongly_takes_nothing_of_the_set_at_hand() {
    let mut repo = sound();
    repo.delegated("targets/releases", &[""], &[("1.4", "new")]);
    let world = World::new(&repo, REFUSE).await;
    world.ask().await.0.expect("verified");
    // The timestamp of the same version, again, so that all has to be read: and one role is not
    // the listed one.
    let mut again = repo.clone();
    again.set("timestamp", "expires", json!("2030-03-01T00:00:00Z"));
    again.set("snapshot", "expires", json!("2030-03-01T00:00:00Z"));
    again.set_role("targets/releases", &[("1.4", "newer")], &[]);
    let mut files = again.seal();
    files.roles.insert("targets/releases".to_owned(), b"garbage".to_vec());
    world.serve(&files);
    for _ in 0..70 {
        let (answer, _) = world.ask().await;
        // The set's own floors are met by a snapshot of the same version, so it still answers.
        assert!(signs(&answer.expect("the set at hand"), "1.4", "new"));
        world.pass(SECOND).await;
    }
    // Also where it is a review's own update that comes to it.
    let world = World::new(&repo, 24 * 60 * MINUTE).await;
    world.ask().await.0.expect("verified");
    tokio::time::advance(2 * 60 * MINUTE).await;
    world.serve(&files);
    let (answer, waited) = world.ask().await;
    assert!(signs(&answer.expect("the set at hand"), "1.4", "new") && !waited.is_zero());
}

#[tokio::test(start_paused = true)]
async fn an_outage_is_told_once_and_what_it_turns_into_again() {
    Log::start();
    let old = sound();
    let repo = second(&old);
    let world = World::new(&repo, 24 * REFUSE).await;
    world.ask().await.0.expect("verified");
    for files in [None, Some(&old), Some(&repo)] {
        match files {
            None => world.server.has_nothing(),
            Some(repo) => world.serve(&repo.seal()),
        }
        world.pass(2 * MINUTE).await;
    }
    let log = Log::text();
    assert_eq!(log.matches("metadata was not updated").count(), 2, "{log}");
    assert_eq!(log.matches("SourceUnavailable").count(), 1, "{log}");
    assert_eq!(log.matches("Rollback").count(), 1, "{log}");
    assert_eq!(log.matches("metadata is updated again").count(), 1, "{log}");
}
