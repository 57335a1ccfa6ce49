//! What answers while a source is away, lies or hangs, for how long, and when it is back.

use countersign::admission::Decide;
use countersign::review::{ImageUse, Puller, Request, Reviewer, Subject};
use countersign_verify::outcome::Effect;
use countersign_verify::policy::Action;
use tokio::task::JoinHandle;

use super::builder::digest;
use super::freshness::for_all;
use super::updates::updates;
use super::world::{World, signs};
use super::*;

const REFUSE: Duration = Duration::from_secs(300);
const SECOND: Duration = Duration::from_secs(1);

/// Another repository of the same source.
const OTHER: &str = "registry.example.com/payments/other";

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
fn second(repo: &Repo) -> Repo {
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
async fn o1_a_review_waits_a_little_for_a_source_that_hangs_and_the_next_one_does_not() {
    let world = World::new(&sound(), 24 * 60 * MINUTE).await;
    world.ask().await.0.expect("verified");
    // Nobody asked for so long that nothing was refreshed.
    tokio::time::advance(2 * 60 * MINUTE).await;
    world.settle().await;
    world.server.hold();
    world.server.asked_since();
    let (answer, waited) = world.ask().await;
    answer.expect("the old set");
    assert!(waited > SECOND && waited < 5 * SECOND, "{waited:?}");
    for _ in 0..10 {
        let (answer, waited) = world.ask().await;
        assert!(answer.is_ok() && waited.is_zero());
    }
    assert_eq!(world.server.asked_since(), ["timestamp"]);
}

#[tokio::test(start_paused = true)]
async fn o7_who_keeps_the_turns_does_not_keep_a_revocation_from_being_seen() {
    let repo = sound();
    let world = World::new(&repo, 24 * 60 * MINUTE).await;
    world.ask().await.0.expect("verified");
    // Nobody asked for so long that nothing was refreshed.
    tokio::time::advance(2 * 60 * MINUTE).await;
    world.settle().await;
    world.serve(&second(&repo).seal());
    world.server.hold_all_but(GUN);
    let made_up = (0..256).map(|number| {
        let live = live(&world.server, &format!("{GUN}/{number}"), &repo.pin(), MINUTE);
        let repositories = world.repositories.clone();
        tokio::spawn(async move { repositories.update(&live, "payments").await })
    });
    let made_up: Vec<_> = made_up.collect();
    world.until(|| world.server.most_at_once() >= 8).await;
    let (answer, _) = world.ask().await;
    assert_eq!(answer.expect_err("no turn").code(), "Overloaded");
    made_up.iter().for_each(JoinHandle::abort);
    world.server.release();
    world.until(|| world.repositories.measures().updates_in_flight() == 0).await;
    assert!(signs(&world.ask().await.0.expect("the new set"), "1.0", "second"));
}

#[tokio::test(start_paused = true)]
async fn o7_what_one_repository_is_refused_keeps_no_review_of_another_from_what_is_new() {
    // What is another's own, and what nobody else would get either.
    for (status, tag) in [(401, "second"), (403, "second"), (404, "second"), (503, "old")] {
        let repo = for_all();
        let world = World::new(&repo, 24 * 60 * MINUTE).await;
        let other = Live { repository: OTHER.to_owned(), ..world.live.clone() };
        world.server.serve_too(OTHER, &repo.seal());
        for live in [&world.live, &other] {
            world.ask_for(live).await.0.expect("verified");
        }
        // Nobody asked for so long that nothing was refreshed.
        tokio::time::advance(2 * 60 * MINUTE).await;
        world.settle().await;
        world.server.fails(OTHER, status);
        world.server.serve_too(GUN, &second(&repo).seal());
        world.ask_for(&other).await.0.expect("the old set");
        let (answer, _) = world.ask().await;
        assert!(signs(&answer.expect("a set"), "1.0", tag), "{status}");
    }
}

/// A review of the image that [`sound`] signs, with so much time.
fn review(world: &World, time: Duration) -> JoinHandle<Effect> {
    review_by(world.denying(), time)
}

fn review_by(reviewer: Arc<Reviewer>, time: Duration) -> JoinHandle<Effect> {
    let path = "spec.containers[name=api]".to_owned();
    let uses = [ImageUse { path, image: format!("{GUN}@{}", digest("old")) }];
    let deadline = tokio::time::Instant::now() + time;
    tokio::spawn(async move {
        let (subject, puller) = (Subject::Pod, Puller::default());
        let request = Request { namespace: None, subject, uses: &uses, puller, deadline };
        reviewer.review(&request).await.effect()
    })
}

#[tokio::test(start_paused = true)]
async fn o7_what_policies_that_only_warn_rest_on_takes_little_of_a_review_s_time() {
    for (waits_for, most, effect) in
        [(Action::Warn, 3 * SECOND, Effect::Warn), (Action::Deny, 9 * SECOND, Effect::Deny)]
    {
        let repo = sound();
        let (world, other) = (World::new(&repo, REFUSE).await, Server::start().await);
        other.serve(GUN, &repo.seal());
        let mut well = live(&other, GUN, &repo.pin(), MINUTE);
        let source = Arc::make_mut(&mut well.source);
        (source.name, source.fingerprint) = ("well".to_owned(), [1; 32]);
        world.server.hold();
        let policies = [(Action::Deny, &well.source), (waits_for, &world.live.source)];
        let begun = tokio::time::Instant::now();
        let review = review_by(world.reviewer(&policies), 8 * SECOND);
        while !review.is_finished() {
            world.pass(SECOND).await;
        }
        assert_eq!(review.await.expect("no panic"), effect);
        assert!(begun.elapsed() <= most, "{waits_for:?}: {:?}", begun.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn t5_what_expires_while_a_review_waits_proves_nothing() {
    let mut repo = sound();
    repo.set("timestamp", "expires", json!("2030-01-01T13:00:00Z"));
    for (time, effect) in [("12:59:59", Effect::Allow), ("13:00:00", Effect::Deny)] {
        let world = World::new(&repo, REFUSE).await;
        World::set_clock("2030-01-01T12:00:00Z");
        world.server.hold();
        let review = review(&world, 8 * SECOND);
        world.until(|| world.server.asked().len() == 5).await;
        World::set_clock(&format!("2030-01-01T{time}Z"));
        world.server.release();
        world.until(|| review.is_finished()).await;
        assert_eq!(review.await.expect("no panic"), effect, "{time}");
    }
}

#[tokio::test(start_paused = true)]
async fn o1_a_review_whose_time_is_over_is_answered_by_the_set_at_hand() {
    let world = World::new(&sound(), REFUSE).await;
    // As the shortest timeout of a webhook leaves it: shorter than a review's patience.
    let review = || review(&world, SECOND);
    let answered = async |review: JoinHandle<Effect>| {
        while !review.is_finished() {
            world.pass(SECOND).await;
        }
        review.await.expect("no panic")
    };
    let first = review();
    world.until(|| first.is_finished()).await;
    assert_eq!(first.await.expect("no panic"), Effect::Allow);
    world.server.hold();
    tokio::time::advance(MINUTE).await;
    assert_eq!(answered(review()).await, Effect::Allow);
    tokio::time::advance(REFUSE).await;
    assert_eq!(answered(review()).await, Effect::Deny);
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
