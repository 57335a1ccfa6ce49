//! What is known of the expiry of sets at hand.

use std::collections::BTreeMap;

use countersign::metadata::{OfSource, RoleKind};
use countersign::telemetry::Metrics;
use jiff::Timestamp;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use serde_json::json;

use super::freshness::HOUR;
use super::world::World;
use super::{MINUTE, sound};

fn of(world: &World) -> OfSource {
    world.repositories.by_source().remove("notary").unwrap_or_default()
}

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

    let sound = of(&world);
    assert_eq!((sound.in_use, sound.failing), (1, 0));
    assert_eq!(sound.expiries[&RoleKind::Timestamp], at("2030-01-03T00:00:00Z"));
    assert_eq!(sound.expiries[&RoleKind::Targets], at("2030-05-01T00:00:00Z"));
    let next = sound.next.expect("something expires");
    assert_eq!((&*next.role, next.at), ("targets", at("2030-05-01T00:00:00Z")));
    assert_eq!(next.repository, world.live.repository);

    // Nobody is seen to sign the timestamp any more.
    world.server.has_nothing();
    world.pass(MINUTE).await;
    let failing = of(&world);
    assert_eq!((failing.in_use, failing.failing), (1, 1));
    let next = failing.next.expect("something expires");
    assert_eq!((&*next.role, next.at), ("timestamp", at("2030-01-03T00:00:00Z")));

    // Nobody asks: whether it was signed anew is not known.
    world.pass(2 * HOUR).await;
    let idle = of(&world);
    assert_eq!((idle.in_use, idle.next), (0, None));
    assert_eq!(idle.expiries, BTreeMap::new());
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
    world.pass(MINUTE).await;
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    let expiry = at("2030-05-01T00:00:00Z").as_second();
    for line in [
        &*format!(
            "countersign_metadata_expiry_timestamp_seconds{{source=\"notary\",role=\"targets\"}} {expiry}"
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
