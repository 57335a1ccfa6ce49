//! Live repositories: fetched, verified, swapped in whole, and what is remembered of them.

mod gate;
mod memory;
mod notary;

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

use gate::Gate;
pub use memory::{MemoryError, MemoryStore};
pub(crate) use memory::{Place, Remembered};

/// How long one update of a repository may take once it has begun, whoever waits for it and for
/// how long; and how long it may wait for its turn.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of metadata kept at hand, as files: what is made of them is a few times larger. A
/// repository has kilobytes, so these are thousands.
const KEPT_BYTES: u64 = 256 << 20;

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

struct Entry {
    repository: Arc<Repository>,
    complete: Instant,
}

/// The verified metadata of every repository in use. Cheap to clone.
#[derive(Clone)]
pub struct Repositories {
    shared: Arc<Shared>,
}

struct Shared {
    entries: Cache<Key, Arc<Entry>>,
    flights: SingleFlight<Key, Result<Arc<Repository>, Refusal>>,
    endpoints: Cache<[u8; 32], Endpoint>,
    memory: MemoryStore,
    gate: Gate,
    clock: Arc<Clock>,
}

impl Repositories {
    /// Remembers in `memory` and reads the time from `clock`.
    pub fn new(memory: MemoryStore, clock: Arc<Clock>) -> Self {
        let shared = Shared {
            entries: kept(KEPT_BYTES),
            flights: SingleFlight::default(),
            endpoints: Cache::new(ENDPOINTS),
            memory,
            gate: Gate::default(),
            clock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The repository's metadata where it is at hand, recent enough and unexpired. No I/O.
    pub fn current(&self, live: &Live) -> Option<Arc<Repository>> {
        self.shared.current(live)
    }

    /// Fetches and verifies the repository's metadata. Callers at the same time share one update,
    /// which goes on when they no longer wait.
    pub async fn update(&self, live: &Live) -> Result<Arc<Repository>, Refusal> {
        let shared = Arc::clone(&self.shared);
        let wanted = live.clone();
        let update = move || async move { shared.update(wanted).await };
        self.shared
            .flights
            .run(live.key(), update)
            .await
            .unwrap_or_else(|stopped| Err(unavailable(live, &stopped).into()))
    }
}

/// Keeps repositories by the bytes of their files.
fn kept(bytes: u64) -> Cache<Key, Arc<Entry>> {
    let weight =
        |_: &Key, entry: &Arc<Entry>| u32::try_from(entry.repository.bytes()).unwrap_or(u32::MAX);
    Cache::builder().max_capacity(bytes).weigher(weight).build()
}

impl Shared {
    fn current(&self, live: &Live) -> Option<Arc<Repository>> {
        let entry = self.entries.get(&live.key())?;
        let recent = entry.complete.elapsed() < live.source.refresh_after;
        let unexpired = self.clock.now() < entry.repository.expires();
        (recent && unexpired).then(|| Arc::clone(&entry.repository))
    }

    async fn update(&self, live: Live) -> Result<Arc<Repository>, Refusal> {
        // Whoever asked just after the last update ended finds its result.
        if let Some(current) = self.current(&live) {
            return Ok(current);
        }
        let waited = timeout(UPDATE_TIMEOUT, self.gate.enter(live.source.url.authority()));
        let _turn = waited.await.unwrap_or(Err(Unavailable::Overloaded))?;
        let begun = Instant::now();
        match self.fetch(&live, begun + UPDATE_TIMEOUT).await {
            Ok(repository) => {
                let repository = Arc::new(repository);
                // A role that could not be fetched may be there for the next review.
                if repository.is_complete() {
                    self.keep(&live, Arc::clone(&repository), begun);
                }
                Ok(repository)
            }
            Err(refusal) => {
                tracing::warn!(
                    source = live.source.name,
                    repository = live.repository,
                    code = refusal.code(),
                    cause = cause(&refusal),
                    "metadata was not updated"
                );
                Err(refusal)
            }
        }
    }

    /// Swaps a set in, and tells the warnings that the one before did not have.
    fn keep(&self, live: &Live, repository: Arc<Repository>, complete: Instant) {
        let key = live.key();
        let before = self.entries.get(&key);
        let told = before.as_ref().map_or(&[][..], |entry| entry.repository.warnings());
        for warning in repository.warnings().iter().filter(|warning| !told.contains(warning)) {
            tracing::warn!(source = live.source.name, repository = live.repository, "{warning}");
        }
        self.entries.insert(key, Arc::new(Entry { repository, complete }));
    }

    async fn fetch(&self, live: &Live, deadline: Instant) -> Result<Repository, Refusal> {
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
        let (memory, verified) = update.run(&remembered.memory, now).await;
        // Every verified step sticks, also of an update that fails later on, and before the new
        // set answers.
        let newest = self.raise(live, &place, &remembered, memory).await?;
        let repository = verified?;
        if repository.superseded_by(&newest) {
            let cause = "another process has verified newer metadata than was fetched; try again";
            return Err(unavailable(live, &cause).into());
        }
        Ok(repository)
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
