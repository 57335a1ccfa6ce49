use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::*;
use crate::cluster::testing::api_server;

fn pod(namespace: &str, name: &str, owner: Option<(&str, &str)>, spec: Value) -> Value {
    let owners = owner.map(|(kind, name)| {
        json!([
            {"apiVersion": "v1", "kind": "Other", "name": "not-the-controller"},
            {"apiVersion": "v1", "kind": kind, "name": name, "controller": true},
        ])
    });
    json!({
        "metadata": {"name": name, "namespace": namespace, "ownerReferences": owners},
        "spec": spec, "status": {"phase": "Running"},
    })
}

fn container(image: &str) -> Value {
    json!({"containers": [{"name": "app", "image": image}]})
}

fn listed(pods: &[Value], more: &str) -> Option<(u16, String)> {
    let list = json!({"kind": "PodList", "metadata": {"continue": more}, "items": pods});
    Some((200, list.to_string()))
}

fn failed(code: u16) -> Option<(u16, String)> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "no"});
    Some((code, status.to_string()))
}

/// What is found where these are the answers, in their order; and the URIs asked for.
async fn found(
    namespace: Option<&str>,
    left_out: &[&str],
    answers: Vec<Option<(u16, String)>>,
) -> (Result<Running, ListError>, Vec<String>) {
    let answers = Arc::new(Mutex::new(answers.into_iter()));
    let answer = move |_: &str| answers.lock().expect("no panic").next().flatten();
    let (client, asked) = api_server(answer);
    let left_out = left_out.iter().map(|name| (*name).to_owned()).collect();
    let running = running(&client, namespace, &left_out).await;
    let uris = std::mem::take(&mut *asked.lock().expect("no panic"));
    (running, uris)
}

fn key(image: &str, by_tag: bool) -> Image {
    Image { namespace: "a".to_owned(), image: image.to_owned(), by_tag }
}

type Told<'r> = Vec<(&'r str, &'r str, String, usize)>;

fn told(running: &Running) -> Told<'_> {
    let images = running.images.iter();
    let places = images.flat_map(|(image, owners)| {
        let row = |(owner, place): (&Owner, &Place)| {
            (image.namespace.as_str(), image.image.as_str(), owner.to_string(), place.pods)
        };
        owners.iter().map(row).collect::<Vec<_>>()
    });
    places.collect()
}

#[tokio::test]
async fn many_pods_of_an_owner_are_one_and_others_are_told_apart() {
    let fifty = (0..50).map(|number| {
        pod("a", &format!("api-{number}"), Some(("ReplicaSet", "api-7d9f")), container("r/api:1"))
    });
    let mut pods: Vec<Value> = fifty.collect();
    pods.push(pod("a", "alone", None, container("r/api:1")));
    pods.push(pod("b", "other", Some(("Job", "once")), container("r/api:1")));
    let (running, _) = found(None, &[], vec![listed(&pods, "")]).await;
    let running = running.expect("a list");
    assert_eq!(running.pods, 52);
    let wanted = [
        ("a", "r/api:1", "Pod/alone".to_owned(), 1),
        ("a", "r/api:1", "ReplicaSet/api-7d9f".to_owned(), 50),
        ("b", "r/api:1", "Job/once".to_owned(), 1),
    ];
    assert_eq!(told(&running), wanted);
}

#[tokio::test]
async fn k1_every_kind_of_container_and_image_volumes_are_found() {
    let spec = json!({
        "containers": [{"name": "app", "image": "r/app:1"}, {"name": "twin", "image": "r/app:1"}],
        "initContainers": [{"name": "init", "image": "r/init:1"}],
        "ephemeralContainers": [{"name": "debug", "image": "r/debug:1"}],
        "volumes": [{"name": "data", "image": {"reference": "r/data:1"}}, {"name": "tmp"}],
    });
    let (running, _) = found(None, &[], vec![listed(&[pod("a", "p", None, spec)], "")]).await;
    let running = running.expect("a list");
    let paths = |image: &str| {
        let key = key(image, false);
        let place = running.images[&key].values().next().expect("an owner");
        assert_eq!(place.pods, 1, "{image}");
        Vec::from_iter(place.paths.iter().map(String::as_str))
    };
    assert_eq!(paths("r/app:1"), ["spec.containers[name=app]", "spec.containers[name=twin]"]);
    assert_eq!(paths("r/init:1"), ["spec.initContainers[name=init]"]);
    // Nobody makes a pod anew with it.
    assert!(!running.images.contains_key(&key("r/debug:1", false)));
    assert_eq!(paths("r/data:1"), ["spec.volumes[name=data].image.reference"]);
}

#[tokio::test]
async fn static_pods_are_not_counted() {
    let mirror = pod("a", "etcd-node-1", Some(("Node", "node-1")), container("r/etcd:1"));
    let other = pod("a", "p", None, container("r/app:1"));
    let (running, _) = found(None, &[], vec![listed(&[mirror, other], "")]).await;
    let running = running.expect("a list");
    assert_eq!((running.pods, running.images.len()), (1, 1), "{running:?}");
}

#[tokio::test]
async fn pinned_images_of_pods_with_a_template_are_found_by_their_tag_too() {
    let digests = ["a", "b"].map(|digit| format!("sha256:{}", digit.repeat(64)));
    let [one, two] = digests.clone().map(|digest| format!("r.example:5000/api:1@{digest}"));
    let by_digest = format!("r.example/api@{}", digests[0]);
    let of = Some(("ReplicaSet", "api-7d9f"));
    let pods = [
        pod("a", "p", of, container(&one)),
        pod("a", "q", of, container(&two)),
        pod("a", "r", of, container(&by_digest)),
        pod("a", "alone", None, container("r.example/alone:1@sha256:broken")),
        pod("a", "bare", None, container(&one.replace("api", "bare"))),
    ];
    let (running, _) = found(None, &[], vec![listed(&pods, "")]).await;
    let running = running.expect("a list");
    let by_tag: Vec<&Image> = running.images.keys().filter(|image| image.by_tag).collect();
    assert_eq!(by_tag, [&key("r.example:5000/api:1", true)]);
    let place = running.images[by_tag[0]].values().next().expect("an owner");
    assert_eq!((place.pods, &place.digests), (2, &BTreeSet::from(digests)));
    assert_eq!(running.images[&key(&one, false)].values().next().map(|it| it.pods), Some(1));
    assert_eq!(running.images.len(), 6);
}

#[tokio::test]
async fn lists_are_read_by_pages_of_what_is_not_finished() {
    let one = |name: &str| [pod("a", name, None, container("r/app:1"))];
    let answers = vec![listed(&one("p"), "more"), listed(&one("q"), "")];
    let (running, uris) = found(Some("a"), &[], answers).await;
    assert_eq!(running.expect("a list").pods, 2);
    let selector = "fieldSelector=status.phase%21%3DSucceeded%2Cstatus.phase%21%3DFailed";
    let first = format!("/api/v1/namespaces/a/pods?&{selector}&limit=250");
    assert_eq!(uris[0], first);
    assert_eq!(uris[1], format!("{first}&continue=more"));
    let (_, uris) = found(None, &["kube-system"], vec![listed(&[], "")]).await;
    let wanted =
        format!("/api/v1/pods?&{selector}%2Cmetadata.namespace%21%3Dkube-system&limit=250");
    assert_eq!(uris, [wanted]);
}

#[tokio::test]
async fn a_list_that_grew_too_old_begins_again_and_a_refusal_ends_it() {
    let one = [pod("a", "p", None, container("r/app:1"))];
    let answers = vec![listed(&one, "more"), failed(410), listed(&one, "")];
    let (running, uris) = found(None, &[], answers).await;
    assert_eq!(running.expect("a list").pods, 1);
    assert_eq!(uris.len(), 3);
    let (running, uris) = found(None, &[], vec![failed(403)]).await;
    assert_eq!(running.expect_err("forbidden").code(), Some(403));
    assert_eq!(uris.len(), 1);
}

#[tokio::test]
async fn what_is_no_list_of_pods_is_an_error() {
    for body in ["", "[]", "{\"metadata\": {}, \"items\": [{}]}"] {
        let (running, _) = found(None, &[], vec![Some((200, body.to_owned()))]).await;
        assert!(matches!(running, Err(ListError::Api(_))), "{body}");
    }
}

#[tokio::test]
async fn a_page_is_read_up_to_its_limit() {
    let body = listed(&[pod("a", "p", None, container("r/app:1"))], "").expect("a page");
    let size = body.1.len() as u64;
    let (client, _) = api_server(move |_| Some(body.clone()));
    let read = async |bytes| {
        let request = Request::new(Pod::url_path(&(), None)).list(&ListParams::default());
        page(&client, request.expect("a request"), bytes).await
    };
    assert_eq!(read(size).await.expect("it fits").0.len(), 1);
    assert!(matches!(read(size - 1).await, Err(ListError::Large { .. })));
}
