//! Publishes a repository's folder over HTTP or HTTPS.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use crate::Outcome;
use crate::pki::Authority;
use crate::place::Place;
use crate::serve::Served;

/// A server of the folders `metadata` and `targets` of a repository, as they are at each moment.
/// A [`crate::front::Front`] before it makes a bad one of it.
pub struct TufServer {
    served: Served,
    state: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    reads: Mutex<Vec<String>>,
}

impl TufServer {
    /// Serves the folder over TLS on loopback.
    pub fn start(folder: &Path, authority: &Authority) -> Outcome<Self> {
        Self::start_at(Place::LOOPBACK, folder, authority)
    }

    /// As [`Self::start`], at this place.
    pub fn start_at(place: Place, folder: &Path, authority: &Authority) -> Outcome<Self> {
        let identity = authority.server_as("tuf", &[place.name()])?;
        let (router, state) = router(folder);
        Ok(Self { served: Served::start_at(place, router, &identity)?, state })
    }

    /// Serves the folder on loopback without TLS.
    pub fn plain(folder: &Path) -> Outcome<Self> {
        let (router, state) = router(folder);
        Ok(Self { served: Served::plain(router)?, state })
    }

    /// Its address, with neither path nor slash.
    pub fn url(&self) -> &str {
        self.served.url()
    }

    /// Where its metadata is.
    pub fn metadata_url(&self) -> String {
        format!("{}/metadata/", self.url())
    }

    /// Where its target files are.
    pub fn targets_url(&self) -> String {
        format!("{}/targets/", self.url())
    }

    /// The paths read so far, in order, as they were asked for.
    pub fn reads(&self) -> Vec<String> {
        self.state.reads.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn router(folder: &Path) -> (Router, Arc<Shared>) {
    let state = Arc::new(Shared { folder: folder.to_owned(), reads: Mutex::default() });
    (Router::new().fallback(answer).with_state(Arc::clone(&state)), state)
}

async fn answer(State(state): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path();
    state.reads.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    match find(&state.folder, path) {
        Some(bytes) => bytes.into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn find(folder: &Path, path: &str) -> Option<Bytes> {
    let public = path.starts_with("/metadata/") || path.starts_with("/targets/");
    if !public || path.split('/').any(|part| part == "..") {
        return None; // never the keys
    }
    // The tools escape role names in the names of files, and servers differ in whether they
    // look for them as they stand in the URL or decoded: both are found here.
    let names = [path.to_owned(), decoded(path)?];
    names.iter().find_map(|name| std::fs::read(folder.join(&name[1..])).ok()).map(Bytes::from)
}

fn decoded(path: &str) -> Option<String> {
    let (mut bytes, mut rest) = (Vec::new(), path.as_bytes());
    while let [first, after @ ..] = rest {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        bytes.push(u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?);
        rest = after;
    }
    let path = String::from_utf8(bytes).ok()?;
    (!path.split('/').any(|part| part == "..")).then_some(path)
}
