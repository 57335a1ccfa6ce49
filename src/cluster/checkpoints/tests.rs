//! Replicas that share checkpoints, and API servers that are slow, refuse, or are raced for.

use std::collections::BTreeMap;
use std::convert::Infallible;

use axum::body::Body as AnyBody;
use http::{Method, Request, Response};
use kube::client::Body;
use kube::runtime::watcher::Event;
use prometheus_client::registry::Registry;
use tokio::time::Instant;

use super::known::tests::{memory, place};
use super::*;

/// How the API server is.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mood {
    Well,
    Hangs,
    /// Answers writes with this status.
    Refuses(u16),
    /// Someone else always writes first.
    Races,
    /// Knows no path of ours yet.
    Starts,
}

/// As much of an API server as keeps TrustCheckpoints.
struct Store {
    mood: Mood,
    objects: BTreeMap<String, Value>,
    version: u64,
    requests: Vec<String>,
}

fn failed(code: u16) -> (u16, Value) {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "message": "scripted",
        "reason": "Scripted", "code": code,
    });
    (code, status)
}

impl Store {
    fn answer(&mut self, method: &Method, path: &str, body: Value) -> (u16, Value) {
        self.requests.push(method.to_string());
        if let Mood::Refuses(code) = self.mood
            && *method != Method::GET
        {
            return failed(code);
        }
        self.version += 1;
        let version = self.version.to_string();
        let found = self.mood != Mood::Starts
            && self.objects.contains_key(path.rsplit('/').next().unwrap_or_default());
        let name = match (method, body["metadata"]["name"].as_str()) {
            (&Method::POST, Some(name)) => name.to_owned(),
            _ => path.rsplit('/').next().unwrap_or_default().to_owned(),
        };
        if *method == Method::POST {
            if self.objects.contains_key(&name) {
                return failed(409);
            }
            let mut object = body;
            object["metadata"]["uid"] = version.clone().into();
            object["metadata"]["resourceVersion"] = version.into();
            self.objects.insert(name, object.clone());
            return (201, object);
        }
        if !found {
            let (code, mut status) = failed(404);
            let starts = self.mood == Mood::Starts;
            status["details"] = if starts { json!({}) } else { json!({"name": name}) };
            return (code, status);
        }
        let races = self.mood == Mood::Races;
        let Some(object) = self.objects.get_mut(&name) else { return failed(404) };
        if *method == Method::PATCH {
            if races {
                object["metadata"]["resourceVersion"] = version.clone().into();
            }
            if body["metadata"]["resourceVersion"] != object["metadata"]["resourceVersion"] {
                return failed(409);
            }
            object["spec"] = body["spec"].clone();
            object["metadata"]["resourceVersion"] = version.into();
        }
        (200, object.clone())
    }
}

type Shared = Arc<Mutex<Store>>;

fn api_server() -> (Client, Shared) {
    let store =
        Store { mood: Mood::Well, objects: BTreeMap::new(), version: 0, requests: Vec::new() };
    let shared = Arc::new(Mutex::new(store));
    let answering = Arc::clone(&shared);
    let service = tower::service_fn(move |request: Request<Body>| {
        let shared = Arc::clone(&answering);
        async move {
            if shared.lock().expect("no panic").mood == Mood::Hangs {
                return std::future::pending().await;
            }
            let (parts, body) = request.into_parts();
            let bytes = body.collect_bytes().await.expect("a body");
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let (status, answer) =
                shared.lock().expect("no panic").answer(&parts.method, parts.uri.path(), body);
            let answer = Response::builder().status(status).body(AnyBody::from(answer.to_string()));
            Ok::<_, Infallible>(answer.expect("an answer"))
        }
    });
    (Client::new(service, "default"), shared)
}

/// A replica whose watch has listed what is there; later events are not told it by itself.
fn replica(client: &Client, store: &Shared) -> Checkpoints {
    let metrics = Metrics::register(&mut Registry::default());
    let replica = Checkpoints::new(client, Duration::from_secs(60), &metrics);
    tell(&replica, store);
    replica
}

/// What the watch tells when it lists.
fn tell(replica: &Checkpoints, store: &Shared) {
    let objects: Vec<Value> = store.lock().expect("no panic").objects.values().cloned().collect();
    let mut known = replica.known();
    known.take(Event::Init);
    for object in objects {
        let object = serde_json::from_value(object).expect("an object");
        known.take(Event::InitApply(object::read(object)));
    }
    known.take(Event::InitDone);
    replica.follow.heard.listed();
}

async fn raise(replica: &Checkpoints, memory: &Memory) -> Result<Memory, CheckpointError> {
    let loaded = replica.load(&place())?;
    replica.raise(&place(), &loaded, memory).await
}

fn stored(store: &Shared) -> Value {
    store.lock().expect("no panic").objects[&object::name(&place())].clone()
}

fn timestamp(store: &Shared) -> Value {
    stored(store)["spec"]["roles"][0]["version"].clone()
}

fn requests(store: &Shared) -> Vec<String> {
    std::mem::take(&mut store.lock().expect("no panic").requests)
}

#[tokio::test]
async fn t8_o5_what_a_replica_verified_is_known_to_one_that_starts_later() {
    let (client, store) = api_server();
    let first = replica(&client, &store);
    assert_eq!(first.load(&place()), Ok(Remembered::default()));
    assert_eq!(raise(&first, &memory(1, 5)).await, Ok(memory(1, 5)));
    drop(first);
    let second = replica(&client, &store);
    assert_eq!(second.load(&place()).expect("known").memory, memory(1, 5));
}

#[tokio::test]
async fn nothing_is_asked_where_nothing_changed() {
    let (client, store) = api_server();
    let replica = replica(&client, &store);
    raise(&replica, &memory(1, 5)).await.expect("written");
    assert_eq!(requests(&store), ["POST"]);
    let before = stored(&store);
    for version in [5, 4] {
        raise(&replica, &memory(1, version)).await.expect("nothing to write");
    }
    assert_eq!((requests(&store), stored(&store)), (Vec::new(), before));
}

#[tokio::test]
async fn ten_thousand_repositories_that_do_not_change_cost_no_request() {
    let (client, store) = api_server();
    let replica = replica(&client, &store);
    let place = |number| Place { repository: format!("registry.example.com/{number}"), ..place() };
    for round in 0..3 {
        for number in 0..10_000 {
            let place = place(number);
            let loaded = replica.load(&place).expect("known");
            let raised = replica.raise(&place, &loaded, &memory(1, 5)).await;
            assert_eq!(raised, Ok(memory(1, 5)));
        }
        assert_eq!(requests(&store).len(), if round == 0 { 10_000 } else { 0 });
    }
}

#[tokio::test]
async fn o8_checkpoints_of_one_source_are_bounded() {
    let (client, store) = api_server();
    let place = |number| Place { repository: format!("registry.example.com/{number}"), ..place() };
    for number in 1..CHECKPOINTS {
        let (name, uid) = (object::name(&place(number)), number.to_string());
        let spec = object::spec(&place(number), &memory(1, 5));
        let object = json!({
            "metadata": {"name": name, "uid": uid, "resourceVersion": uid}, "spec": spec,
        });
        store.lock().expect("no panic").objects.insert(name, object);
    }
    let replica = replica(&client, &store);
    let raise = async |place: &Place, version| {
        let loaded = replica.load(place).expect("known");
        replica.raise(place, &loaded, &memory(1, version)).await
    };
    assert_eq!(raise(&place(0), 5).await, Ok(memory(1, 5)));
    requests(&store);
    let never_seen = place(CHECKPOINTS);
    for _ in 0..2 {
        let error = raise(&never_seen, 5).await.expect_err("one too many");
        assert_eq!(error, CheckpointError::Full { of: "corp-notary".to_owned() });
        let said = error.to_string();
        assert!(said.contains("20000") && said.contains("kubectl get trustcheckpoints"), "{said}");
    }
    assert_eq!(requests(&store), Vec::<String>::new());
    assert_eq!(replica.load(&never_seen), Ok(Remembered::default()));
    assert_eq!(replica.counts(), [("corp-notary".to_owned(), CHECKPOINTS)].into());
    // Those that were seen go on, and other sources.
    assert_eq!(raise(&place(7), 6).await, Ok(memory(1, 6)));
    let elsewhere = Place { source: "other".to_owned(), ..place(0) };
    assert_eq!(raise(&elsewhere, 1).await, Ok(memory(1, 1)));
    // As told.
    store.lock().expect("no panic").objects.remove(&object::name(&place(3)));
    tell(&replica, &store);
    assert_eq!(raise(&never_seen, 5).await, Ok(memory(1, 5)));
    assert!(raise(&place(3), 5).await.is_err());
    assert_eq!(replica.counts()["corp-notary"], CHECKPOINTS);
}

#[tokio::test]
async fn t21_of_two_replicas_that_race_both_floors_are_kept() {
    let (client, store) = api_server();
    let replicas = [replica(&client, &store), replica(&client, &store)];
    // Neither watch has told anything of the other's write.
    let (five, seven) = (memory(1, 5), memory(1, 7));
    let (one, two) = tokio::join!(raise(&replicas[0], &five), raise(&replicas[1], &seven));
    assert_eq!(two, Ok(memory(1, 7)));
    assert!([Ok(memory(1, 5)), Ok(memory(1, 7))].contains(&one), "{one:?}");
    assert_eq!(timestamp(&store), 7);
    // The one that lags learns it from the conflict.
    assert_eq!(raise(&replicas[0], &memory(1, 6)).await, Ok(memory(1, 7)));
    assert_eq!(timestamp(&store), 7);
    assert_eq!(raise(&replicas[0], &memory(1, 8)).await, Ok(memory(1, 8)));
    assert_eq!(raise(&replicas[1], &memory(1, 9)).await, Ok(memory(1, 9)));
    assert_eq!(timestamp(&store), 9);
}

#[tokio::test]
async fn t21_a_race_that_is_always_lost_ends() {
    let (client, store) = api_server();
    let replica = replica(&client, &store);
    raise(&replica, &memory(1, 5)).await.expect("written");
    requests(&store);
    store.lock().expect("no panic").mood = Mood::Races;
    let error = raise(&replica, &memory(1, 6)).await.expect_err("always lost");
    assert!(error.to_string().contains("others wrote first"), "{error}");
    assert_eq!(requests(&store).len(), 2 * ATTEMPTS);
}

#[tokio::test]
async fn t21_a_write_that_is_refused_is_told_and_the_floor_holds_in_the_replica() {
    for code in [403, 422, 500] {
        let (client, store) = api_server();
        let replica = replica(&client, &store);
        raise(&replica, &memory(1, 5)).await.expect("written");
        store.lock().expect("no panic").mood = Mood::Refuses(code);
        let error = raise(&replica, &memory(1, 6)).await.expect_err("refused");
        let said = error.to_string();
        assert!(said.contains("the API server says: scripted") && said.contains("patch"), "{said}");
        assert_eq!(replica.load(&place()).expect("known").memory, memory(1, 6));
        // What has not changed needs no write.
        let other = Place { anchor: "cd".repeat(32), ..place() };
        let error = replica.raise(&other, &Remembered::default(), &memory(1, 1)).await;
        assert!(error.is_err(), "a cold repository");
        store.lock().expect("no panic").mood = Mood::Well;
        assert_eq!(raise(&replica, &memory(1, 5)).await, Ok(memory(1, 6)));
        assert_eq!(timestamp(&store), 6);
    }
}

#[tokio::test]
async fn t21_an_api_server_that_does_not_know_the_kind_yet_has_deleted_nothing() {
    let (client, store) = api_server();
    let replica = replica(&client, &store);
    raise(&replica, &memory(1, 5)).await.expect("written");
    store.lock().expect("no panic").mood = Mood::Starts;
    let error = raise(&replica, &memory(1, 6)).await.expect_err("not found");
    assert!(matches!(error, CheckpointError::Write { .. }), "{error}");
    assert_eq!(replica.load(&place()).expect("known").memory, memory(1, 6));
}

#[tokio::test(start_paused = true)]
async fn an_api_server_that_hangs_is_waited_for_no_longer_than_the_bound() {
    let (client, store) = api_server();
    let replica = replica(&client, &store);
    store.lock().expect("no panic").mood = Mood::Hangs;
    let begun = Instant::now();
    let error = raise(&replica, &memory(1, 5)).await.expect_err("no answer");
    assert!(error.to_string().contains("did not answer within 3 s"), "{error}");
    assert_eq!(begun.elapsed(), RAISE);
}

#[tokio::test]
async fn t21_a_checkpoint_that_is_deleted_while_it_is_written_is_not_brought_back() {
    let (client, store) = api_server();
    let replica = replica(&client, &store);
    raise(&replica, &memory(1, 5)).await.expect("written");
    let name = object::name(&place());
    store.lock().expect("no panic").objects.clear();
    // The watch has not told it yet: the write does.
    let error = raise(&replica, &memory(1, 6)).await.expect_err("deleted");
    assert_eq!(error, CheckpointError::Deleted { name });
    assert_eq!(replica.load(&place()).expect("known").memory, Memory::default());
    assert!(store.lock().expect("no panic").objects.is_empty());
    // The next update begins at nothing.
    assert_eq!(raise(&replica, &memory(1, 4)).await, Ok(memory(1, 4)));
    // Deleted and made anew by another replica.
    store.lock().expect("no panic").objects.clear();
    let other = self::replica(&client, &store);
    raise(&other, &memory(1, 2)).await.expect("written");
    let error = raise(&replica, &memory(1, 5)).await.expect_err("deleted");
    assert!(matches!(error, CheckpointError::Deleted { .. }), "{error}");
    assert_eq!(replica.load(&place()).expect("known").memory, memory(1, 2));
}

#[tokio::test(start_paused = true)]
async fn t8_nothing_is_verified_before_checkpoints_were_listed_or_when_the_watch_is_too_old() {
    let (client, store) = api_server();
    let metrics = Metrics::register(&mut Registry::default());
    let replica = Checkpoints::new(&client, Duration::from_secs(60), &metrics);
    let said = replica.load(&place()).expect_err("not listed").to_string();
    assert!(said.starts_with("TrustCheckpoints have not been listed yet"), "{said}");
    assert!(replica.unlisted().is_some());
    tell(&replica, &store);
    assert!(replica.load(&place()).is_ok() && replica.unlisted().is_none());
    tokio::time::advance(Duration::from_secs(61)).await;
    let said = replica.load(&place()).expect_err("stale").to_string();
    assert!(said.starts_with("nothing was heard of TrustCheckpoints for 61 s"), "{said}");
    assert!(replica.unlisted().is_none(), "sets that are at hand may answer");
}

#[test]
fn names_are_names_whatever_the_source_is_called_and_distinct_by_everything() {
    let long = format!("{}.{}", "a".repeat(199), "b".repeat(53));
    let mut names = Vec::new();
    for source in ["n", "corp-notary", "a.b-c", &long, &long[..252]] {
        for (repository, anchor) in [("r/a", "1"), ("r/b", "1"), ("r/a", "2")] {
            let (source, repository, anchor) =
                (source.to_owned(), repository.to_owned(), anchor.to_owned());
            let name = object::name(&Place { source, repository, anchor });
            assert!(crate::api::is_dns_subdomain(&name), "{name}");
            names.push(name);
        }
    }
    let all = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), all);
}

#[test]
fn t21_an_object_of_any_shape_is_read_without_a_panic() {
    let resource = ApiResource::erase::<TrustCheckpoint>(&());
    let whole = object::spec(&place(), &memory(1, 5)).expect("a root");
    let whole = serde_json::to_value(whole).expect("JSON");
    let broken = |change: fn(&mut Value)| {
        let mut spec = whole.clone();
        change(&mut spec);
        let name = object::name(&place());
        let object = DynamicObject::new(&name, &resource).data(json!({"spec": spec}));
        object::read(object).1.spec
    };
    assert!(broken(|_| {}).is_ok());
    let changes: [fn(&mut Value); 8] = [
        |spec| *spec = Value::Null,
        |spec| spec["roles"] = json!({}),
        |spec| spec["roles"][0]["version"] = json!(1.5),
        |spec| spec["roles"][0]["version"] = json!(u64::MAX),
        |spec| spec["root"] = json!(1),
        |spec| spec["more"] = json!(1),
        |spec| spec["repository"] = json!("registry.example.com/other"),
        |spec| spec["anchor"] = json!(""),
    ];
    for change in changes {
        assert!(broken(change).is_err());
    }
}
