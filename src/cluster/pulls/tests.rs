//! What is asked of the API server, and how often.

use std::sync::Mutex;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use super::*;
use crate::cluster::testing::api_server;
use crate::http::testing;

const HOST: &str = "registry.example.com";
const PULL: &str = "/api/v1/namespaces/payments/secrets/pull";
const DEFAULT: &str = "/api/v1/namespaces/payments/serviceaccounts/default";

const POD: Puller<'static> = Puller { service_account: "", secrets: &["pull"] };

type Answer = Option<(u16, String)>;

fn payments() -> Scope {
    Scope::Namespaces(BTreeSet::from(["payments".to_owned()]))
}

fn pull_secrets(
    scope: Scope,
    answer: impl Fn(&str) -> Answer + Clone + Send + 'static,
) -> (PullSecrets, Arc<Mutex<Vec<String>>>) {
    let (client, asked) = api_server(answer);
    (PullSecrets::new(client, scope), asked)
}

fn uris(asked: &Mutex<Vec<String>>) -> Vec<String> {
    asked.lock().expect("no panic").clone()
}

fn object(kind: &str, fields: serde_json::Value) -> Answer {
    let mut object = json!({"apiVersion": "v1", "kind": kind, "metadata": {"name": "any"}});
    for (field, value) in fields.as_object().expect("fields") {
        object[field] = value.clone();
    }
    Some((200, object.to_string()))
}

/// A Secret of this type, with this text under this key.
fn secret(kind: &str, key: &str, text: &str) -> Answer {
    object("Secret", json!({"type": kind, "data": {key: STANDARD.encode(text)}}))
}

fn auths() -> String {
    let auth = STANDARD.encode("ann:secret");
    json!({HOST: {"auth": auth}}).to_string()
}

fn ann() -> Answer {
    let json = format!(r#"{{"auths":{}}}"#, auths());
    secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", &json)
}

fn nobody(uri: &str) -> Answer {
    unreachable!("{uri} is not to be asked for")
}

fn status(code: u16) -> Answer {
    let reason = if code == 404 { "NotFound" } else { "Forbidden" };
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": "hunter2",
    });
    Some((code, status.to_string()))
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(8)
}

async fn ask(secrets: &PullSecrets, puller: Puller<'_>) -> Result<Option<Basic>, String> {
    let found = secrets.credentials(Some("payments"), puller, HOST, soon()).await;
    found.map_err(|unavailable| {
        assert_eq!(unavailable.code(), "CredentialsUnavailable");
        unavailable.to_string()
    })
}

#[tokio::test]
async fn o6_a_burst_of_pods_reads_each_object_once() {
    let (secrets, asked) = pull_secrets(payments(), |uri| match uri {
        PULL => ann(),
        DEFAULT => object("ServiceAccount", json!({"imagePullSecrets": [{"name": "pull"}]})),
        _ => nobody(uri),
    });
    let bare = Puller::default();
    assert_eq!(secrets.at_hand(Some("payments"), bare, HOST), None);
    let asking = (0..1000).map(|_| ask(&secrets, bare));
    for found in join_all(asking).await {
        assert_eq!(found, Ok(testing::ann()));
    }
    assert_eq!(uris(&asked), [DEFAULT, PULL]);
    // From now on it is at hand, for whoever in the namespace names it.
    for puller in [bare, POD] {
        assert_eq!(secrets.at_hand(Some("payments"), puller, HOST), Some(Ok(testing::ann())));
        assert_eq!(secrets.at_hand(Some("payments"), puller, "other.example"), Some(Ok(None)));
    }
    assert_eq!(uris(&asked).len(), 2);
}

#[tokio::test]
async fn k7_nothing_is_read_outside_of_the_namespaces_that_are_named() {
    for (scope, namespaces) in [
        (payments(), [None, Some("victim"), Some("payments/secrets/pull?x="), Some("")]),
        (Scope::Everywhere, [None, Some("../../victim"), Some("a/b"), Some("")]),
    ] {
        let (secrets, asked) = pull_secrets(scope, nobody);
        for namespace in namespaces {
            assert_eq!(secrets.at_hand(namespace, POD, HOST), Some(Ok(None)), "{namespace:?}");
            let found = secrets.credentials(namespace, POD, HOST, soon()).await;
            assert_eq!(found, Ok(None), "{namespace:?}");
        }
        assert!(uris(&asked).is_empty());
    }
    let (secrets, asked) = pull_secrets(Scope::Everywhere, |_| ann());
    let found = secrets.credentials(Some("any"), POD, HOST, soon()).await;
    assert_eq!(found, Ok(testing::ann()));
    assert_eq!(uris(&asked), ["/api/v1/namespaces/any/secrets/pull"]);
}

#[tokio::test]
async fn k7_what_one_namespace_s_secret_says_is_not_for_another() {
    let (secrets, asked) = pull_secrets(Scope::Everywhere, |uri| match uri {
        PULL => ann(),
        _ => status(404),
    });
    assert_eq!(ask(&secrets, POD).await, Ok(testing::ann()));
    assert_eq!(secrets.at_hand(Some("other"), POD, HOST), None);
    let found = secrets.credentials(Some("other"), POD, HOST, soon()).await;
    assert_eq!(found, Ok(None));
    assert_eq!(uris(&asked)[1], "/api/v1/namespaces/other/secrets/pull");
}

#[tokio::test]
async fn secrets_of_both_types_are_read_and_others_say_nothing() {
    let legacy = secret("kubernetes.io/dockercfg", ".dockercfg", &auths());
    let opaque = secret("Opaque", ".dockerconfigjson", &format!(r#"{{"auths":{}}}"#, auths()));
    let empty = object("Secret", json!({"type": "kubernetes.io/dockerconfigjson"}));
    for (answer, wanted) in
        [(ann(), testing::ann()), (legacy, testing::ann()), (opaque, None), (empty, None)]
    {
        let told = answer.clone();
        let (secrets, _) = pull_secrets(payments(), move |uri| match uri {
            PULL => told.clone(),
            _ => object("ServiceAccount", json!({})),
        });
        assert_eq!(ask(&secrets, POD).await, Ok(wanted), "{answer:?}");
    }
}

#[tokio::test]
async fn k14_what_cannot_be_read_is_named_and_nothing_of_it_is_told() {
    let broken = secret("kubernetes.io/dockerconfigjson", ".dockerconfigjson", "hunter2");
    let large = " ".repeat(CONFIG_BYTES + 1);
    let large = secret("kubernetes.io/dockercfg", ".dockercfg", &large);
    let garbage = Some((200, r#"{"data": {"x": "hunter2"}}"#.to_owned()));
    for (answer, wanted) in [
        (status(403), "may not read it"),
        (status(400), "the API server answered 400"),
        (status(401), "the API server answered 401"),
        (large, "larger than 262144 bytes"),
        (broken, "not a docker configuration"),
        (garbage, "cannot be read"),
    ] {
        let (told, other) = (answer.clone(), answer.clone());
        let (secrets, _) = pull_secrets(payments(), move |_| told.clone());
        let why = ask(&secrets, POD).await.expect_err(wanted);
        assert!(why.contains("namespace payments: Secret pull: ") && why.contains(wanted), "{why}");
        assert!(!why.contains("hunter2"), "{why}");
        let at_hand = secrets.at_hand(Some("payments"), POD, HOST);
        assert!(at_hand.is_some_and(|kept| kept.is_err()), "it is remembered for a moment");
        // The same of a ServiceAccount.
        let (secrets, _) = pull_secrets(payments(), move |uri| match uri {
            DEFAULT => other.clone(),
            _ => nobody(uri),
        });
        if matches!(answer, Some((403, _))) {
            let why = ask(&secrets, Puller::default()).await.expect_err(wanted);
            assert!(why.contains("namespace payments: ServiceAccount default: "), "{why}");
        }
    }
}

#[tokio::test]
async fn a_secret_that_is_made_after_its_pod_is_seen_within_seconds() {
    let made = Arc::new(Mutex::new(false));
    let there = Arc::clone(&made);
    let (secrets, _) = pull_secrets(payments(), move |uri| match uri {
        PULL if *there.lock().expect("no panic") => ann(),
        PULL => status(404),
        _ => object("ServiceAccount", json!({})),
    });
    assert_eq!(ask(&secrets, POD).await, Ok(None), "the kubelet goes on without it, too");
    *made.lock().expect("no panic") = true;
    let deadline = Instant::now() + Duration::from_secs(10);
    while ask(&secrets, POD).await != Ok(testing::ann()) {
        assert!(Instant::now() < deadline, "it stays forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_secret_that_is_taken_away_is_noticed_within_seconds() {
    let (secrets, asked) = pull_secrets(payments(), |_| ann());
    assert_eq!(ask(&secrets, POD).await, Ok(testing::ann()));
    let deadline = Instant::now() + Duration::from_secs(10);
    while uris(&asked).len() == 1 {
        assert!(Instant::now() < deadline, "it is remembered for ever");
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert_eq!(ask(&secrets, POD).await, Ok(testing::ann()));
    }
}

#[tokio::test(start_paused = true)]
async fn k14_an_api_server_that_does_not_answer_denies_in_time() {
    let (secrets, asked) = pull_secrets(payments(), |_| None);
    let began = Instant::now();
    let asking = (0..100).map(|number| {
        let (name, secrets) = (format!("s{number}"), &secrets);
        async move { ask(secrets, Puller { service_account: "", secrets: &[&name] }).await }
    });
    for found in join_all(asking).await {
        let why = found.expect_err("not answered");
        assert!(why.contains("the API server did not answer within 3 s"), "{why}");
    }
    assert_eq!(began.elapsed(), Duration::from_secs(3));
    assert!(uris(&asked).len() <= AT_ONCE, "few are asked at a time");
    // A review that has less time left waits no longer than that.
    let deadline = Instant::now() + Duration::from_millis(100);
    let late = Puller { service_account: "", secrets: &["one", "two"] };
    let found = secrets.credentials(Some("payments"), late, HOST, deadline).await;
    let why = found.expect_err("not answered").to_string();
    assert!(why.contains("Secret one, two: not read within the review's deadline"), "{why}");
    assert_eq!(Instant::now(), deadline);
}

#[tokio::test(start_paused = true)]
async fn k10_a_namespace_whose_reads_take_long_leaves_others_their_turns() {
    let (secrets, asked) = pull_secrets(Scope::Everywhere, |uri| match uri {
        uri if uri.contains("/payments/") => None,
        _ => ann(),
    });
    let flood = (0..100).map(|number| {
        let (name, secrets) = (format!("s{number}"), &secrets);
        async move { ask(secrets, Puller { service_account: "", secrets: &[&name] }).await }
    });
    let other = async {
        while uris(&asked).len() < AT_ONCE / 2 {
            tokio::task::yield_now().await;
        }
        secrets.credentials(Some("other"), POD, HOST, soon()).await
    };
    let (flood, other) = tokio::join!(join_all(flood), other);
    assert!(flood.iter().all(Result::is_err));
    assert_eq!(other, Ok(testing::ann()));
}
