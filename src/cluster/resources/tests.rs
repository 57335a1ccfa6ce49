#![allow(clippy::unwrap_used)]

use countersign_verify::policy::Action;
use k8s_openapi::ByteString;
use kube::api::ObjectMeta;
use serde_json::json;

use super::*;
use crate::clock::Clock;
use crate::cluster::Heard;
use crate::metadata::{MemoryStore, Repositories};
use crate::registry::{Registry, RegistryConfig};

fn metadata(name: &str, generation: i64, version: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.to_owned()),
        generation: Some(generation),
        resource_version: Some(version.to_owned()),
        ..ObjectMeta::default()
    }
}

fn policy(name: &str, generation: i64, version: &str, include: &str) -> DynamicObject {
    let authority =
        json!({"name": "a", "sourceRef": {"name": "source"}, "notary": {"lookup": "Docker"}});
    let images = json!({"include": [include]});
    let spec = json!({"match": {"images": images}, "verify": {"authorities": [authority]}});
    let data = json!({"spec": spec, "status": {"observedGeneration": 1}});
    DynamicObject { types: None, metadata: metadata(name, generation, version), data }
}

fn source() -> DynamicObject {
    let pin =
        json!({"name": "all", "repositories": ["r.example/api"], "rootKeyIDs": ["0".repeat(64)]});
    let connection = json!({"credentialsSecretRef": {"name": "login"}});
    let notary = json!({"url": "https://notary.example", "pins": [pin]});
    let data = json!({"spec": {"notary": notary, "connection": connection}});
    DynamicObject { types: None, metadata: metadata("source", 1, "1"), data }
}

fn secret(data: &[(&str, &str)]) -> Secret {
    let data = data.iter().map(|(key, text)| ((*key).to_owned(), ByteString((*text).into())));
    let metadata = metadata("login", 1, "1");
    Secret { metadata, data: Some(data.collect()), ..Secret::default() }
}

const LOGIN: [(&str, &str); 3] = [("username", "u"), ("password", "p"), ("host", "notary.example")];

/// Nothing watched is ever too old.
fn unwatched() -> Arc<Freshness> {
    Arc::new(Freshness::new(Vec::<Arc<Heard>>::new(), Duration::from_secs(60)))
}

/// Everything listed: one policy.
fn listed(freshness: &Arc<Freshness>) -> Changes {
    let changes = Changes::new(Arc::clone(freshness));
    changes.policy(Event::InitApply(policy("p", 1, "1", "r.example/**")));
    changes.policy(Event::InitDone);
    changes.source(Event::InitDone);
    changes.config_map(Event::InitDone);
    assert!(changes.to_compile().is_none(), "the Secrets are not listed");
    changes.secret(Event::InitDone);
    changes
}

#[test]
fn k11_nothing_is_compiled_before_everything_is_listed() {
    let changes = listed(&unwatched());
    let input = changes.to_compile().expect("everything is listed");
    assert_eq!(input.resources.policies.len(), 1);
    assert!(changes.to_compile().is_none(), "nothing changed since");
}

#[test]
fn a_status_or_what_no_source_can_use_is_nothing_to_compile() {
    let changes = listed(&unwatched());
    changes.to_compile().expect("listed");
    changes.policy(Event::Apply(policy("p", 1, "2", "r.example/**")));
    assert!(changes.to_compile().is_none(), "only its resource version changed");
    changes.policy(Event::Apply(policy("p", 2, "3", "r.example/**")));
    assert!(changes.to_compile().is_some(), "a new generation has to be observed");
    changes.policy(Event::Apply(policy("p", 2, "3", "r.example/other")));
    assert!(changes.to_compile().is_some(), "another spec");
    changes.secret(Event::Apply(secret(&[("tls.key", "private")])));
    changes.to_compile().expect("a new Secret");
    changes.secret(Event::Apply(secret(&[("tls.key", "renewed")])));
    assert!(changes.to_compile().is_none(), "no source reads tls.key");
    changes.secret(Event::Apply(secret(&LOGIN)));
    let input = changes.to_compile().expect("what a source reads");
    assert_eq!(input.resources.secrets["login"].0.len(), 3);
    changes.policy(Event::Delete(policy("p", 2, "4", "r.example/other")));
    assert!(changes.to_compile().expect("deleted").resources.policies.is_empty());
}

fn place() -> (Place, Arc<Reviewer>, Arc<Latest>) {
    let clock = Arc::new(Clock::system());
    let repositories = Repositories::new(MemoryStore::in_process(), Arc::clone(&clock));
    let registry = Registry::new(RegistryConfig::default());
    let snapshot = Snapshot::default();
    let reviewer = Arc::new(Reviewer::new(snapshot, repositories, registry, Action::Deny, clock));
    let latest = Arc::new(Latest::default());
    let registries = BTreeSet::from(["configured.example".to_owned()]);
    let place = Place::new(reviewer.clone(), latest.clone(), registries);
    (place, reviewer, latest)
}

async fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while !is() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn changes_are_put_in_place_and_statuses_told() {
    let freshness = unwatched();
    let changes = Arc::new(listed(&freshness));
    let (place, reviewer, latest) = place();
    let (statuses, mut due) = watch::channel(Arc::default());
    assert!(freshness.check().is_err());
    let following = {
        let changes = Arc::clone(&changes);
        tokio::spawn(async move { changes.put_in_place(place, statuses).await })
    };
    due.changed().await.unwrap();
    assert_eq!(freshness.check(), Ok(()));
    assert_eq!(reviewer.snapshot().policies.policies().len(), 1);
    assert!(reviewer.snapshot().registries.contains("configured.example"));
    assert_eq!(due.borrow_and_update().len(), 1);
    let spec = policy("q", 1, "1", "r.example/**").data["spec"].take();
    assert_eq!(latest.check(Kind::Policy, "q", spec.clone()).len(), 1, "its source is missing");

    // A burst: the source, what it names, and a second policy.
    changes.source(Event::Apply(source()));
    changes.secret(Event::Apply(secret(&LOGIN)));
    changes.policy(Event::Apply(policy("q", 1, "5", "r.example/**")));
    let policies = || reviewer.snapshot().policies.policies().len();
    soon("a second policy", || policies() == 2).await;
    assert_eq!(reviewer.snapshot().sources.len(), 1);
    assert_eq!(latest.check(Kind::Policy, "q", spec), []);
    soon("statuses", || due.borrow_and_update().len() == 3).await;
    following.abort();
}

#[tokio::test]
async fn k11_a_change_that_cannot_be_compiled_denies_until_another_can() {
    let freshness = unwatched();
    let changes = Arc::new(listed(&freshness));
    let (mut place, ..) = place();
    place.compile = |input| {
        assert!(input.resources.policies.len() < 2, "the test's own");
        input.compile()
    };
    let (statuses, mut due) = watch::channel(Arc::default());
    let following = {
        let changes = Arc::clone(&changes);
        tokio::spawn(async move { changes.put_in_place(place, statuses).await })
    };
    due.changed().await.unwrap();
    assert_eq!(freshness.check(), Ok(()));
    changes.policy(Event::Apply(policy("q", 1, "5", "r.example/**")));
    soon("denied", || freshness.check().is_err()).await;
    changes.policy(Event::Delete(policy("q", 1, "6", "r.example/**")));
    soon("in place again", || freshness.check().is_ok()).await;
    following.abort();
}

#[tokio::test(start_paused = true)]
async fn k11_what_was_too_old_answers_no_more_before_its_successor_is_in_place() {
    let bound = Duration::from_secs(30);
    let heard = Heard::new("TrustPolicies");
    let freshness = Arc::new(Freshness::new(vec![Arc::clone(&heard)], bound));
    let changes = listed(&freshness);
    let (mut place, reviewer, _) = place();
    let mut compile = |changes: &Changes| {
        place.put(changes.to_compile().expect("something changed").compile());
        changes.is_in_place();
    };
    compile(&changes);
    heard.listed();
    assert_eq!(freshness.check(), Ok(()));
    // A change in time is put in place without a gap.
    changes.policy(Event::Apply(policy("q", 1, "5", "r.example/**")));
    assert_eq!(freshness.check(), Ok(()));
    compile(&changes);

    // The watch was silent for too long, and its new list has another policy.
    tokio::time::advance(bound * 2).await;
    changes.policy(Event::Init);
    changes.policy(Event::InitApply(policy("r", 1, "6", "r.example/**")));
    changes.policy(Event::InitDone);
    heard.listed();
    assert_eq!(reviewer.snapshot().policies.policies().len(), 2, "the former ones");
    assert!(freshness.check().is_err(), "they are what was too old");
    // A snapshot that was begun before the list says nothing of it.
    changes.is_in_place();
    assert!(freshness.check().is_err());
    compile(&changes);
    assert_eq!(freshness.check(), Ok(()));
    assert_eq!(reviewer.snapshot().policies.policies().len(), 1);

    // The same list again needs no compilation.
    tokio::time::advance(bound * 2).await;
    changes.policy(Event::Init);
    changes.policy(Event::InitApply(policy("r", 1, "6", "r.example/**")));
    changes.policy(Event::InitDone);
    heard.listed();
    assert_eq!(freshness.check(), Ok(()));
}

#[test]
fn verdicts_are_on_the_generations_that_were_compiled() {
    let changes = listed(&unwatched());
    let output = changes.to_compile().expect("listed").compile();
    let (mut place, ..) = place();
    let mut due = |changes: &Changes| changes.due(&output.verdicts, &mut place).len();
    assert_eq!(due(&changes), 1);
    changes.policy(Event::Apply(policy("p", 2, "2", "r.example/other")));
    assert_eq!(due(&changes), 0, "generation 2 is not compiled yet");
}
