//! Sets in use stay fresh by themselves, and cost no more than they must.

use countersign::telemetry::Metrics;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::updates::updates;
use super::world::{World, signs};
use super::*;

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

/// [`sound`] with a delegated role.
fn delegating() -> Repo {
    let mut repo = sound();
    repo.delegated("targets/releases", &[""], &[("1.4", "first")]);
    repo
}

/// Tag 1.4 signed for this word, in newer files.
fn sign(repo: &mut Repo, word: &str) {
    let signers = repo.roles["targets/releases"].signers.clone();
    let version = repo.timestamp.signed["version"].as_u64().expect("a version") + 1;
    repo.set_role("targets/releases", &[("1.4", word)], &signers);
    for role in ["timestamp", "snapshot", "targets/releases"] {
        repo.set(role, "version", json!(version));
    }
}

#[tokio::test(start_paused = true)]
async fn a_set_in_use_is_refreshed_before_it_is_due_by_one_request() {
    let world = World::new(&delegating(), 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    assert_eq!(world.server.asked_since().len(), 5);
    let mut refreshes = 0;
    for _ in 0..600 {
        let (answer, waited) = world.ask().await;
        assert!(answer.is_ok() && waited.is_zero());
        world.pass(Duration::from_secs(1)).await;
        let asked = world.server.asked_since();
        assert!(asked.iter().all(|file| file == "timestamp"), "{asked:?}");
        refreshes += asked.len();
    }
    // Each at 36 to 54 seconds, and by the second.
    assert!((10..=17).contains(&refreshes), "{refreshes}");
    assert_eq!(updates(&world.repositories), [refreshes as u64, 1, 0]);
    let sets = world.sets();
    assert_eq!((sets.in_use, sets.failing), (1, 0));
    assert!(sets.oldest < MINUTE);
}

#[tokio::test(start_paused = true)]
async fn what_is_signed_meanwhile_is_there_without_a_wait_and_only_what_changed_is_fetched() {
    let mut repo = delegating();
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    world.server.asked_since();
    sign(&mut repo, "second");
    world.serve(&repo.seal());
    world.pass(MINUTE).await;
    let (answer, waited) = world.ask().await;
    assert!(signs(&answer.expect("a set"), "1.4", "second") && waited.is_zero());
    let asked = world.server.asked_since();
    let begins = |name: &str| asked.iter().filter(|file| file.starts_with(name)).count();
    assert_eq!((begins("snapshot."), begins("targets/releases.")), (1, 1), "{asked:?}");
    assert_eq!(begins("timestamp") + 2, asked.len(), "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn rotated_keys_are_found_though_no_root_is_asked_for() {
    let mut repo = delegating();
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    // Every key but the root's, and none of them signs as the root at hand wants.
    let keys = [0; 3].map(|_| Signer::new(Kind::P256));
    [repo.timestamp_key, repo.snapshot_key, repo.targets_key] = keys.clone();
    let [timestamp, snapshot, targets] = keys;
    repo.role("timestamp").signers = vec![timestamp];
    repo.role("snapshot").signers = vec![snapshot];
    repo.role("targets").signers = vec![targets];
    let root = repo.root(2, &[repo.root_key.clone()], 1);
    repo.roots.insert(2, root);
    sign(&mut repo, "second");
    world.serve(&repo.seal());
    world.pass(MINUTE).await;
    let (answer, waited) = world.ask().await;
    assert!(signs(&answer.expect("a set"), "1.4", "second") && waited.is_zero());
}

#[tokio::test(start_paused = true)]
async fn t5_a_frozen_mirror_is_believed_until_the_timestamp_ends_and_not_longer() {
    let mut repo = delegating();
    repo.set("timestamp", "expires", json!("2030-01-01T13:00:00Z"));
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    world.pass(2 * MINUTE).await;
    World::set_clock("2030-01-01T12:59:59Z");
    world.ask().await.0.expect("not yet");
    World::set_clock("2030-01-01T13:00:00Z");
    assert_eq!(world.ask().await.0.expect_err("expired").code(), "Expired");
    // t17: set back, the clock brings nothing back.
    World::set_clock("2030-01-01T12:00:00Z");
    assert!(world.repositories.current(&world.live).is_none());
    world.pass(2 * MINUTE).await;
    assert_eq!(world.ask().await.0.expect_err("expired").code(), "Expired");
}

#[tokio::test(start_paused = true)]
async fn a_new_timestamp_is_there_when_the_old_one_ends() {
    let mut repo = delegating();
    repo.set("timestamp", "expires", json!("2030-01-01T12:00:10Z"));
    let world = World::new(&repo, 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    repo.set("timestamp", "expires", json!("2030-02-01T00:00:00Z"));
    repo.set("timestamp", "version", json!(2));
    world.serve(&repo.seal());
    World::set_clock("2030-01-01T12:00:11Z");
    world.pass(Duration::from_secs(11)).await;
    let (answer, waited) = world.ask().await;
    assert!(answer.is_ok() && waited.is_zero());
}

#[tokio::test(start_paused = true)]
async fn unused_sets_are_not_refreshed_and_leave_when_they_could_not_answer() {
    let mut world = World::new(&delegating(), 2 * HOUR).await;
    Arc::make_mut(&mut world.live.source).refresh_after = HOUR / 2;
    world.ask().await.0.expect("verified");
    world.pass(HOUR).await;
    assert!(updates(&world.repositories)[0] > 0);
    world.server.asked_since();
    assert_eq!(world.sets().in_use, 0);
    world.pass(HOUR - MINUTE).await;
    assert_eq!(world.server.asked_since(), [""; 0]);
    // In an outage it could still answer, and then no more.
    assert!(!world.repositories.by_source().is_empty());
    world.pass(3 * HOUR / 2).await;
    assert!(world.repositories.by_source().is_empty());
    world.ask().await.0.expect("fetched anew");
}

#[tokio::test(start_paused = true)]
async fn a_changed_freshness_holds_from_the_next_refresh_on() {
    let world = World::new(&delegating(), 24 * HOUR).await;
    world.ask().await.0.expect("verified");
    let mut relaxed = world.live.clone();
    Arc::make_mut(&mut relaxed.source).refresh_after = HOUR;
    world.pass(MINUTE).await;
    world.ask_for(&relaxed).await.0.expect("at hand");
    // The one that was to come already.
    world.pass(MINUTE).await;
    world.server.asked_since();
    world.pass(MINUTE * 30).await;
    assert_eq!(world.server.asked_since(), [""; 0]);
}

/// Files that are good for every repository below payments.
pub(crate) fn for_all() -> Repo {
    let key = Signer::x509(Kind::P256, &Cert::named("registry.example.com/payments/*"));
    let mut repo = Repo::with_keys(key, [Kind::P256; 3].map(Signer::new));
    repo.targets(&[("1.0", "old")]);
    repo
}

#[tokio::test(start_paused = true)]
async fn o8_sets_take_no_more_memory_than_they_may() {
    const COUNT: u64 = 400;
    let repo = for_all();
    let files = repo.seal();
    // Room for about forty: four KiB each, and three times their files.
    let world = World::keeping(400 << 10, &repo).await;
    for number in 0..COUNT {
        let live = Live { repository: format!("{GUN}/{number}"), ..world.live.clone() };
        world.server.serve_too(&live.repository, &files);
        world.repositories.update(&live, "payments").await.expect("verified");
    }
    let kept = world.sets().in_use;
    // Until the cache tidies up, a few more.
    assert!((10..70).contains(&kept), "{kept}");
    world.server.asked_since();
    world.pass(MINUTE).await;
    let refreshed = world.server.asked_since().len() as u64;
    assert!(refreshed <= kept, "{refreshed} of {kept}");
}

#[tokio::test(start_paused = true)]
async fn metrics_tell_how_metadata_is_kept_fresh() {
    let mut registry = Registry::with_prefix("countersign");
    let world = World::new(&sound(), 24 * HOUR).await;
    Metrics::watch_repositories(&mut registry, &world.repositories);
    world.ask().await.0.expect("verified");
    world.pass(MINUTE).await;
    world.server.has_nothing();
    world.pass(MINUTE).await;
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    for line in [
        "countersign_metadata_updates_in_flight 0",
        "countersign_repositories_in_use{source=\"notary\"} 1",
        "countersign_repositories_failing{source=\"notary\"} 1",
    ] {
        assert!(text.contains(line), "{line} in {text}");
    }
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).expect(name);
        line.rsplit(' ').next().expect("a value").parse().expect("a number")
    };
    let age = value("countersign_metadata_age_seconds");
    assert!((60.0..=90.0).contains(&age), "{age}");
}

#[tokio::test(start_paused = true)]
async fn a_thousand_repositories_in_use_are_refreshed_a_few_at_a_time() {
    const COUNT: usize = 1_000;
    let repo = for_all();
    let (files, world) = (repo.seal(), World::new(&repo, 24 * HOUR).await);
    let lives: Vec<Live> = (0..COUNT)
        .map(|number| Live { repository: format!("{GUN}/{number}"), ..world.live.clone() })
        .collect();
    for live in &lives {
        world.server.serve_too(&live.repository, &files);
        world.repositories.update(live, "payments").await.expect("verified");
    }
    world.server.asked_since();
    // One that hangs: as many as may wait for it, and no more.
    world.server.hold();
    world.pass(Duration::from_secs(40)).await;
    world.until(|| world.server.asked().len() == 16).await;
    world.pass(Duration::from_secs(5)).await;
    assert_eq!(world.server.asked().len(), 16);
    for live in &lives {
        let (answer, waited) = world.ask_for(live).await;
        assert!(answer.is_ok() && waited.is_zero());
    }
    world.server.release();
    world.pass(Duration::from_secs(15)).await;
    world.until(|| world.server.asked().len() >= COUNT).await;
    let most = world.server.most_at_once();
    assert!(most <= 16, "{most}");
    for live in &lives {
        let (answer, waited) = world.ask_for(live).await;
        assert!(answer.is_ok() && waited.is_zero());
    }
    let [_, updated, failed] = updates(&world.repositories);
    assert_eq!((world.sets().in_use, updated, failed), (1_000, 1_000, 0));
}

#[tokio::test(start_paused = true)]
async fn hosts_that_hang_take_no_more_turns_than_there_are() {
    let repo = for_all();
    let world = World::new(&repo, 24 * HOUR).await;
    let mut servers = Vec::new();
    for host in 0..6 {
        let server = Server::start().await;
        let mut live = live(&server, "", &repo.pin(), MINUTE);
        let source = Arc::make_mut(&mut live.source);
        (source.name, source.fingerprint) = (format!("notary-{host}"), [host; 32]);
        for number in 0..10 {
            live.repository = format!("{GUN}/{number}");
            server.serve_too(&live.repository, &repo.seal());
            world.repositories.update(&live, "payments").await.expect("verified");
        }
        server.asked_since();
        server.hold();
        servers.push(server);
    }
    let asked = || servers.iter().map(|server| server.asked().len()).sum::<usize>();
    world.server.hold();
    // All are due, and the first ones are not given up yet.
    tokio::time::advance(Duration::from_secs(54)).await;
    // In the order of their coming the first four would have them all.
    world.until(|| servers.iter().all(|server| !server.asked().is_empty())).await;
    world.pass(Duration::from_secs(5)).await;
    assert!((6..=32).contains(&asked()), "{}", asked());
}
