//! A server in front of a notary-server, or any other one, that behaves as mirrors do when they are
//! down, frozen, slow, or lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::pki::Authority;
use crate::place::Place;
use crate::serve::Served;
use crate::{Outcome, http};

/// Largest body passed on, in bytes.
const BODY_BYTES: usize = 16 << 20;

/// What a [`Front`] does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes them on.
    Forward,
    /// Answers 503.
    Down,
    /// Answers reads as they were last answered before, and nothing else: a frozen mirror.
    Frozen,
    /// Answers 200 and bytes that are no metadata.
    Garbage,
    /// Never answers.
    Silent,
}

/// A server in front of another one.
pub struct Front {
    served: Served,
    state: Arc<Shared>,
}

struct Shared {
    upstream: String,
    client: reqwest::Client,
    inner: Mutex<Inner>,
}

struct Inner {
    mode: Mode,
    answers: BTreeMap<String, (StatusCode, Bytes)>,
    overrides: BTreeMap<String, Bytes>,
    reads: Vec<String>,
}

impl Front {
    /// Starts a server that passes requests on to `upstream`, whose certificate is from the same
    /// authority.
    pub fn start(upstream: &str, authority: &Authority) -> Outcome<Self> {
        Self::start_at(Place::LOOPBACK, upstream, authority)
    }

    /// As [`Self::start`], at this place.
    pub fn start_at(place: Place, upstream: &str, authority: &Authority) -> Outcome<Self> {
        let state = Arc::new(Shared {
            upstream: upstream.to_owned(),
            client: http::async_client(authority.certificate())?,
            inner: Mutex::new(Inner {
                mode: Mode::Forward,
                answers: BTreeMap::new(),
                overrides: BTreeMap::new(),
                reads: Vec::new(),
            }),
        });
        let router = Router::new().fallback(answer).with_state(Arc::clone(&state));
        let served =
            Served::start_at(place, router, &authority.server_as("front", &[place.name()])?)?;
        Ok(Self { served, state })
    }

    /// Its address: `https://localhost:PORT`.
    pub fn url(&self) -> &str {
        self.served.url()
    }

    /// From now on does this.
    pub fn set(&self, mode: Mode) {
        self.state.inner().mode = mode;
    }

    /// Every successful answer to a read of a repository's files so far, the last one of each
    /// path: what a mirror that replays has.
    pub fn recorded(&self, gun: &str) -> Vec<(String, Bytes)> {
        let files = format!("/v2/{gun}/_trust/");
        let inner = self.state.inner();
        let answers = inner.answers.iter().filter(|(path, _)| path.starts_with(&files));
        let good = answers.filter(|(_, (status, _))| status.is_success());
        good.map(|(path, (_, bytes))| (path.clone(), bytes.clone())).collect()
    }

    /// Answers reads of this path with `bytes`, whatever the mode.
    pub fn answer_with(&self, path: &str, bytes: Bytes) {
        self.state.inner().overrides.insert(path.to_owned(), bytes);
    }

    /// Answers reads by the mode again.
    pub fn answer_as_before(&self) {
        self.state.inner().overrides.clear();
    }

    /// The paths read so far, in order.
    pub fn reads(&self) -> Vec<String> {
        self.state.inner().reads.clone()
    }
}

/// The path of a repository's file, as `targets/releases`.
pub fn path(gun: &str, role: &str) -> String {
    format!("/v2/{gun}/_trust/tuf/{role}.json")
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer that needs no upstream, if there is one.
    fn own(&self, read: bool, path: &str) -> Result<Response, Mode> {
        let mut inner = self.inner();
        if read {
            inner.reads.push(path.to_owned());
        }
        if let Some(bytes) = inner.overrides.get(path) {
            return Ok(bytes.clone().into_response());
        }
        match inner.mode {
            Mode::Down => Ok(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Mode::Garbage => Ok("<html>It works!</html>".into_response()),
            Mode::Frozen => Ok(match inner.answers.get(path) {
                Some(answer) => answer.clone().into_response(),
                None => StatusCode::NOT_FOUND.into_response(),
            }),
            mode => Err(mode),
        }
    }

    async fn forward(&self, read: bool, request: Request) -> Outcome<Response> {
        let (parts, body) = request.into_parts();
        // HTTP/2 requests carry their whole address, HTTP/1.1 ones only its path.
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
        let url = format!("{}{target}", self.upstream);
        let mut headers = parts.headers;
        headers.remove("host");
        let body = to_bytes(body, BODY_BYTES).await?;
        let sent =
            self.client.request(parts.method, url).headers(headers).body(body).send().await?;
        let (status, mut headers) = (sent.status(), sent.headers().clone());
        // The body goes out in one piece, however it came (RFC 9112, 6.1).
        headers.remove("transfer-encoding");
        let bytes = sent.bytes().await?;
        if read {
            let path = parts.uri.path().to_owned();
            self.inner().answers.insert(path, (status, bytes.clone()));
        }
        let mut answer = Response::new(Body::from(bytes));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

async fn answer(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let read = request.method() == "GET";
    match state.own(read, request.uri().path()) {
        Ok(answer) => answer,
        Err(Mode::Silent) => {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            StatusCode::GATEWAY_TIMEOUT.into_response()
        }
        Err(_) => state.forward(read, request).await.unwrap_or_else(|failure| {
            (StatusCode::BAD_GATEWAY, failure.to_string()).into_response()
        }),
    }
}
