//! What is known of the expiry of sets at hand.

use std::collections::BTreeMap;
use std::sync::Arc;

use countersign::metadata::{Live, RoleKind};
use countersign::telemetry::Metrics;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::builder::GUN;
use super::freshness::{HOUR, for_all};
use super::world::World;
use super::{MINUTE, sound};

fn at(time: &str) -> Timestamp {
    time.parse().expect("a time")
}

#[tokio::test(start_paused = true)]
async fn what_people_sign_is_forecast_and_what_servers_sign_only_where_updates_fail() {
    let mut repo = sound();
    repo.set("root", "expires", json!("2030-06-01T00:00:00Z"));
    repo.set("targets", "expires", json!("2030-05-01T00:00:00Z"));
    repo.set("snapshot", "expires", json!("2030-04-01T00:00:00Z"));
    repo.set("timestamp", "expires", json!("2030-01-03T00:00:00Z"));
    let world = World::new(&repo, 24 * HOUR).await;
    assert_eq!(world.repositories.by_source(), BTreeMap::new());
    world.ask().await.0.expect("verified");

    let sound = world.sets();
    assert_eq!((sound.in_use, sound.failing), (1, 0));
    assert_eq!(sound.expiries[&(RoleKind::Timestamp, false)], at("2030-01-03T00:00:00Z"));
    assert_eq!(sound.expiries[&(RoleKind::Targets, false)], at("2030-05-01T00:00:00Z"));
    let next = sound.next.expect("something expires");
    assert_eq!((&*next.role, next.at), ("targets", at("2030-05-01T00:00:00Z")));
    assert_eq!(next.repository, world.live.repository);
    assert_eq!(sound.ends, [next.at]);

    // A request that fails, or a server that restarts, is not told.
    world.server.has_nothing();
    world.pass(5 * MINUTE).await;
    let failing = world.sets();
    assert_eq!((failing.in_use, failing.failing), (1, 1));
    assert_eq!(failing.next.expect("something expires").role, "targets");
    assert_eq!(failing.expiries, sound.expiries);

    // Nobody is seen to sign the timestamp any more.
    world.pass(MINUTE).await;
    let cut_off = world.sets();
    let next = cut_off.next.expect("something expires");
    assert_eq!((&*next.role, next.at), ("timestamp", at("2030-01-03T00:00:00Z")));
    assert_eq!(cut_off.expiries[&(RoleKind::Timestamp, true)], next.at);
    assert_eq!(cut_off.expiries.len(), 4, "of sets that are cut off, all");

    // Nobody asks: whether it was signed anew is not known.
    world.pass(2 * HOUR).await;
    let idle = world.sets();
    assert_eq!((idle.in_use, idle.next, idle.refuse_after), (0, None, None));
    assert!(idle.ends.is_empty());
    assert_eq!(idle.expiries, BTreeMap::new());
}

#[tokio::test(start_paused = true)]
async fn t5_what_has_expired_is_told_also_where_the_server_signs_on() {
    let mut repo = sound();
    repo.set("targets", "expires", json!("2030-01-01T13:00:00Z"));
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    World::set_clock("2030-01-01T13:00:00Z");
    repo.set("timestamp", "version", json!(2));
    world.serve(&repo.seal());
    for _ in 0..3 {
        world.pass(MINUTE).await;
        assert_eq!(world.ask().await.0.expect_err("it has expired").code(), "Expired");
        let sets = world.sets();
        assert_eq!((sets.in_use, sets.failing), (1, 1));
        let next = sets.next.expect("it has expired");
        assert_eq!((&*next.role, next.at), ("targets", at("2030-01-01T13:00:00Z")));
    }
    repo.set("targets", "expires", json!("2030-06-01T00:00:00Z"));
    for role in ["targets", "snapshot", "timestamp"] {
        repo.set(role, "version", json!(3));
    }
    world.serve(&repo.seal());
    world.pass(MINUTE).await;
    assert!(world.repositories.current(&world.live).is_some(), "it is refreshed all the same");
    assert_eq!(world.sets().failing, 0);
}

#[tokio::test(start_paused = true)]
async fn what_has_expired_is_told_until_somebody_signs() {
    let mut repo = sound();
    repo.delegated("targets/releases", &[""], &[("1.4", "first")]);
    repo.set("targets/releases", "expires", json!("2029-12-31T00:00:00Z"));
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("the other roles are good");
    let next = world.sets().next.expect("it has expired");
    assert_eq!((&*next.role, next.at), ("targets/releases", at("2029-12-31T00:00:00Z")));
    assert_eq!(world.sets().expiries[&(RoleKind::Delegation, false)], next.at);

    for (role, expires) in [
        ("targets/releases", "2030-06-01T00:00:00Z"),
        ("snapshot", "2031-01-01T00:00:00Z"),
        ("timestamp", "2031-01-01T00:00:00Z"),
    ] {
        repo.set(role, "version", json!(2));
        repo.set(role, "expires", json!(expires));
    }
    world.serve(&repo.seal());
    world.pass(MINUTE).await;
    assert_ne!(world.sets().next.map(|next| next.at), Some(next.at));
}

#[tokio::test(start_paused = true)]
async fn how_old_metadata_may_be_is_told_of_what_is_in_use() {
    let repo = for_all();
    let world = World::new(&repo, 3 * HOUR).await;
    let ask = async |number: usize, refuse_after| {
        let mut live = Live { repository: format!("{GUN}/{number}"), ..world.live.clone() };
        Arc::make_mut(&mut live.source).refuse_after = refuse_after;
        world.server.serve_too(&live.repository, &repo.seal());
        world.repositories.update(&live, "payments").await.expect("verified");
    };
    for number in 0..8 {
        ask(number, 3 * HOUR).await;
    }
    world.pass(HOUR + MINUTE).await;
    assert_eq!(world.sets().refuse_after, None);
    // The source was changed since. They are at hand still, and nobody asks.
    ask(8, 24 * HOUR).await;
    assert_eq!(world.sets().refuse_after, Some(24 * HOUR));
    ask(9, 12 * HOUR).await;
    ask(10, 24 * HOUR).await;
    assert_eq!((world.sets().in_use, world.sets().refuse_after), (3, Some(12 * HOUR)));
    assert_eq!(world.sets().ends.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_the_expiry_of_each_kind_of_role_and_why_updates_fail() {
    let mut registry = Registry::with_prefix("countersign");
    let mut repo = sound();
    repo.set("targets", "expires", json!("2030-05-01T00:00:00Z"));
    let world = World::new(&repo, 24 * HOUR).await;
    Metrics::watch_repositories(&mut registry, &world.repositories);
    world.ask().await.0.expect("verified");
    assert!(world.repositories.current(&world.live).is_some());
    world.server.has_nothing();
    world.pass(6 * MINUTE).await;
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    let expiry = at("2030-05-01T00:00:00Z").as_second();
    for line in [
        &*format!(
            "countersign_metadata_expiry_timestamp_seconds{{source=\"notary\",role=\"targets\",updates=\"failing\"}} {expiry}"
        ),
        "countersign_cache_lookups_total{cache=\"metadata\",result=\"hit\"} ",
        "countersign_cache_lookups_total{cache=\"metadata\",result=\"miss\"} ",
        "countersign_metadata_update_failures_total{source=\"notary\",code=\"SourceUnavailable\"} ",
        "countersign_fetch_duration_seconds_count{server=\"source\",outcome=\"ok\"} ",
        "countersign_fetch_duration_seconds_count{server=\"source\",outcome=\"not_found\"} ",
        "countersign_metadata_update_duration_seconds_count{outcome=\"updated\"} 1\n",
        "countersign_metadata_verify_duration_seconds_count ",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
}
