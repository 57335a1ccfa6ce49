//! A source of a thousand repositories, more and more of which are used, until all are: they have to
//! be remembered and refreshed.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::{Request, State};
use axum::middleware;
use countersign_e2e::Outcome;
use countersign_e2e::builder::digest;
use countersign_e2e::front;
use countersign_e2e::pki::Authority;
use countersign_e2e::policies::{Policy, Source};
use countersign_e2e::serve::Served;
use countersign_e2e::signed::Signed;
use jiff::{SignedDuration, Timestamp};

pub(crate) const SOURCE: &str = "many";

pub(crate) const REPOSITORIES: usize = 1_000;

/// After so many reviews another repository is used. Reviews come every 20 ms or slower, so that all
/// are used in the first quarter of an hour.
const GROWS_AFTER: usize = 16;

/// Nobody asks this registry: images are named by digest.
const HOST: &str = "many.example";

/// What is signed.
const CONTENT: &str = "many";

/// Longer than any soak.
const EXPIRES: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Paths, in order.
type Reads = Arc<Mutex<Vec<String>>>;

pub(crate) struct Many {
    served: Served,
    /// Of timestamps.
    reads: Reads,
    /// Of every repository's root.
    public_key: String,
}

impl Many {
    pub(crate) fn start(authority: &Authority) -> Outcome<Self> {
        let until = Timestamp::now() + EXPIRES;
        let (signed, public_key) = Signed::many((0..REPOSITORIES).map(name), CONTENT, until);
        let reads = Reads::default();
        let noting = middleware::map_request_with_state(Arc::clone(&reads), note);
        let router = signed.router().layer(noting);
        let served = Served::start(router, &authority.server("many")?)?;
        Ok(Self { served, reads, public_key })
    }

    /// The reads of timestamps since this was asked last: an update has one.
    pub(crate) fn take_reads(&self) -> Vec<String> {
        mem::take(&mut *self.reads.lock().unwrap_or_else(PoisonError::into_inner))
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

async fn note(State(reads): State<Reads>, request: Request) -> Request {
    let path = request.uri().path();
    if path.ends_with("/timestamp.json") {
        reads.lock().unwrap_or_else(PoisonError::into_inner).push(path.to_owned());
    }
    request
}

/// The path at which a repository's timestamp is read.
pub(crate) fn timestamp(repository: &str) -> String {
    front::path(repository, "timestamp")
}

/// The signed image that the review of this number names: now and then of a repository that was not
/// used before, else of any that was.
pub(crate) fn image(number: usize) -> String {
    let used = (number / GROWS_AFTER + 1).min(REPOSITORIES);
    let which = if number.is_multiple_of(GROWS_AFTER) { used - 1 } else { number * 7919 % used };
    format!("{}@{}", name(which), digest(CONTENT))
}

fn name(number: usize) -> String {
    format!("{HOST}/team/app-{number}")
}
