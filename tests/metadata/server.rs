//! A Notary server that has files, and says what it was asked for.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header::CONTENT_LENGTH;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use url::Url;

use crate::builder::{Files, sha256};

#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

type Spares = Box<dyn Fn(&str) -> bool + Send>;

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    /// The repositories of which it answers everything with a status.
    failing: Mutex<HashMap<String, StatusCode>>,
    garbage: AtomicBool,
    held: watch::Sender<bool>,
    /// Which paths are answered also while others are held.
    spares: Mutex<Option<Spares>>,
    withheld: watch::Sender<bool>,
    answering: AtomicUsize,
    most_at_once: AtomicUsize,
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

    /// Has the files, also by their hashes, and no others.
    pub(crate) fn serve(&self, gun: &str, files: &Files) {
        self.has_nothing();
        self.serve_too(gun, files);
    }

    /// Has the files too.
    pub(crate) fn serve_too(&self, gun: &str, files: &Files) {
        let mut all = self.shared.files.lock().expect("files");
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
    }

    /// Answers 404 to everything.
    pub(crate) fn has_nothing(&self) {
        self.shared.files.lock().expect("files").clear();
    }

    /// Answers 200 with bytes that are no metadata to everything, or no longer.
    pub(crate) fn lies(&self, lies: bool) {
        self.shared.garbage.store(lies, Ordering::SeqCst);
    }

    /// Answers this status to everything of the repository.
    pub(crate) fn fails(&self, gun: &str, status: u16) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.shared.failing.lock().expect("failing").insert(gun.to_owned(), status);
    }

    /// Answers as before to everything.
    pub(crate) fn works(&self) {
        self.shared.failing.lock().expect("failing").clear();
    }

    /// Answers nothing until it is released.
    pub(crate) fn hold(&self) {
        self.shared.held.send_replace(true);
    }

    /// The same, but for one repository.
    pub(crate) fn hold_all_but(&self, gun: &str) {
        let of_it = format!("/v2/{gun}/_trust/");
        self.hold_but(move |path| path.starts_with(&of_it));
    }

    /// The same of one role's file only, by either name.
    pub(crate) fn hold_only(&self, role: &str) {
        let of_it = format!("/_trust/tuf/{role}.");
        self.hold_but(move |path| !path.contains(&of_it));
    }

    fn hold_but(&self, spares: impl Fn(&str) -> bool + Send + 'static) {
        *self.shared.spares.lock().expect("spares") = Some(Box::new(spares));
        self.hold();
    }

    pub(crate) fn is_held(&self) -> bool {
        *self.shared.held.borrow()
    }

    pub(crate) fn release(&self) {
        self.shared.held.send_replace(false);
    }

    /// Sends of every file that is longer than eight MiB all but its last byte, until it is told
    /// otherwise.
    pub(crate) fn withholds(&self, withholds: bool) {
        self.shared.withheld.send_replace(withholds);
    }

    /// The paths, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.shared.asked.lock().expect("asked").clone()
    }

    /// The names of the files asked for since the last call, in order.
    pub(crate) fn asked_since(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.shared.asked.lock().expect("asked"));
        let name = |path: &String| {
            let (_, file) = path.split_once("/_trust/tuf/").expect("a file of a repository");
            file.trim_end_matches(".json").to_owned()
        };
        asked.iter().map(name).collect()
    }

    /// Most requests that were under way at once so far.
    pub(crate) fn most_at_once(&self) -> usize {
        self.shared.most_at_once.load(Ordering::SeqCst)
    }
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    shared.asked.lock().expect("asked").push(uri.path().to_owned());
    let now = shared.answering.fetch_add(1, Ordering::SeqCst) + 1;
    shared.most_at_once.fetch_max(now, Ordering::SeqCst);
    let spares = |spares: &Spares| spares(uri.path());
    if !shared.spares.lock().expect("spares").as_ref().is_some_and(spares) {
        let _ = shared.held.subscribe().wait_for(|held| !held).await;
    }
    shared.answering.fetch_sub(1, Ordering::SeqCst);
    if shared.garbage.load(Ordering::SeqCst) {
        return "<html>It works!</html>".into_response();
    }
    let gun = uri.path().strip_prefix("/v2/").and_then(|path| path.split_once("/_trust/"));
    let failing = |(gun, _)| shared.failing.lock().expect("failing").get(gun).copied();
    if let Some(status) = gun.and_then(failing) {
        return status.into_response();
    }
    let file = shared.files.lock().expect("files").get(uri.path()).cloned();
    match file.map(Bytes::from) {
        None => StatusCode::NOT_FOUND.into_response(),
        Some(file) if file.len() > 8 << 20 => slow_to_end(&shared, file),
        Some(file) => file.into_response(),
    }
}

fn slow_to_end(shared: &Shared, mut file: Bytes) -> Response {
    let (length, end) = (file.len(), file.split_off(file.len() - 1));
    let mut withheld = shared.withheld.subscribe();
    let end = async move {
        let _ = withheld.wait_for(|withheld| !withheld).await;
        Ok::<_, Infallible>(end)
    };
    let body = stream::iter([Ok(file)]).chain(stream::once(end));
    ([(CONTENT_LENGTH, length)], Body::from_stream(body)).into_response()
}
