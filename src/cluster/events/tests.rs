#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::body::Body as AnyBody;
use http::{Method, Request, Response};
use kube::client::Body;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::series::ATTEMPTS;
use super::*;

/// How the API server is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Refuses,
    Hangs,
    /// Someone else always writes first.
    Races,
}

/// As much of an API server as keeps events.
struct Store {
    mood: Mood,
    events: BTreeMap<String, Value>,
    version: u32,
    requests: Vec<String>,
}

impl Store {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        self.requests.push(format!("{method} {path}"));
        if self.mood == Mood::Refuses {
            return failed(403);
        }
        self.version += 1;
        let version = self.version.to_string();
        if *method == Method::POST {
            let path = format!("{path}/{}", body["metadata"]["name"].as_str().unwrap());
            if self.events.contains_key(&path) {
                return failed(409);
            }
            let mut event = body;
            event["metadata"]["resourceVersion"] = version.into();
            return (201, self.events.entry(path).or_insert(event).clone());
        }
        let Some(event) = self.events.get_mut(path) else { return failed(404) };
        if body == json!({}) {
            return (200, event.clone());
        }
        // What it lets change: nothing but the series.
        let fields: Vec<&String> = body.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["metadata", "series"]);
        if self.mood == Mood::Races {
            event["metadata"]["resourceVersion"] = version.clone().into();
        }
        if body["metadata"]["resourceVersion"] != event["metadata"]["resourceVersion"] {
            return failed(409);
        }
        event["series"] = body["series"].clone();
        event["metadata"]["resourceVersion"] = version.into();
        (200, event.clone())
    }
}

fn failed(code: u16) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "scripted",
        "reason": "Scripted", "code": code,
    });
    (code, status)
}

fn api_server() -> (Client, Arc<Mutex<Store>>) {
    let (mood, events) = (Mood::Well, BTreeMap::new());
    let store = Arc::new(Mutex::new(Store { mood, events, version: 0, requests: Vec::new() }));
    let held = Arc::clone(&store);
    let service = tower::service_fn(move |request: Request<Body>| {
        let held = Arc::clone(&held);
        async move {
            let (parts, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap();
            if held.lock().unwrap().mood == Mood::Hangs {
                held.lock().unwrap().requests.push("hung".to_owned());
                return std::future::pending().await;
            }
            let body = serde_json::from_slice(&body).unwrap();
            let (code, body) = held.lock().unwrap().answer(&parts.method, parts.uri.path(), body);
            let answer = Response::builder().status(code).body(AnyBody::from(body.to_string()));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    (Client::new(service, "default"), store)
}

/// A replica's events.
struct Replica {
    events: Events,
    registry: Registry,
    writing: JoinHandle<()>,
}

impl Replica {
    fn start(client: &Client, name: &str) -> Self {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        let (events, writing) = Events::new(client.clone(), name, &metrics);
        Self { events, registry, writing: tokio::spawn(writing) }
    }

    fn refuse(&self, namespace: &str, owner: &str, message: &str) {
        self.events.tell(|| {
            let owner = Owner::checked("apps/v1", "ReplicaSet", owner, owner)?;
            Refusal::new(namespace, owner, "Unsigned", message, message)
        });
    }

    fn counted(&self, outcome: &str) -> u64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let line = format!("events_total{{outcome=\"{outcome}\"}} ");
        text.lines().find_map(|it| it.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
    }
}

/// As the writer comes to its end with what it was told: time stands still in these tests while
/// anything can run.
async fn settled() {
    sleep(Duration::from_millis(1)).await;
}

fn events(store: &Mutex<Store>) -> Vec<Value> {
    store.lock().unwrap().events.values().cloned().collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_said_again_and_again_is_one_event_with_a_count() {
    let (client, store) = api_server();
    let replica = Replica::start(&client, "one");
    replica.refuse("payments", "app-1", "1 of 1 images denied\n  check: this");
    settled().await;
    let [event] = &events(&store)[..] else { panic!("{:?}", events(&store)) };
    assert_eq!(event["type"], "Warning");
    assert_eq!(event["reason"], "Unsigned");
    assert_eq!(event["action"], "Admit");
    assert_eq!(event["note"], "1 of 1 images denied; check: this");
    let regarding = json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "app-1", "uid": "app-1",
        "namespace": "payments",
    });
    assert_eq!(event["regarding"], regarding);
    assert_eq!(event["metadata"]["namespace"], "payments");
    assert_eq!(event["reportingController"], "countersign");
    assert_eq!(event["reportingInstance"], "one");
    assert!(event["eventTime"].is_string() && event["series"].is_null());
    for _ in 0..9 {
        replica.refuse("payments", "app-1", "1 of 1 images denied\n  check: this");
    }
    settled().await;
    let [event] = &events(&store)[..] else { panic!("{:?}", events(&store)) };
    assert_eq!(event["series"]["count"], 10);
    assert!(event["series"]["lastObservedTime"].is_string());
    assert_eq!(replica.counted("written"), 10);

    replica.refuse("payments", "app-1", "another message");
    replica.refuse("payments", "app-2", "1 of 1 images denied");
    replica.refuse("shop", "app-1", "1 of 1 images denied");
    settled().await;
    assert_eq!(events(&store).len(), 4);
    let requests = store.lock().unwrap().requests.clone();
    let ours = |request: &String| {
        let path = request.split(' ').nth(1).unwrap();
        ["payments", "shop"].iter().any(|namespace| {
            path.starts_with(&format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events"))
        })
    };
    assert!(requests.iter().all(ours), "{requests:?}");
}

#[tokio::test(start_paused = true)]
async fn replicas_and_those_that_come_after_them_count_together() {
    let (client, store) = api_server();
    let replicas = ["one", "two", "three"].map(|name| Replica::start(&client, name));
    for _ in 0..4 {
        for replica in &replicas {
            replica.refuse("payments", "app-1", "m");
        }
        settled().await;
    }
    let later = Replica::start(&client, "four");
    later.refuse("payments", "app-1", "m");
    settled().await;
    let [event] = &events(&store)[..] else { panic!("{:?}", events(&store)) };
    assert_eq!(event["series"]["count"], 13);
    assert_eq!(event["reportingInstance"], "one", "nothing but the series may change");
    // Events expire: the next one begins anew.
    store.lock().unwrap().events.clear();
    later.refuse("payments", "app-1", "m");
    settled().await;
    assert!(events(&store)[0]["series"].is_null());
}

#[tokio::test(start_paused = true)]
async fn what_is_over_the_limit_is_counted_by_the_next_event() {
    let (client, store) = api_server();
    let replica = Replica::start(&client, "one");
    for _ in 0..40 {
        replica.refuse("payments", "app-1", "m");
    }
    settled().await;
    assert_eq!((replica.counted("written"), replica.counted("limited")), (25, 15));
    assert_eq!(store.lock().unwrap().requests.len(), 25);
    assert_eq!(events(&store)[0]["series"]["count"], 25);
    sleep(Duration::from_secs(300)).await;
    replica.refuse("payments", "app-1", "m");
    settled().await;
    assert_eq!(events(&store)[0]["series"]["count"], 41);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_owners_writes_no_more_than_the_limits_say() {
    let (client, store) = api_server();
    let replica = Replica::start(&client, "one");
    for n in 0..5_000 {
        replica.refuse(&format!("n{}", n % 50), &format!("app-{n}"), "m");
        if n % 100 == 0 {
            settled().await;
        }
    }
    settled().await;
    assert!(events(&store).len() <= 101, "{}", events(&store).len());
    assert_eq!(replica.counted("limited") + replica.counted("written"), 5_000);
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_holds_nobody_up_and_fills_nothing() {
    let (client, store) = api_server();
    store.lock().unwrap().mood = Mood::Hangs;
    let replica = Replica::start(&client, "one");
    let began = Instant::now();
    for _ in 0..1_000 {
        replica.refuse("payments", "app-1", "m");
    }
    assert_eq!(began.elapsed(), Duration::ZERO, "telling does not wait");
    assert_eq!(replica.counted("dropped"), 1_000 - QUEUE as u64);
    replica.events.tell(|| panic!("it is not even looked for an owner"));
    sleep(WRITE * 3 - Duration::from_millis(1)).await;
    assert_eq!(store.lock().unwrap().requests, ["hung"; 3]);
    store.lock().unwrap().mood = Mood::Well;
    sleep(WRITE).await;
    assert_eq!(replica.counted("failed"), 3);
    let counted = |event: &Value| event["series"]["count"].as_u64().unwrap();
    assert_eq!(counted(&events(&store)[0]), 25, "those that failed are counted, too");
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_refuses_is_asked_once_for_each() {
    let (client, store) = api_server();
    store.lock().unwrap().mood = Mood::Refuses;
    let replica = Replica::start(&client, "one");
    for _ in 0..3 {
        replica.refuse("payments", "app-1", "m");
    }
    settled().await;
    assert_eq!(store.lock().unwrap().requests.len(), 3);
    assert_eq!(replica.counted("failed"), 3);
    store.lock().unwrap().mood = Mood::Well;
    replica.refuse("payments", "app-1", "m");
    settled().await;
    assert_eq!(events(&store)[0]["series"]["count"], 4);
}

#[tokio::test(start_paused = true)]
async fn a_race_that_is_always_lost_is_given_up() {
    let (client, store) = api_server();
    let replica = Replica::start(&client, "one");
    replica.refuse("payments", "app-1", "m");
    settled().await;
    store.lock().unwrap().mood = Mood::Races;
    replica.refuse("payments", "app-1", "m");
    settled().await;
    assert_eq!(replica.counted("failed"), 1);
    // Each but the last looks what is there now.
    assert_eq!(store.lock().unwrap().requests.len(), 1 + ATTEMPTS + (ATTEMPTS - 1));
    store.lock().unwrap().mood = Mood::Well;
    replica.refuse("payments", "app-1", "m");
    settled().await;
    assert_eq!(events(&store)[0]["series"]["count"], 3);
}

#[tokio::test(start_paused = true)]
async fn without_a_writer_they_are_dropped() {
    let (client, _store) = api_server();
    let replica = Replica::start(&client, "one");
    replica.writing.abort();
    settled().await;
    replica.refuse("payments", "app-1", "m");
    assert_eq!(replica.counted("dropped"), 1);
}
