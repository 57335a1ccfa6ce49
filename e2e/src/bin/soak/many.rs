//! A source of a thousand repositories, more and more of which are used, until all are: they have to
//! be remembered and refreshed.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_e2e::Outcome;
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::serve::Served;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use crate::builder::{Repo, digest};
use crate::signer::Cert;

pub(crate) const SOURCE: &str = "many";

const REPOSITORIES: usize = 1_000;

/// After so many reviews another repository is used. Reviews come every 20 ms or slower, so that all
/// are used in the first quarter of an hour.
const GROWS_AFTER: usize = 16;

/// Nobody asks this registry: images are named by digest.
const HOST: &str = "many.example";

/// Longer than any soak.
const EXPIRES: SignedDuration = SignedDuration::from_hours(30 * 24);

type Files = HashMap<String, Vec<u8>>;

pub(crate) struct Many {
    served: Served,
    /// Of every repository's root.
    public_key: String,
}

impl Many {
    pub(crate) fn start(authority: &Authority) -> Outcome<Self> {
        let mut repo = Repo::new("");
        let (expires, mut files) = (Timestamp::now() + EXPIRES, Files::new());
        for number in 0..REPOSITORIES {
            sign(&mut repo, &name(number), expires, &mut files);
        }
        let router = Router::new().fallback(answer).with_state(Arc::new(files));
        Ok(Self {
            served: Served::start(router, &authority.server("many")?)?,
            public_key: pem(&repo.root_key.spki()),
        })
    }

    /// Refreshed as by default.
    pub(crate) fn source(&self, authority: &Authority) -> Source {
        let mut source = Source::new(SOURCE, self.served.url(), &authority.pem());
        source.refresh_after = 60;
        source.pin("all", &format!("{HOST}/**"), &self.public_key)
    }

    pub(crate) fn policy() -> Policy {
        Policy::new(SOURCE, &format!("{HOST}/**"), SOURCE)
    }
}

/// The signed image that the review of this number names: now and then of a repository that was not
/// used before, else of any that was.
pub(crate) fn image(number: usize) -> String {
    let used = (number / GROWS_AFTER + 1).min(REPOSITORIES);
    let which = if number.is_multiple_of(GROWS_AFTER) { used - 1 } else { number * 7919 % used };
    format!("{}@{}", name(which), digest("many"))
}

fn name(number: usize) -> String {
    format!("{HOST}/team/app-{number}")
}

/// Signs the image in the repository of this name, with its root's key.
fn sign(repo: &mut Repo, name: &str, expires: Timestamp, files: &mut Files) {
    let cert = Cert { from: (2020, 1, 1), until: (2100, 1, 1), ..Cert::named(name) };
    repo.root_key = repo.root_key.certified(&cert);
    let root = repo.root(1, std::slice::from_ref(&repo.root_key), 1);
    repo.roots.insert(1, root);
    repo.targets(&[("1.0", "many")]);
    for role in ["root", "timestamp", "snapshot", "targets"] {
        repo.set(role, "expires", json!(expires.to_string()));
    }
    let sealed = repo.seal();
    let mut add = |role: &str, bytes: &[u8]| {
        files.insert(format!("/v2/{name}/_trust/tuf/{role}.json"), bytes.to_vec());
    };
    add("root", sealed.root());
    add("timestamp", &sealed.timestamp);
    add("snapshot", &sealed.snapshot);
    add("targets", &sealed.roles["targets"]);
}

async fn answer(State(files): State<Arc<Files>>, uri: Uri) -> Result<Vec<u8>, StatusCode> {
    files.get(uri.path()).cloned().ok_or(StatusCode::NOT_FOUND)
}

fn pem(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    format!("-----BEGIN PUBLIC KEY-----\n{text}\n-----END PUBLIC KEY-----\n")
}
