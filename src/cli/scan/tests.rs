use std::fs;
use std::path::Path;

use clap::Parser;
use kube::Error;
use kube::core::Status;
use serde_json::json;

use super::*;
use crate::cluster::pages::ListError;
use crate::cluster::testing::api_server;
use crate::snapshot::Snapshot;

#[derive(Debug, Parser)]
struct Called {
    #[command(flatten)]
    scan: Args,
}

fn called(flags: &[&str]) -> Result<Args, clap::Error> {
    Called::try_parse_from(["countersign"].iter().chain(flags)).map(|called| called.scan)
}

#[test]
fn only_all_namespaces_leave_some_out() {
    let left_out = |flags: &[&str]| Vec::from_iter(called(flags).expect("flags").left_out());
    assert_eq!(left_out(&["-n", "kube-system"]), [""; 0]);
    assert_eq!(left_out(&["-A"]), ["countersign", "kube-system"]);
    let flags = ["-A", "--system-namespace=own", "--exclude-namespace=mesh"];
    assert_eq!(left_out(&flags), ["kube-system", "mesh", "own"]);
    for flags in [
        ["-A", "-n", "a"].as_slice(),
        &["-n", "../a"],
        &["--exclude-namespace=a"],
        &["-o", "yaml"],
        &["--timeout=0"],
    ] {
        called(flags).expect_err("refused");
    }
}

fn failed(code: u16) -> Option<(u16, String)> {
    let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": code, "message": "no", "reason": "no"});
    Some((code, status.to_string()))
}

/// Lets one image in without a signature.
fn allow(name: &str, include: &str) -> serde_json::Value {
    let images = json!({"include": [include], "exclude": []});
    let spec = json!({
        "match": {"images": images, "namespaceSelector": {"matchLabels": {}}},
        "allowUnverified": {"reason": "a test"},
    });
    let metadata = json!({"name": name});
    json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "TrustPolicy", "metadata": metadata, "spec": spec})
}

/// The policies where the cluster has `a` and `b`, or nothing is defined, and a file these.
async fn policies(
    defined: bool,
    candidates: &[serde_json::Value],
) -> Result<policies::Policies, Vec<String>> {
    let answer = move |uri: &str| {
        let items = match uri.contains("trustpolicies") {
            true => vec![allow("a", "r.example/a"), allow("b", "r.example/b")],
            false => Vec::new(),
        };
        let list = json!({"apiVersion": "countersign.dev/v1alpha1", "kind": "List", "metadata": {}, "items": items});
        if defined { Some((200, list.to_string())) } else { failed(404) }
    };
    let (client, _) = api_server(answer);
    let folder = tempfile::tempdir().expect("a folder");
    let write = |(index, object): (usize, &serde_json::Value)| {
        fs::write(folder.path().join(format!("{index}.json")), object.to_string())
            .expect("written");
    };
    candidates.iter().enumerate().for_each(write);
    let paths = if candidates.is_empty() { vec![] } else { vec![folder.path().to_owned()] };
    let candidates = policies::candidates(&paths)?;
    let present = Present::new(client, "countersign");
    policies::read(&present, candidates, &BTreeSet::new(), "https://k.example").await
}

fn names(snapshot: &Snapshot) -> Vec<(&str, &str)> {
    let policies = snapshot.policies.policies().iter();
    policies.map(|policy| (policy.name.as_str(), policy.include[0].as_str())).collect()
}

#[tokio::test]
async fn candidates_replace_what_has_their_name_and_are_added_to_the_rest() {
    let present = [("a", "r.example/a"), ("b", "r.example/b")];
    let alone = policies(true, &[]).await.expect("policies");
    assert_eq!(names(&alone.present), present);
    assert!(alone.candidate.is_none());
    let both = [allow("b", "r.example/other"), allow("c", "r.example/c")];
    let both = policies(true, &both).await.expect("policies");
    assert_eq!(names(&both.present), present);
    let candidate = both.candidate.expect("candidates");
    let wanted = [("a", "r.example/a"), ("b", "r.example/other"), ("c", "r.example/c")];
    assert_eq!(names(&candidate), wanted);
}

#[tokio::test]
async fn candidates_have_to_compile_and_to_be_there() {
    let problems = policies(true, &[allow("c", "r.example/a**b")]).await.err().expect("broken");
    assert!(
        problems[0].contains("TrustPolicy \"c\": spec.match.images.include[0]"),
        "{problems:?}"
    );
    let twice = [allow("c", "r.example/c"), allow("c", "r.example/d")];
    assert!(policies(true, &twice).await.is_err());
    let folder = tempfile::tempdir().expect("a folder");
    let problems = policies::candidates(&[folder.path().to_owned()]).expect_err("empty");
    assert!(problems[0].contains("no resource was found here"), "{problems:?}");
    assert!(policies::candidates(&[Path::new("nowhere").to_owned()]).is_err());
}

#[tokio::test]
async fn without_definitions_only_candidates_can_be_scanned() {
    let problems = policies(false, &[]).await.err().expect("not defined");
    assert!(
        problems[0].contains("does not know trustpolicies: install Countersign"),
        "{problems:?}"
    );
    let read = policies(false, &[allow("c", "r.example/c")]).await.expect("candidates");
    assert_eq!(names(&read.present), []);
    assert_eq!(names(&read.candidate.expect("candidates")), [("c", "r.example/c")]);
}

#[test]
fn what_stands_in_the_way_is_one_sentence_with_what_to_do() {
    let url = "https://k.example";
    let api = |code| {
        ListError::Api(Error::Api(Box::new(Status::failure("it says no", "No").with_code(code))))
    };
    let garbled = || {
        let error = serde_json::from_str::<u8>("?").expect_err("no JSON");
        ListError::Api(Error::SerdeError(error))
    };
    let dead = || ListError::Api(Error::Service("connection refused".into()));
    for (namespace, error, wanted) in [
        (None, api(403), "you may not list pods in all namespaces; name one where you may with -n"),
        (Some("a"), api(403), "you may not list pods in namespace \"a\"; name another with -n"),
        (None, api(401), "https://k.example does not know you; log in again"),
        (None, api(500), "cannot be listed: the API server says: it says no"),
        (None, dead(), "https://k.example cannot be read"),
        (None, dead(), "connection refused; check the kubeconfig's context and the network"),
        (None, garbled(), "answers cannot be understood: expected value"),
        (None, ListError::Large { bytes: 1 << 28 }, "larger than 256 MiB; scan one namespace at a"),
        (None, ListError::Late, "did not answer within 30 s"),
    ] {
        let said = trouble::pods(namespace, &error, url);
        assert!(said.contains(wanted) && !said.contains('\n'), "{said}");
        let by_the_way = matches!(error, ListError::Api(Error::Service(_)));
        assert_eq!(said.contains("network"), by_the_way, "{said}");
    }
}
