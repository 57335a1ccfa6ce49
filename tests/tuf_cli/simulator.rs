//! A repository that changes, and the server that has every version of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use countersign_verify::tuf::file_name;
use jiff::{Span, Timestamp};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::builder::{File, Repo, hex, sha256, sha512};

/// The expiries that the builder sets, which are about another time than the program's clock.
const BUILT: [&str; 4] = [
    "2030-01-08T00:00:00Z",
    "2030-02-01T00:00:00Z",
    "2032-01-01T00:00:00Z",
    "2039-01-01T00:00:00Z",
];

/// In so many hours from now.
pub(crate) fn hours(hours: i64) -> Timestamp {
    Timestamp::now() + Span::new().hours(hours)
}

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
}

pub(crate) struct Simulator {
    pub(crate) repo: Repo,
    shared: Arc<Shared>,
    address: SocketAddr,
    _runtime: Runtime,
}

impl Simulator {
    /// Version 1 of everything, served.
    pub(crate) fn new() -> Self {
        Self::serving(Repo::new())
    }

    pub(crate) fn serving(mut repo: Repo) -> Self {
        repo.hashes = false;
        let shared = Arc::new(Shared::default());
        let runtime = Runtime::new().expect("a runtime");
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"));
        let listener = listener.expect("bound");
        let address = listener.local_addr().expect("an address");
        runtime.spawn(async move { axum::serve(listener, router).await });
        let mut simulator = Self { repo, shared, address, _runtime: runtime };
        simulator.publish();
        simulator
    }

    pub(crate) fn metadata_url(&self) -> String {
        format!("http://{}/metadata/", self.address)
    }

    pub(crate) fn targets_url(&self) -> String {
        format!("http://{}/targets", self.address)
    }

    pub(crate) fn first_root(&self) -> Vec<u8> {
        self.served("1.root.json")
    }

    /// Serves the repository as it is now, beside what was served before.
    pub(crate) fn publish(&mut self) {
        self.publish_with(|_| {}, |_| {});
    }

    /// The same, with the lists changed before they are signed.
    pub(crate) fn publish_with(
        &mut self,
        edit_snapshot: impl FnOnce(&mut Value),
        edit_timestamp: impl FnOnce(&mut Value),
    ) {
        let Repo { roots, timestamp, snapshot, roles, .. } = &mut self.repo;
        for file in roots.values_mut().chain(roles.values_mut()).chain([timestamp, snapshot]) {
            if BUILT.iter().any(|built| file.signed["expires"] == *built) {
                file.signed["expires"] = json!(hours(24 * 30));
            }
        }
        let sealed = self.repo.seal_with(edit_snapshot, edit_timestamp);
        for (version, bytes) in &sealed.roots {
            self.serve(&format!("{version}.root.json"), bytes);
        }
        for (role, bytes) in &sealed.roles {
            let file: Value = serde_json::from_slice(bytes).expect("JSON");
            let name = file_name(role);
            self.serve(&format!("{}.{name}.json", file["signed"]["version"]), bytes);
            self.serve(&format!("{name}.json"), bytes);
        }
    }

    /// Raises the versions of these roles, and serves everything.
    pub(crate) fn publish_next(&mut self, roles: &[&str]) {
        for role in roles {
            self.bump(role);
        }
        self.publish();
    }

    pub(crate) fn bump(&mut self, role: &str) {
        if role == "root" {
            self.repo.rotate();
            return;
        }
        let version = self.repo.role(role).signed["version"].as_u64().expect("a version");
        self.repo.set(role, "version", json!(version + 1));
    }

    /// Serves a metadata file, whatever it is.
    pub(crate) fn serve(&self, name: &str, bytes: &[u8]) {
        self.put(&format!("/metadata/{name}"), bytes);
    }

    pub(crate) fn served(&self, name: &str) -> Vec<u8> {
        self.shared.files.lock().expect("files")[&format!("/metadata/{name}")].clone()
    }

    pub(crate) fn stop_serving(&self, name: &str) {
        self.shared.files.lock().expect("files").remove(&format!("/metadata/{name}"));
    }

    /// Serves a target file by a path that is escaped already.
    pub(crate) fn serve_target(&self, path: &str, bytes: &[u8]) {
        self.put(&format!("/targets/{path}"), bytes);
    }

    fn put(&self, path: &str, bytes: &[u8]) {
        self.shared.files.lock().expect("files").insert(path.to_owned(), bytes.to_owned());
    }

    /// Lists a target in a role, and serves it under its hash.
    pub(crate) fn sign(&mut self, role: &str, name: &str, bytes: &[u8]) {
        self.list(role, name, bytes, &["sha256"]);
        self.serve_target(&prefixed(name, &hex(&sha256(bytes))), bytes);
    }

    /// Lists a target in a role by these hashes.
    pub(crate) fn list(&mut self, role: &str, name: &str, bytes: &[u8], hashes: &[&str]) {
        let hash = |algorithm: &&str| {
            let hash =
                if *algorithm == "sha256" { hex(&sha256(bytes)) } else { hex(&sha512(bytes)) };
            ((*algorithm).to_owned(), json!(hash))
        };
        let hashes = Value::Object(hashes.iter().map(hash).collect());
        let File { signed, .. } = self.repo.role(role);
        signed["targets"][name] = json!({"length": bytes.len(), "hashes": hashes});
    }

    /// What was asked for since the last call, in order; target files with `targets/`.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.shared.asked.lock().expect("asked"));
        let short =
            |path: &String| path.trim_start_matches("/metadata").trim_start_matches('/').to_owned();
        asked.iter().map(short).collect()
    }

    /// The target files among these.
    pub(crate) fn asked_targets(&self) -> Vec<String> {
        let asked = self.asked().into_iter();
        asked.filter_map(|path| path.strip_prefix("targets/").map(str::to_owned)).collect()
    }
}

/// The path of a target of this hash.
pub(crate) fn prefixed(name: &str, hash: &str) -> String {
    match name.rsplit_once('/') {
        Some((folder, file)) => format!("{folder}/{hash}.{file}"),
        None => format!("{hash}.{name}"),
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    shared.asked.lock().expect("asked").push(uri.path().to_owned());
    match shared.files.lock().expect("files").get(uri.path()).cloned() {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
