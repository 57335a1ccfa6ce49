//! A server that has a repository's files, and says what it was asked for.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use countersign_verify::tuf::file_name;
use futures_util::{StreamExt as _, stream};
use tokio::net::TcpListener;
use tokio::sync::watch;
use url::Url;

use crate::builder::Files;

/// How it answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Manner {
    /// With the files that it has.
    #[default]
    Honest,
    /// With a page, to everything.
    Page,
    /// With this status, to everything.
    Status(u16),
    /// With nothing, until it is told otherwise.
    Silent,
    /// With the files; for this one with nothing, until it is told otherwise.
    SilentOn(&'static str),
    /// With one byte a second.
    Slow,
    /// With the files; what it does not have is forbidden, as buckets say.
    Bucket,
    /// With the files; of those longer than a MiB, until it is told otherwise, all but the last
    /// byte.
    Withholding,
}

#[derive(Clone)]
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    files: Mutex<HashMap<String, Vec<u8>>>,
    asked: Mutex<Vec<String>>,
    manner: watch::Sender<Manner>,
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

    /// One with these files.
    pub(crate) async fn with(files: &Files) -> Self {
        let server = Self::start().await;
        server.serve(files);
        server
    }

    pub(crate) fn url(&self) -> Url {
        format!("http://{}/metadata/", self.address).parse().expect("a URL")
    }

    /// Has these files, and no others.
    pub(crate) fn serve(&self, files: &Files) {
        let named = named(files);
        let paths = named.into_iter().map(|(name, bytes)| (format!("/metadata/{name}"), bytes));
        *self.shared.files.lock().expect("files") = paths.collect();
    }

    pub(crate) fn answers(&self, manner: Manner) {
        self.shared.manner.send_replace(manner);
    }

    /// The names of the files asked for since the last call, in order.
    pub(crate) fn asked(&self) -> Vec<String> {
        let asked = std::mem::take(&mut *self.shared.asked.lock().expect("asked"));
        asked.iter().map(|path| path.trim_start_matches("/metadata/").to_owned()).collect()
    }
}

/// The files by their names, with versions and without.
pub(crate) fn named(files: &Files) -> Vec<(String, Vec<u8>)> {
    let mut named = Vec::new();
    for (version, bytes) in &files.roots {
        named.push((format!("{version}.root.json"), bytes.clone()));
    }
    for (role, bytes) in &files.roles {
        let file: serde_json::Value = serde_json::from_slice(bytes).expect("JSON");
        let name = file_name(role);
        named.push((format!("{}.{name}.json", file["signed"]["version"]), bytes.clone()));
        named.push((format!("{name}.json"), bytes.clone()));
    }
    named
}

async fn answer(State(shared): State<Arc<Shared>>, uri: Uri) -> Response {
    shared.asked.lock().expect("asked").push(uri.path().to_owned());
    let manner = {
        let mut manner = shared.manner.subscribe();
        let answers = |manner: &Manner| match manner {
            Manner::Silent => false,
            Manner::SilentOn(file) => !uri.path().ends_with(file),
            _ => true,
        };
        *manner.wait_for(answers).await.expect("a manner")
    };
    let file = shared.files.lock().expect("files").get(uri.path()).cloned();
    let missing = if manner == Manner::Bucket { 403 } else { 404 };
    let Some(bytes) = file.filter(|_| !matches!(manner, Manner::Page | Manner::Status(_))) else {
        return match manner {
            Manner::Page => "<!DOCTYPE html><title>It works!</title>".into_response(),
            Manner::Status(status) => status_only(status),
            _ => status_only(missing),
        };
    };
    match manner {
        Manner::Slow => {
            let drip = stream::unfold(bytes.into_iter(), |mut left| async move {
                let byte = left.next()?;
                tokio::time::sleep(Duration::from_secs(1)).await;
                Some((Ok::<_, std::io::Error>(Bytes::from(vec![byte])), left))
            });
            Body::from_stream(drip).into_response()
        }
        Manner::Withholding if bytes.len() > 1 << 20 => {
            let mut told = shared.manner.subscribe();
            let mut file = Bytes::from(bytes);
            let end = file.split_off(file.len() - 1);
            let end = async move {
                let _ = told.wait_for(|manner| *manner != Manner::Withholding).await;
                Ok::<_, std::io::Error>(end)
            };
            Body::from_stream(stream::iter([Ok(file)]).chain(stream::once(end))).into_response()
        }
        _ => bytes.into_response(),
    }
}

fn status_only(status: u16) -> Response {
    StatusCode::from_u16(status).expect("a status").into_response()
}
