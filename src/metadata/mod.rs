//! Live repositories: fetched, verified, swapped in whole, kept fresh, and what is remembered of
//! them.

mod figures;
mod gate;
mod heavy;
mod memory;
mod notary;
mod refresh;
mod set;
pub mod tuf;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_verify::notary::{Memory, Repository};
use countersign_verify::outcome::{Refusal, Unavailable};
use moka::sync::Cache;
use tokio::time::{Instant, timeout};
use url::Url;

use crate::api::{Connection, Source};
use crate::clock::Clock;
use crate::http::{Basic, Endpoint, EndpointConfig, EndpointError};
use crate::singleflight::SingleFlight;

use figures::Counts;
pub use figures::Figures;
use gate::Gate;
pub use memory::{MemoryError, MemoryStore};
pub(crate) use memory::{Place, Remembered};
use notary::Fetched;
use set::{Attention, Set};

/// How long one update of a repository may take once it has begun, whoever waits for it and for
/// how long; and how long it may wait for its turn.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a review waits for the refresh of a set that could answer without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the refusal of a failed update is given again where nothing else can answer: a source
/// that is back, or a repository that has been signed, is seen within it.
const NEGATIVE_LIFE: Duration = Duration::from_secs(1);

/// Refusals that are given again.
const ANSWERS: u64 = 10_000;

/// Memory for the sets at hand, in bytes, where nothing else is configured. A repository has
/// kilobytes, so these are thousands.
pub const DEFAULT_BYTES: u64 = 256 << 20;

/// Connections to sources kept at hand.
const ENDPOINTS: u64 = 1_000;

/// A repository in a source, and the roles worth fetching with its first files.
#[derive(Debug, Clone)]
pub struct Live {
    /// The source.
    pub source: Arc<Source>,
    /// `registry/repository`.
    pub repository: String,
    /// Delegated roles that the policies name.
    pub roles: BTreeSet<String>,
}

/// The source's fingerprint, so that a set that was read through another URL, CA or pin never
/// answers for it; and the repository.
type Key = ([u8; 32], String);

impl Live {
    fn key(&self) -> Key {
        (self.source.fingerprint, self.repository.clone())
    }
}

/// The verified metadata of every repository in use. Cheap to clone.
#[derive(Clone)]
pub struct Repositories {
    shared: Arc<Shared>,
}

struct Shared {
    sets: Cache<Key, Arc<Set>>,
    /// Of updates that made no set.
    answers: Cache<Key, (Instant, Result<Arc<Repository>, Refusal>)>,
    flights: SingleFlight<Key, Result<Arc<Repository>, Refusal>>,
    endpoints: Cache<[u8; 32], Endpoint>,
    memory: MemoryStore,
    gate: Gate,
    counts: Counts,
    clock: Arc<Clock>,
}

impl Repositories {
    /// Remembers in `memory` and reads the time from `clock`; keeps [`DEFAULT_BYTES`].
    pub fn new(memory: MemoryStore, clock: Arc<Clock>) -> Self {
        Self::keeping(DEFAULT_BYTES, memory, clock)
    }

    /// The same, with about so many bytes of memory for the sets at hand.
    pub fn keeping(bytes: u64, memory: MemoryStore, clock: Arc<Clock>) -> Self {
        let weight = |_: &Key, set: &Arc<Set>| set.weight();
        let shared = Shared {
            sets: Cache::builder().max_capacity(bytes).weigher(weight).build(),
            answers: Cache::new(ANSWERS),
            flights: SingleFlight::default(),
            endpoints: Cache::new(ENDPOINTS),
            memory,
            gate: Gate::default(),
            counts: Counts::default(),
            clock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The repository's metadata where it is at hand, unexpired, and recent enough or not to be
    /// had anew at the moment. No I/O. Whoever asks keeps it fresh.
    pub fn current(&self, live: &Live) -> Option<Arc<Repository>> {
        let set = self.shared.sets.get(&live.key())?;
        let now = Instant::now();
        set.attention.is_paid(&live.source, now);
        set.is_current(&live.source, now, self.shared.clock.now())
            .then(|| Arc::clone(&set.repository))
    }

    /// Fetches and verifies the repository's metadata. Callers at the same time share one update,
    /// which goes on when they no longer wait. While updates fail, or take long, an older set
    /// answers for as long as it may.
    pub async fn update(&self, live: &Live) -> Result<Arc<Repository>, Refusal> {
        if let Some(answer) = self.shared.answered(live) {
            return answer;
        }
        let shared = Arc::clone(&self.shared);
        let wanted = live.clone();
        let update = move || async move { shared.asked(&wanted).await };
        let update = self.shared.flights.run(live.key(), update);
        let done = match self.without_update(live) {
            None => update.await,
            Some(_) => match timeout(PATIENCE, update).await {
                Ok(done) => done,
                Err(_) => return self.shared.excused(live),
            },
        };
        done.unwrap_or_else(|stopped| Err(unavailable(live, &stopped).into()))
    }

    /// What is to be answered if no update ends in time: the set at hand, or that it is too old;
    /// `None` where there is none.
    pub fn without_update(&self, live: &Live) -> Option<Result<Arc<Repository>, Refusal>> {
        self.shared.without_update(live)
    }

    /// Drops the sets of all sources but these, and stops refreshing them.
    pub fn retain(&self, fingerprints: &BTreeSet<[u8; 32]>) {
        let gone = |key: &Key| !fingerprints.contains(&key.0);
        let keys = self.shared.sets.iter().map(|(key, _)| key).filter(|key| gone(key));
        keys.for_each(|key| self.shared.sets.invalidate(&*key));
    }

    /// How the sets at hand are.
    pub fn figures(&self) -> Figures {
        self.shared.figures()
    }
}

impl Shared {
    fn without_update(&self, live: &Live) -> Option<Result<Arc<Repository>, Refusal>> {
        let set = self.sets.get(&live.key())?;
        set.without_update(&live.source, Instant::now(), self.clock.now())
    }

    /// The answer of an update that has just failed.
    fn answered(&self, live: &Live) -> Option<Result<Arc<Repository>, Refusal>> {
        let (since, answer) = self.answers.get(&live.key())?;
        (since.elapsed() < NEGATIVE_LIFE).then_some(answer)
    }

    /// What is answered where an update takes long; who asks next does not wait for it again.
    fn excused(&self, live: &Live) -> Result<Arc<Repository>, Refusal> {
        if let Some(set) = self.sets.get(&live.key()) {
            set.excuse(Instant::now(), UPDATE_TIMEOUT);
        }
        self.without_update(live).unwrap_or(Err(Unavailable::DeadlineExceeded.into()))
    }

    /// An update that a review waits for.
    async fn asked(self: &Arc<Self>, live: &Live) -> Result<Arc<Repository>, Refusal> {
        // Whoever asked just after the last update ended finds its result.
        if let Some(set) = self.sets.get(&live.key())
            && set.is_current(&live.source, Instant::now(), self.clock.now())
        {
            return Ok(Arc::clone(&set.repository));
        }
        let waited = timeout(UPDATE_TIMEOUT, self.gate.enter(live.source.url.authority())).await;
        match waited.unwrap_or(Err(Unavailable::Overloaded)) {
            Ok(_turn) => self.renew(live).await,
            Err(overloaded) => self.without_update(live).unwrap_or(Err(overloaded.into())),
        }
    }

    /// An update, and what is answered after it, however it ends. Never extends trust: only a
    /// complete update makes the set at hand younger.
    async fn renew(self: &Arc<Self>, live: &Live) -> Result<Arc<Repository>, Refusal> {
        let (begun, _running) = (Instant::now(), self.counts.begun());
        let before = self.sets.get(&live.key());
        match self.fetch(live, before.as_deref(), begun + UPDATE_TIMEOUT).await {
            Ok(Fetched::New(new)) if new.repository.is_complete() => {
                self.counts.updated();
                let repository = Arc::new(new.repository);
                self.put(live, Arc::clone(&repository), Arc::new(new.files), begun);
                Ok(repository)
            }
            Ok(Fetched::Unchanged(set)) => {
                self.counts.unchanged();
                self.put(live, Arc::clone(&set.repository), Arc::clone(&set.files), begun);
                Ok(Arc::clone(&set.repository))
            }
            // A role that could not be fetched may be there for the next review.
            Ok(Fetched::New(new)) => {
                let cause = "a delegated role could not be read";
                self.failed(live, "SourceUnavailable", cause);
                if let Some(Ok(older)) = self.without_update(live) {
                    return Ok(older);
                }
                let answer = Ok(Arc::new(new.repository));
                self.answers.insert(live.key(), (Instant::now(), answer.clone()));
                answer
            }
            Err(refusal) => {
                self.failed(live, refusal.code(), &cause(&refusal));
                let answer = self.without_update(live).unwrap_or(Err(refusal));
                if answer.is_err() {
                    self.answers.insert(live.key(), (Instant::now(), answer.clone()));
                }
                answer
            }
        }
    }

    fn failed(&self, live: &Live, code: &'static str, cause: &str) {
        self.counts.failed();
        let set = self.sets.get(&live.key());
        let is_news = set.is_none_or(|set| set.failed(Instant::now(), code));
        let (source, repository) = (&live.source.name, &live.repository);
        // An outage is told once a set, not once an attempt; what it turns into, again.
        if is_news {
            tracing::warn!(source, repository, code, cause, "metadata was not updated");
        } else {
            tracing::debug!(source, repository, code, cause, "metadata was not updated");
        }
    }

    /// Swaps a set in, and tells the warnings that the one before did not have.
    fn put(
        self: &Arc<Self>,
        live: &Live,
        repository: Arc<Repository>,
        files: Arc<set::Kept>,
        complete: Instant,
    ) {
        let key = live.key();
        let before = self.sets.get(&key);
        let told = before.as_ref().map_or(&[][..], |set| set.repository.warnings());
        let (source, name) = (&live.source.name, &live.repository);
        for warning in repository.warnings().iter().filter(|warning| !told.contains(warning)) {
            tracing::warn!(source, repository = name, "{warning}");
        }
        if before.as_ref().is_some_and(|set| set.failures() > 0) {
            tracing::info!(source, repository = name, "metadata is updated again");
        }
        let attention = before.map(|set| Arc::clone(&set.attention));
        let is_new = attention.is_none();
        let attention =
            attention.unwrap_or_else(|| Arc::new(Attention::new(&live.source, Instant::now())));
        let set = Set::new(live.clone(), repository, files, complete, Arc::clone(&attention));
        self.sets.insert(key.clone(), Arc::new(set));
        if is_new {
            let (shared, cared_for) = (Arc::downgrade(self), Arc::downgrade(&attention));
            let keeper = tokio::spawn(refresh::keep(shared, key, cared_for));
            attention.keep_by(keeper.abort_handle());
        }
    }

    async fn fetch<'s>(
        &self,
        live: &Live,
        at_hand: Option<&'s Set>,
        deadline: Instant,
    ) -> Result<Fetched<'s>, Refusal> {
        let pin = live.source.pins.find(&live.repository)?;
        if let Some(why) = &live.source.connection.unread {
            return Err(unavailable(live, why).into());
        }
        let endpoint = self.endpoint(live)?;
        let place = Place {
            source: live.source.name.clone(),
            repository: live.repository.clone(),
            anchor: pin.anchor(),
        };
        let remembered = self.load(live, &place).await?;
        let update = notary::Fetch::new(&endpoint, live, pin, deadline);
        let now = self.clock.now();
        let (memory, fetched) = update.run(&remembered.memory, at_hand, now).await;
        // Every verified step sticks, also of an update that fails later on, and before the new
        // set answers.
        let newest = self.raise(live, &place, &remembered, memory).await?;
        let fetched = fetched.and_then(|fetched| {
            let repository = match &fetched {
                Fetched::New(new) => &new.repository,
                Fetched::Unchanged(set) => &*set.repository,
            };
            if repository.superseded_by(&newest) {
                let cause =
                    "another process has verified newer metadata than was fetched; try again";
                return Err(unavailable(live, &cause).into());
            }
            Ok(fetched)
        });
        let replaced = matches!(&fetched, Ok(Fetched::New(new)) if new.repository.is_complete());
        if !replaced && at_hand.is_some_and(|set| set.repository.superseded_by(&newest)) {
            self.sets.invalidate(&live.key());
        }
        fetched
    }

    async fn load(&self, live: &Live, place: &Place) -> Result<Remembered, Unavailable> {
        self.memory.load(place).await.map_err(|error| unavailable(live, &error))
    }

    async fn raise(
        &self,
        live: &Live,
        place: &Place,
        loaded: &Remembered,
        memory: Memory,
    ) -> Result<Memory, Unavailable> {
        let raised = self.memory.raise(place, loaded, memory).await;
        raised.map_err(|error| unavailable(live, &error))
    }

    fn endpoint(&self, live: &Live) -> Result<Endpoint, Unavailable> {
        let source = &live.source;
        self.endpoints
            .try_get_with(source.fingerprint, || endpoint(&source.url, &source.connection))
            .map_err(|error| unavailable(live, &error))
    }
}

/// A source's server.
pub fn endpoint(url: &Url, connection: &Connection) -> Result<Endpoint, EndpointError> {
    Endpoint::new(EndpointConfig {
        base: origin(url),
        ca_pem: connection.ca_pem.clone(),
        credentials: connection.credentials.as_ref().map(|credentials| Basic {
            username: credentials.username.clone(),
            password: credentials.password.clone(),
        }),
        token_hosts: connection.token_hosts.clone(),
    })
}

/// Scheme, host and port.
fn origin(url: &Url) -> Url {
    let mut origin = url.clone();
    origin.set_path("/");
    origin
}

fn unavailable(live: &Live, cause: &dyn std::fmt::Display) -> Unavailable {
    Unavailable::SourceUnavailable {
        source_name: live.source.name.clone(),
        cause: cause.to_string(),
    }
}

/// What a refusal rests on, for the logs: more than its text for users tells.
pub fn cause(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Unavailable(unavailable) => unavailable
            .cause()
            .map_or_else(|| refusal.to_string(), |cause| format!("{refusal}: {cause}")),
        Refusal::Denied(_) => refusal.to_string(),
    }
}

#[cfg(test)]
mod tests;
