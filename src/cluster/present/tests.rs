use serde_json::{Value, json};

use super::*;
use crate::cluster::testing::api_server;

fn failed(code: u16) -> Option<(u16, String)> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "no"});
    Some((code, status.to_string()))
}

fn source(name: &str, ca: &str, login: &str) -> Document<crate::api::TrustSourceSpec> {
    let pin =
        json!({"name": "all", "repositories": ["r.example/api"], "rootKeyIDs": ["0".repeat(64)]});
    let connection = json!({
        "caConfigMapRef": {"name": ca, "key": "ca.crt"}, "credentialsSecretRef": {"name": login},
    });
    let notary = json!({"url": "https://notary.example", "pins": [pin]});
    Document::new(name, None, json!({"notary": notary, "connection": connection}))
}

fn sources(sources: Vec<Document<crate::api::TrustSourceSpec>>) -> Resources {
    Resources { sources, ..Resources::default() }
}

#[tokio::test]
async fn a_definition_that_is_not_there_is_told_from_other_errors() {
    let (client, _) = api_server(|_| failed(404));
    let read = Present::new(client, "countersign").resources().await;
    assert!(matches!(read, Err(Unread::NotDefined { kind: Kind::Policy })), "{read:?}");
    let (client, _) = api_server(|_| failed(403));
    let read = Present::new(client, "countersign").resources().await;
    assert!(matches!(read, Err(Unread::List { kind: Kind::Policy, .. })), "{read:?}");
}

#[tokio::test]
async fn what_sources_name_is_read_once_by_name_and_nothing_else() {
    let answer = |uri: &str| match uri.rsplit('/').next() {
        Some("ca") => {
            let object = json!({"metadata": {"name": "ca"}, "data": {"ca.crt": "pem"}});
            Some((200, object.to_string()))
        }
        Some("login") => {
            let object =
                json!({"metadata": {"name": "login"}, "data": {"host": "aA==", "tls.key": "aA=="}});
            Some((200, object.to_string()))
        }
        Some("system") => Some((200, json!({"metadata": {"name": "system"}}).to_string())),
        _ => failed(404),
    };
    let (client, asked) = api_server(answer);
    let named = sources(vec![
        source("a", "ca", "login"),
        source("b", "ca", "absent"),
        // Neither is the name of an object: they would lead elsewhere.
        source("c", "../../kube-system/configmaps/x", "x?y"),
    ]);
    let read = Present::new(client.clone(), "system").with_named(named).await;
    assert_eq!(read.config_maps["ca"]["ca.crt"], b"pem");
    assert_eq!(read.secrets["login"].0.keys().collect::<Vec<_>>(), ["host"]);
    assert!(read.unread.is_empty());
    let paths = [
        "/api/v1/namespaces/system",
        "/api/v1/namespaces/system/configmaps/ca",
        "/api/v1/namespaces/system/secrets/absent",
        "/api/v1/namespaces/system/secrets/login",
    ];
    let mut uris = std::mem::take(&mut *asked.lock().expect("no panic"));
    uris.sort();
    assert_eq!(uris, paths);
    // What is known already is not read again.
    Present::new(client, "system").with_named(read).await;
    assert_eq!(*asked.lock().expect("no panic"), [paths[0], paths[2]]);
}

#[tokio::test]
async fn without_the_system_namespace_nothing_in_it_is_known() {
    let (client, asked) = api_server(|_| failed(404));
    let named = sources(vec![source("a", "ca", "login")]);
    let read = Present::new(client, "elsewhere").with_named(named).await;
    assert_eq!(*asked.lock().expect("no panic"), ["/api/v1/namespaces/elsewhere"]);
    let compiled = crate::api::compile(&read, jiff::Timestamp::now());
    assert!(compiled.problems.is_empty(), "{:?}", compiled.problems);
    let unread = compiled.sources["a"].connection.unread.as_deref();
    let wanted = "namespace \"elsewhere\" does not exist";
    assert!(unread.is_some_and(|why| why.contains(wanted)), "{unread:?}");
    // Where that may not be asked, what is in it is.
    let (client, asked) = api_server(|_| failed(403));
    Present::new(client, "system").with_named(sources(vec![source("a", "ca", "login")])).await;
    assert_eq!(asked.lock().expect("no panic").len(), 3);
}

#[tokio::test]
async fn a_secret_that_may_not_be_read_is_told_by_its_source_alone() {
    let answer = |uri: &str| match uri.contains("/secrets/") {
        true => failed(403),
        false => Some((200, json!({"metadata": {"name": "ca"}, "data": {}}).to_string())),
    };
    let (client, _) = api_server(answer);
    let named = sources(vec![source("a", "ca", "login")]);
    let read = Present::new(client, "system").with_named(named).await;
    let compiled = crate::api::compile(&read, jiff::Timestamp::now());
    assert!(compiled.problems.is_empty(), "{:?}", compiled.problems);
    let unread = compiled.sources["a"].connection.unread.as_deref();
    let wanted = "you may not read Secret \"login\" in namespace \"system\", which it names";
    assert_eq!(unread, Some(wanted));
    // A file that has it mends that.
    let mut file = Resources::default();
    file.secrets.insert("login".to_owned(), crate::api::SecretData::default());
    assert!(read.replaced_by(file).unread.is_empty());
}

#[tokio::test]
async fn labels_are_those_of_the_namespace_or_of_all() {
    let namespace = |name: &str| json!({"metadata": {"name": name, "labels": {"env": name}}, "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata"});
    let answer = move |uri: &str| -> Option<(u16, String)> {
        let body: Value = match uri.split('?').next()?.rsplit('/').next()? {
            "namespaces" => {
                let items = json!([namespace("a"), namespace("b")]);
                json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList", "metadata": {}, "items": items})
            }
            name => namespace(name),
        };
        Some((200, body.to_string()))
    };
    let (client, _) = api_server(answer);
    let present = Present::new(client, "system");
    for (asked, known) in [(None, ["a", "b"].as_slice()), (Some("a"), &["a"])] {
        let view = present.view(asked).await;
        assert_eq!(view.freshness.check(), Ok(()));
        for name in ["a", "b"] {
            let labels = view.namespaces.known(name);
            assert_eq!(labels.is_some(), known.contains(&name), "{asked:?} {name}");
        }
    }
}
