//! A server in front of a notary-server, a registry or any other one, that behaves as these do when
//! they are down, frozen, slow, busy or broken, or lie.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::{Value, json};

use crate::pki::{Authority, Identity};
use crate::place::Place;
use crate::serve::Served;
use crate::{Failure, Outcome, http};

/// Largest body passed on, in bytes.
const BODY_BYTES: usize = 16 << 20;

/// What a [`Front`] does with requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes them on.
    Forward,
    /// Answers 503.
    Down,
    /// Answers 429, and asks for so many seconds of rest.
    Busy(u32),
    /// Answers reads as they were last answered before, and nothing else: a frozen mirror.
    Frozen,
    /// Answers 200 and a page for people.
    Garbage,
    /// Passes them on, and changes what is said.
    Altered,
    /// Passes them on, and breaks off in the middle of the answer.
    Truncated,
    /// Passes them on, and lets one byte of the answer through a second.
    Slow,
    /// Passes them on after so many milliseconds.
    Late(u64),
    /// Never answers.
    Silent,
}

/// A server in front of another one.
pub struct Front {
    served: Served,
    state: Arc<Shared>,
    identity: Identity,
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
        let identity = authority.server_as(&format!("front-{}", place.name()), &[place.name()])?;
        let served = Served::start_at(place, router, &identity)?;
        Ok(Self { served, state, identity })
    }

    /// Its address: `https://localhost:PORT`.
    pub fn url(&self) -> &str {
        self.served.url()
    }

    /// The host and port of [`Self::url`].
    pub fn host(&self) -> &str {
        self.served.host()
    }

    /// The port of [`Self::url`].
    pub fn port(&self) -> u16 {
        self.served.port()
    }

    /// Ends all connections, and refuses new ones.
    pub fn close(&mut self) {
        self.served.close();
    }

    /// Ends all connections; new ones are taken, and that is all that is ever heard on them.
    pub fn mute(&mut self) -> Outcome<()> {
        self.served.mute()
    }

    /// Ends all connections, and shows this certificate on new ones.
    pub fn show(&mut self, identity: &Identity) -> Outcome<()> {
        self.served.open(identity)
    }

    /// Ends all connections, and is as it was at first.
    pub fn restart(&mut self) -> Outcome<()> {
        self.set(Mode::Forward);
        self.served.open(&self.identity)
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
        let (mode, html) = (inner.mode, [(CONTENT_TYPE, "text/html")]);
        match mode {
            Mode::Down => Ok(StatusCode::SERVICE_UNAVAILABLE.into_response()),
            Mode::Busy(seconds) => {
                let wanted = [(RETRY_AFTER, seconds.to_string())];
                Ok((StatusCode::TOO_MANY_REQUESTS, wanted).into_response())
            }
            Mode::Garbage => Ok((html, "<html>It works!</html>").into_response()),
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
            // A copy: the bytes as they came hold on to all that was read from the connection.
            self.inner().answers.insert(path, (status, Bytes::copy_from_slice(&bytes)));
        }
        let mut answer = Response::new(Body::from(bytes));
        *answer.status_mut() = status;
        *answer.headers_mut() = headers;
        Ok(answer)
    }
}

async fn answer(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let read = request.method() == "GET";
    let mode = match state.own(read, request.uri().path()) {
        Ok(answer) => return answer,
        Err(mode) => mode,
    };
    let spoils = matches!(mode, Mode::Altered | Mode::Truncated | Mode::Slow);
    match mode {
        Mode::Silent => tokio::time::sleep(Duration::from_secs(3600)).await,
        Mode::Late(millis) => tokio::time::sleep(Duration::from_millis(millis)).await,
        _ => {}
    }
    // So that bodies are asked for: only these can be spoilt.
    if spoils && request.method() == "HEAD" {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    match state.forward(read, request).await {
        Ok(answer) if spoils => spoilt(mode, answer).await.unwrap_or_else(failed),
        Ok(answer) => answer,
        Err(failure) => failed(failure),
    }
}

fn failed(failure: Failure) -> Response {
    (StatusCode::BAD_GATEWAY, failure.to_string()).into_response()
}

async fn spoilt(mode: Mode, answer: Response) -> Outcome<Response> {
    let (head, body) = answer.into_parts();
    let bytes = to_bytes(body, BODY_BYTES).await?;
    let half = bytes.slice(..bytes.len() / 2);
    let body = match mode {
        Mode::Altered => altered(&bytes)?.into(),
        Mode::Truncated => {
            let broken = Err(std::io::Error::other("broken off"));
            Body::from_stream(stream::iter([Ok(half), broken]))
        }
        _ => Body::from_stream(stream::unfold(bytes, |mut left| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            let first = (!left.is_empty()).then(|| left.split_to(1))?;
            Some((Ok::<_, std::io::Error>(first), left))
        })),
    };
    let mut answer = Response::from_parts(head, body);
    if mode == Mode::Altered {
        answer.headers_mut().remove(CONTENT_LENGTH);
    }
    Ok(answer)
}

/// Well-formed, and another than was signed or named by its digest.
fn altered(bytes: &[u8]) -> Outcome<String> {
    let mut document: Value = serde_json::from_slice(bytes)?;
    match document.get_mut("signed") {
        Some(signed) => signed["version"] = (signed["version"].as_u64().unwrap_or(0) + 1).into(),
        None => document["annotations"] = json!({"altered": "yes"}),
    }
    Ok(document.to_string())
}
