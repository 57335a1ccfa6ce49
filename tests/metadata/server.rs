//! A Notary server that has files, and says what it was asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use tokio::net::TcpListener;
use tokio::sync::watch;
use url::Url;

use crate::builder::{Files, sha256};

#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    held: watch::Sender<bool>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let shared = Arc::new(Shared::default());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("an address");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared }
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}", self.address).parse().expect("a URL")
    }

    /// Has the files, also by their hashes.
    pub(crate) fn serve(&self, gun: &str, files: &Files) {
        let mut all = HashMap::new();
        let mut add = |name: &str, bytes: &[u8]| {
            let path = |name: &str| format!("/v2/{gun}/_trust/tuf/{name}.json");
            let hash: String = sha256(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
            all.insert(path(name), bytes.to_vec());
            all.insert(path(&format!("{name}.{hash}")), bytes.to_vec());
        };
        add("root", files.root());
        files.roots.iter().for_each(|(version, bytes)| add(&format!("{version}.root"), bytes));
        add("timestamp", &files.timestamp);
        add("snapshot", &files.snapshot);
        files.roles.iter().for_each(|(role, bytes)| add(role, bytes));
        *self.shared.files.lock().expect("files") = all;
    }

    /// Answers nothing until it is released.
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// The paths, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().expect("asked").clone()
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    shared.asked.lock().expect("asked").push(uri.path().to_owned());
    let _ = shared.held.subscribe().wait_for(|held| !held).await;
    let file = shared.files.lock().expect("files").get(uri.path()).cloned();
    file.map_or_else(|| StatusCode::NOT_FOUND.into_response(), IntoResponse::into_response)
}
