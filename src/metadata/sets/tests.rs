//! What becomes of a set that is put in place while its source goes, or is back.

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use countersign_verify::tuf::InitialRoot;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::sleep;
use url::Url;

use super::*;
use crate::api::{Connection, SourceKind};

const MINUTE: Duration = Duration::from_secs(60);

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn signed(key: &Ed25519KeyPair, id: &str, kind: &str, more: (&str, Value)) -> Vec<u8> {
    let mut signed = json!({
        "_type": kind, "expires": "2099-01-01T00:00:00Z", "spec_version": "1.0.31", "version": 1,
    });
    signed[more.0] = more.1;
    if kind == "root" {
        let public = json!({"public": hex(key.public_key().as_ref())});
        let key = json!({"keytype": "ed25519", "keyval": public, "scheme": "ed25519"});
        signed["keys"] = json!({id: key});
        signed["consistent_snapshot"] = json!(false);
    }
    // As short, and with its members in order, it is canonical.
    let text = signed.to_string();
    let signature = json!({"keyid": id, "sig": hex(key.sign(text.as_bytes()).as_ref())});
    json!({"signatures": [signature], "signed": signed}).to_string().into_bytes()
}

/// A repository in a folder that signs nothing, and who reads it.
fn world() -> (TempDir, Repositories, Live) {
    let (key, folder) = (Ed25519KeyPair::generate().expect("a key"), TempDir::new());
    let (id, folder) = (hex(digest(&SHA256, b"a key").as_ref()), folder.expect("a folder"));
    let roles = ["root", "timestamp", "snapshot", "targets"];
    let roles = roles.map(|role| (role, json!({"keyids": [id], "threshold": 1})));
    let roles =
        Value::Object(roles.map(|(role, keys)| (role.to_owned(), keys)).into_iter().collect());
    let listed = |role: &str| ("meta", json!({format!("{role}.json"): {"version": 1}}));
    let files = [
        ("timestamp", listed("snapshot")),
        ("snapshot", listed("targets")),
        ("targets", ("targets", json!({}))),
    ];
    for (role, more) in files {
        let file = folder.path().join(format!("{role}.json"));
        std::fs::write(file, signed(&key, &id, role, more)).expect("written");
    }
    let initial = InitialRoot::read(&signed(&key, &id, "root", ("roles", roles)));
    let kind = SourceKind::Tuf {
        mirrors: vec![Url::from_directory_path(folder.path()).expect("a URL")],
        initial: Some(initial.expect("a root")),
        max_delegations: 0,
    };
    let source = Source {
        name: "tuf".to_owned(),
        fingerprint: [0; 32],
        kind,
        connection: Connection::default(),
        refresh_after: MINUTE,
        refuse_after: 60 * MINUTE,
    };
    let repositories = Repositories::new(MemoryStore::in_process(), Arc::new(Clock::system()));
    (folder, repositories, Live::tuf(Arc::new(source), Vec::new()))
}

#[tokio::test]
async fn k9_what_is_loaded_of_a_source_that_has_gone_meanwhile_is_not_kept() {
    let (_folder, repositories, live) = world();
    repositories.update(&live, "payments").await.expect("verified");
    let shared = &repositories.shared;
    let set = shared.at_hand(&live).expect("at hand");
    // As where the sources that are kept changed after it was seen to be there.
    shared.sources.store(Some(Arc::default()));
    shared.extend(&set, Arc::clone(&set.repository));
    assert!(shared.at_hand(&live).is_none());
}

#[tokio::test(start_paused = true)]
async fn o6_a_set_that_is_put_in_place_of_one_that_had_just_gone_is_refreshed() {
    let (_folder, repositories, live) = world();
    repositories.update(&live, "payments").await.expect("verified");
    let shared = &repositories.shared;
    let set = shared.at_hand(&live).expect("at hand");
    // An update sees it, it goes, who refreshes it finds none, and the update ends.
    shared.sets.invalidate(&live.set_key());
    sleep(2 * MINUTE).await;
    shared.sets.insert(live.set_key(), Arc::clone(&set));
    sleep(2 * MINUTE).await;
    let now = shared.at_hand(&live).expect("at hand");
    assert!(now.complete > set.complete);
}
