#![allow(clippy::unwrap_used)]

use std::sync::Mutex;

use kube::api::ObjectMeta;

use super::*;
use crate::api::{Status, TrustPolicySpec};
use crate::cluster::testing::api_server;

fn object(generation: i64, status: Value) -> Object<TrustPolicySpec> {
    let metadata = ObjectMeta {
        name: Some("p".to_owned()),
        generation: Some(generation),
        uid: Some("u".to_owned()),
        resource_version: Some("7".to_owned()),
        ..ObjectMeta::default()
    };
    let data = json!({"spec": {}, "status": status});
    Object::read(DynamicObject { types: None, metadata, data }).1
}

fn key() -> Key {
    (Kind::Policy, "p".to_owned())
}

fn problem(reason: &str) -> Problem {
    Problem {
        kind: "TrustPolicy",
        name: "p".to_owned(),
        place: None,
        field: "spec.verify".to_owned(),
        reason: reason.to_owned(),
        code: "SourceNotFound",
        elsewhere: true,
    }
}

fn written(status: Value, verdict: &Verdict) -> Option<Value> {
    let write = due(key(), &object(verdict.generation, status), verdict, &now())?;
    Some(write.body["status"].clone())
}

#[test]
fn a_status_names_the_code_and_the_field_and_is_due_once() {
    let verdict = Verdict::new(3, &[&problem("missing"), &problem("another")]);
    let status = written(Value::Null, &verdict).unwrap();
    assert_eq!(status["observedGeneration"], 3);
    let condition = &status["conditions"][0];
    assert_eq!(condition["type"], "Ready");
    assert_eq!(condition["status"], "False");
    assert_eq!(condition["reason"], "SourceNotFound");
    assert_eq!(condition["message"], "spec.verify: missing (and 1 more)");
    assert_eq!(condition["observedGeneration"], 3);
    // As the API server has it then: nothing is due, also where other conditions stand beside it.
    assert_eq!(written(status.clone(), &verdict), None);
    let mut others = status.clone();
    let other = json!({"type": "Other", "status": "True", "reason": "r", "message": "m", "lastTransitionTime": "2026-01-01T00:00:00Z"});
    others["conditions"].as_array_mut().unwrap().insert(0, other);
    assert_eq!(written(others, &verdict), None);
    assert!(written(status, &Verdict::new(4, &[])).is_some());
}

#[test]
fn the_time_of_a_transition_changes_with_the_status_only() {
    let since = "2026-01-01T00:00:00Z";
    let condition = |status: &str, message: &str| json!({"type": "Ready", "status": status, "reason": "SourceNotFound", "message": message, "lastTransitionTime": since, "observedGeneration": 3});
    let before = |status: &str, message: &str| json!({"observedGeneration": 3, "conditions": [condition(status, message)]});
    let verdict = Verdict::new(3, &[&problem("missing")]);
    let other_message = written(before("False", "spec.verify: other"), &verdict).unwrap();
    assert_eq!(other_message["conditions"][0]["lastTransitionTime"], since);
    let other_status = written(before("True", "spec.verify: missing"), &verdict).unwrap();
    assert_ne!(other_status["conditions"][0]["lastTransitionTime"], since);
    assert_eq!(written(before("False", "spec.verify: missing"), &verdict), None);
}

fn expiring(at: &str) -> Forecast {
    let (repository, role) = ("r.example/api".to_owned(), "targets".to_owned());
    let expiry = crate::metadata::Expiry { at: at.parse().unwrap(), repository, role };
    Forecast::Expiring { reason: "ExpiresSoon", first: expiry, others: 0 }
}

#[test]
fn a_forecast_stands_beside_ready_and_is_due_when_it_changes_and_once() {
    let sound = Verdict::new(3, &[]).with(Forecast::Sound);
    let status = written(Value::Null, &sound).unwrap();
    let of = |status: &Value, index: usize, field: &str| {
        status["conditions"][index][field].as_str().unwrap().to_owned()
    };
    assert_eq!((of(&status, 0, "type"), of(&status, 0, "status")), ("Ready".into(), "True".into()));
    assert_eq!(
        (of(&status, 1, "type"), of(&status, 1, "status")),
        ("Expiring".into(), "False".into())
    );
    assert_eq!(written(status.clone(), &sound), None);

    let soon = Verdict::new(3, &[]).with(expiring("2030-01-05T00:00:00Z"));
    let told = written(status.clone(), &soon).unwrap();
    assert_eq!(of(&told, 0, "status"), "True", "it is in force");
    assert_eq!(
        (of(&told, 1, "status"), of(&told, 1, "reason")),
        ("True".into(), "ExpiresSoon".into())
    );
    assert!(of(&told, 1, "message").contains("targets of r.example/api"), "{told}");
    // A second look, later, writes nothing.
    assert_eq!(written(told.clone(), &soon), None);
    // A replica that takes the lease and knows nothing takes nothing back, and claims nothing.
    let unknown = Verdict::new(3, &[]).with(Forecast::Unknown);
    let taken_over = written(told, &unknown).unwrap();
    assert_eq!(of(&taken_over, 1, "status"), "Unknown");
    assert_eq!(written(taken_over.clone(), &unknown), None);
    assert_eq!(of(&written(taken_over, &sound).unwrap(), 1, "status"), "False");
    // Where nothing was told, its first review of a source is no reason to write.
    assert_eq!(written(status.clone(), &unknown), None);
    assert_eq!(written(written(Value::Null, &unknown).unwrap(), &sound), None);
    // A policy has no forecast, and one that stands there is somebody else's.
    assert_eq!(written(status, &Verdict::new(3, &[])), None);
}

#[test]
fn a_generation_that_is_not_compiled_yet_has_to_wait() {
    let verdict = Verdict::new(3, &[]);
    assert_eq!(due(key(), &object(4, Value::Null), &verdict, &now()), None);
}

#[test]
fn a_status_that_cannot_be_read_is_written_anew() {
    let verdict = Verdict::new(3, &[]);
    assert!(written(json!({"conditions": "none"}), &verdict).is_some());
    assert_eq!(object(3, json!("x")).status, Status::default());
}

/// The writer, with one write due; and what the API server was asked.
struct Writer {
    due: watch::Sender<Arc<Vec<Write>>>,
    leads: watch::Sender<bool>,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Writer {
    fn start(leads: bool, code: impl Fn(usize) -> u16 + Clone + Send + 'static) -> Self {
        let count = Arc::new(Mutex::new(0));
        let (client, asked) = api_server(move |_| {
            let mut count = count.lock().unwrap();
            *count += 1;
            let code = code(*count);
            let failure = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "message": "m", "reason": "r"});
            let object = json!({"kind": "TrustPolicy", "apiVersion": API_VERSION, "metadata": {"name": "p"}});
            Some((code, if code == 200 { object } else { failure }.to_string()))
        });
        let (due, writes) = watch::channel(Arc::new(vec![write("7")]));
        let (leads, leading) = watch::channel(leads);
        tokio::spawn(super::write(client, writes, leading));
        Self { due, leads, asked }
    }

    /// The number of requests after some time.
    async fn asked(&self) -> usize {
        sleep(Duration::from_millis(100)).await;
        self.asked.lock().unwrap().len()
    }
}

fn write(seen: &str) -> Write {
    let verdict = Verdict::new(3, &[]);
    let write = due(key(), &object(3, Value::Null), &verdict, &now()).unwrap();
    Write { seen: seen.to_owned(), ..write }
}

#[tokio::test(start_paused = true)]
async fn only_the_one_that_leads_writes_and_once_until_the_object_changes() {
    let writer = Writer::start(false, |_| 200);
    assert_eq!(writer.asked().await, 0);
    writer.leads.send_replace(true);
    assert_eq!(writer.asked().await, 1);
    let uri = writer.asked.lock().unwrap()[0].clone();
    assert!(uri.contains("/trustpolicies/p/status?"), "{uri}");
    assert!(uri.contains("fieldManager=countersign") && uri.contains("force=true"), "{uri}");
    // The watch has not told of the write yet: the same is due still.
    writer.due.send_replace(Arc::new(vec![write("7")]));
    assert_eq!(writer.asked().await, 1);
    // Somebody wrote over it: a moment later it is put right, and not at once each time.
    writer.due.send_replace(Arc::new(vec![write("8")]));
    assert_eq!(writer.asked().await, 1);
    sleep(RETRY).await;
    assert_eq!(writer.asked().await, 2);
    // Another verdict is another matter.
    let other = Write { verdict: Verdict::new(4, &[]), ..write("9") };
    writer.due.send_replace(Arc::new(vec![other]));
    assert_eq!(writer.asked().await, 3);
    writer.leads.send_replace(false);
    writer.due.send_replace(Arc::new(vec![write("10")]));
    assert_eq!(writer.asked().await, 3);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_repeated_and_one_that_came_too_late_is_not() {
    let writer = Writer::start(true, |count| if count == 1 { 403 } else { 200 });
    assert_eq!(writer.asked().await, 1);
    sleep(RETRY).await;
    assert_eq!(writer.asked().await, 2);
    sleep(RETRY * 3).await;
    assert_eq!(writer.asked().await, 2);
    for late in [404, 409] {
        let writer = Writer::start(true, move |_| late);
        sleep(RETRY * 3).await;
        assert_eq!(writer.asked().await, 1, "{late}");
    }
}
