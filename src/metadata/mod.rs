//! Live repositories: fetched, verified, swapped in whole, and what is remembered of them.

mod memory;
mod notary;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use countersign_verify::notary::{Memory, Repository};
use countersign_verify::outcome::{Refusal, Unavailable};
use moka::sync::Cache;
use tokio::time::Instant;
use url::Url;

use crate::api::{Connection, Source};
use crate::clock::Clock;
use crate::http::{Basic, Endpoint, EndpointConfig, EndpointError};
use crate::singleflight::SingleFlight;

pub use memory::{MemoryError, MemoryStore};

/// How long one update of a repository may take, whoever waits for it and for how long.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(10);

/// Repositories kept at hand.
const REPOSITORIES: u64 = 10_000;

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
    /// Whether both are one repository of one source.
    pub fn same(&self, other: &Self) -> bool {
        self.source.fingerprint == other.source.fingerprint && self.repository == other.repository
    }

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
    clock: Arc<Clock>,
}

impl Repositories {
    /// Remembers in `memory` and reads the time from `clock`.
    pub fn new(memory: MemoryStore, clock: Arc<Clock>) -> Self {
        let shared = Shared {
            entries: Cache::new(REPOSITORIES),
            flights: SingleFlight::default(),
            endpoints: Cache::new(ENDPOINTS),
            memory,
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
        let begun = Instant::now();
        match self.fetch(&live, begun + UPDATE_TIMEOUT).await {
            Ok(repository) => {
                let repository = Arc::new(repository);
                let entry = Entry { repository: Arc::clone(&repository), complete: begun };
                self.entries.insert(live.key(), Arc::new(entry));
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

    async fn fetch(&self, live: &Live, deadline: Instant) -> Result<Repository, Refusal> {
        let pin = live.source.pins.find(&live.repository)?;
        let endpoint = self.endpoint(live)?;
        let place = memory::Place {
            source: live.source.name.clone(),
            repository: live.repository.clone(),
            anchor: pin.anchor(),
        };
        let remembered = self.memory.load(&place).map_err(|error| unavailable(live, &error))?;
        let update = notary::Fetch::new(&endpoint, live, pin, deadline);
        let now = self.clock.now();
        let (memory, verified) = update.run(&remembered, now).await;
        // Every verified step sticks, also of an update that fails later on, and before the new
        // set answers.
        if memory != remembered {
            self.remember(live, place, memory).await?;
        }
        verified
    }

    /// Away from the threads that answer reviews: a disk may take long to confirm a write.
    async fn remember(
        &self,
        live: &Live,
        place: memory::Place,
        memory: Memory,
    ) -> Result<(), Unavailable> {
        let store = self.memory.clone();
        let raised = tokio::task::spawn_blocking(move || store.raise(&place, memory)).await;
        raised
            .map_err(|stopped| unavailable(live, &stopped))?
            .map_err(|error| unavailable(live, &error))
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
        Refusal::Unavailable(
            Unavailable::SourceUnavailable { cause, .. }
            | Unavailable::RegistryUnavailable { cause, .. },
        ) => format!("{refusal}: {cause}"),
        _ => refusal.to_string(),
    }
}
