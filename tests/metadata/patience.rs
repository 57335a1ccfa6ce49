//! Whom a review waits for, and what it is answered where that takes long.

use countersign::admission::Decide;
use countersign::review::{ImageUse, Puller, Request, Reviewer, Subject};
use countersign_verify::outcome::Effect;
use countersign_verify::policy::Action;
use tokio::task::JoinHandle;

use super::builder::digest;
use super::freshness::for_all;
use super::outages::{REFUSE, SECOND, second};
use super::world::{World, signs};
use super::*;

/// Another repository of the same source.
const OTHER: &str = "registry.example.com/payments/other";

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
    assert!(waited > SECOND && waited < 3 * SECOND, "{waited:?}");
    for _ in 0..10 {
        let (answer, waited) = world.ask().await;
        assert!(answer.is_ok() && waited.is_zero());
    }
    assert_eq!(world.server.asked_since(), ["timestamp"]);
}

#[tokio::test(start_paused = true)]
async fn o1_a_source_that_hangs_denies_nothing_that_is_at_hand_however_much_was_not_in_use() {
    let repo = for_all();
    let world = World::new(&repo, 24 * 60 * MINUTE).await;
    let lives: Vec<Live> = (0..40)
        .map(|number| Live { repository: format!("{GUN}/{number}"), ..world.live.clone() })
        .collect();
    for live in &lives {
        world.server.serve_too(&live.repository, &repo.seal());
        world.ask_for(live).await.0.expect("verified");
    }
    tokio::time::advance(2 * 60 * MINUTE).await;
    world.settle().await;
    world.server.hold();
    let ask = |live: &Live| {
        let (repositories, live) = (world.repositories.clone(), live.clone());
        tokio::spawn(async move { repositories.update(&live, "payments").await })
    };
    let all: Vec<_> = lives.iter().map(ask).collect();
    world.pass(4 * SECOND).await;
    for answer in all {
        assert!(answer.is_finished(), "it waits for a turn, or for the server");
        answer.await.expect("no panic").expect("the set at hand");
    }
}

#[tokio::test(start_paused = true)]
async fn o7_who_keeps_the_turns_does_not_keep_a_revocation_from_being_seen() {
    // At once, and when the server has been seen to hang, for names that were made up.
    for patience in [Duration::ZERO, 11 * SECOND] {
        let repo = sound();
        let world = World::new(&repo, 24 * 60 * MINUTE).await;
        world.ask().await.0.expect("verified");
        // Nobody asked for so long that nothing was refreshed.
        tokio::time::advance(2 * 60 * MINUTE).await;
        world.settle().await;
        world.serve(&second(&repo).seal());
        world.server.hold_all_but(GUN);
        for number in 0..256 {
            let live = live(&world.server, &format!("{GUN}/{number}"), &repo.pin(), MINUTE);
            let repositories = world.repositories.clone();
            tokio::spawn(async move { repositories.update(&live, "payments").await });
        }
        world.until(|| world.server.most_at_once() >= 8).await;
        world.pass(patience).await;
        let (answer, _) = world.ask().await;
        assert!(signs(&answer.expect("a set"), "1.0", "second"), "{patience:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn o7_refreshes_that_take_long_do_not_keep_a_review_from_what_is_new() {
    let repo = for_all();
    let world = World::new(&repo, 24 * 60 * MINUTE).await;
    world.ask().await.0.expect("verified");
    // Nobody asked for so long that nothing was refreshed.
    tokio::time::advance(2 * 60 * MINUTE).await;
    world.settle().await;
    for number in 0..40 {
        let live = Live { repository: format!("{GUN}/{number}"), ..world.live.clone() };
        world.server.serve_too(&live.repository, &repo.seal());
        world.ask_for(&live).await.0.expect("verified");
    }
    world.server.serve_too(GUN, &second(&repo).seal());
    world.server.hold_all_but(GUN);
    while world.server.most_at_once() < 16 {
        world.pass(SECOND).await;
    }
    let (answer, _) = world.ask().await;
    assert!(signs(&answer.expect("a set"), "1.0", "second"));
}

#[tokio::test(start_paused = true)]
async fn o7_what_one_repository_is_refused_keeps_no_review_of_another_from_what_is_new() {
    // What is another's own, and what nobody else would get either.
    for status in [401, 403, 404, 503] {
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
        assert!(signs(&answer.expect("a set"), "1.0", "second"), "{status}");
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
