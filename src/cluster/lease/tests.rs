use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use http::{Method, Request, Response, StatusCode};
use kube::client::Body;
use serde_json::{Value, json};

use super::*;

fn client(
    answer: impl Fn(&Method) -> Option<(StatusCode, Value)> + Send + Sync + 'static,
) -> Client {
    let answer = Arc::new(answer);
    let service = tower::service_fn(move |request: Request<Body>| {
        let answer = Arc::clone(&answer);
        async move {
            let Some((status, body)) = answer(request.method()) else {
                // The request is lost.
                return std::future::pending().await;
            };
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(status).body(body).expect("a response"))
        }
    });
    Client::new(service, "system")
}

fn lost() -> Client {
    client(|_| None)
}

fn candidate(client: Client) -> Candidate {
    Candidate::new(client, "system", "countersign", "one")
}

fn held_by(holder: &str, renewed: i64) -> LeaseSpec {
    let time = MicroTime(Timestamp::from_second(renewed).expect("a time"));
    LeaseSpec {
        holder_identity: Some(holder.to_owned()),
        lease_duration_seconds: Some(15),
        acquire_time: Some(time.clone()),
        renew_time: Some(time),
        lease_transitions: Some(3),
        ..LeaseSpec::default()
    }
}

fn answer(status: u16, spec: &LeaseSpec) -> Option<(StatusCode, Value)> {
    let lease = json!({
        "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
        "metadata": {"name": "countersign", "namespace": "system", "resourceVersion": "7"},
        "spec": spec,
    });
    Some((StatusCode::from_u16(status).expect("a status"), lease))
}

fn failure(status: u16, reason: &str) -> Option<(StatusCode, Value)> {
    let body = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": status,
        "reason": reason, "message": "the test's own"});
    Some((StatusCode::from_u16(status).expect("a status"), body))
}

#[tokio::test]
async fn a_lease_is_taken_when_it_is_nobodys_or_was_seen_unchanged_for_its_time() {
    let time = Timestamp::from_second(1_000_000).expect("a time");
    let start = Instant::now();
    let after = |seconds: u64| start + Duration::from_secs(seconds);
    let writes = |step: &Step, transitions| match step {
        Step::Write(spec) => {
            assert_eq!(spec.holder_identity.as_deref(), Some("one"));
            assert_eq!(spec.lease_duration_seconds, Some(15));
            assert_eq!(spec.renew_time, Some(MicroTime(time)));
            assert_eq!(spec.lease_transitions, transitions);
            true
        }
        Step::Leave => false,
    };
    let mut new = candidate(lost());
    assert!(writes(&new.step(&LeaseSpec::default(), start, time), Some(0)), "there is none");
    assert!(writes(&new.step(&held_by("", 5), start, time), Some(4)), "released");
    let ours = new.step(&held_by("one", 5), start, time);
    assert!(writes(&ours, Some(3)), "ours is renewed");
    let Step::Write(ours) = ours else { panic!("not written") };
    assert_eq!(ours.acquire_time, held_by("one", 5).acquire_time, "and was acquired before");

    // What the other's clock says does not matter, only how long nothing changes.
    for renewed in [5, 10_000_000] {
        let mut waiting = candidate(lost());
        let theirs = held_by("two", renewed);
        assert!(!writes(&waiting.step(&theirs, start, time), None));
        assert!(!writes(&waiting.step(&theirs, after(14), time), None));
        let renewed = held_by("two", renewed + 1);
        assert!(!writes(&waiting.step(&renewed, after(15), time), None), "renewed");
        assert!(!writes(&waiting.step(&renewed, after(29), time), None));
        assert!(writes(&waiting.step(&renewed, after(30), time), Some(4)), "run out");
    }
}

/// Campaigns against this client for `seconds`, and tells for each whether the lease was claimed.
async fn claims(client: Client, seconds: usize) -> Vec<bool> {
    let (holds, held) = watch::channel(false);
    let running = tokio::spawn(candidate(client).run(holds, std::future::pending()));
    let mut claims = Vec::new();
    for _ in 0..seconds {
        tokio::time::sleep(Duration::from_secs(1)).await;
        claims.push(*held.borrow());
    }
    running.abort();
    claims
}

#[tokio::test(start_paused = true)]
async fn o4_the_claim_ends_before_the_lease_does_when_renewals_fail() {
    for (what, later) in [
        ("no answer", None),
        ("refused", failure(403, "Forbidden")),
        ("always overtaken", failure(409, "Conflict")),
    ] {
        let writes = Arc::new(Mutex::new(0));
        let api = client(move |method| {
            if method == Method::GET {
                return answer(200, &held_by("one", 5));
            }
            let mut writes = writes.lock().expect("not poisoned");
            *writes += 1;
            if *writes == 1 { answer(200, &held_by("one", 6)) } else { later.clone() }
        });
        let claims = claims(api, 30).await;
        let held = claims.iter().take_while(|held| **held).count() as u64;
        assert!((8..=DEADLINE.as_secs()).contains(&held), "{what}: {held}");
        assert!(claims[held as usize..].iter().all(|held| !held), "{what}: {claims:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_lost_request_costs_no_lease() {
    let writes = Arc::new(Mutex::new(0));
    let api = client(move |method| {
        let mut writes = writes.lock().expect("not poisoned");
        *writes += usize::from(method == Method::PUT);
        if method == Method::PUT && writes.is_multiple_of(2) {
            None
        } else {
            answer(200, &held_by("one", 5))
        }
    });
    assert!(claims(api, 60).await.iter().all(|held| *held));
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_someone_else_is_lost_at_once() {
    let answers = Mutex::new(VecDeque::from([held_by("one", 5), held_by("one", 5)]));
    let api = client(move |_| {
        let next = answers.lock().expect("not poisoned").pop_front();
        answer(200, &next.unwrap_or_else(|| held_by("two", 6)))
    });
    let claims = claims(api, 5).await;
    assert!(claims[0], "{claims:?}");
    assert!(claims[2..].iter().all(|held| !held), "looked at every two seconds: {claims:?}");
}

#[tokio::test(start_paused = true)]
async fn it_is_given_back_at_the_end() {
    let written = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&written);
    let service = tower::service_fn(move |request: Request<Body>| {
        let seen = Arc::clone(&seen);
        async move {
            if request.method() == Method::PUT {
                let bytes = request.into_body().collect_bytes().await.expect("a body");
                let lease: Lease = serde_json::from_slice(&bytes).expect("a lease");
                seen.lock().expect("not poisoned").push(lease.spec.expect("a spec"));
            }
            let (status, body) = answer(200, &held_by("one", 5)).expect("an answer");
            let body = Body::from(body.to_string().into_bytes());
            Ok::<_, Infallible>(Response::builder().status(status).body(body).expect("a response"))
        }
    });
    let (holds, held) = watch::channel(false);
    let mut during = held.clone();
    let shutdown = async move {
        during.wait_for(|held| *held).await.expect("it is claimed");
    };
    candidate(Client::new(service, "system")).run(holds, shutdown).await;
    assert!(!*held.borrow());
    let written = written.lock().expect("not poisoned");
    let last = written.last().expect("written");
    assert_eq!((last.holder_identity.as_deref(), last.lease_duration_seconds), (Some(""), Some(1)));
}
