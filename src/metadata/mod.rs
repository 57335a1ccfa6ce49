//! Live repositories: fetched, verified, swapped in whole, kept fresh, and what is remembered of
//! them.

mod figures;
mod gate;
mod heavy;
mod live;
mod memory;
mod notary;
mod refresh;
mod repository;
mod servers;
mod set;
mod span;
pub mod tuf;
mod update;
mod wants;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use countersign_verify::outcome::{Refusal, Unavailable};
use moka::sync::Cache;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span};

use crate::clock::Clock;
use crate::singleflight::SingleFlight;
use crate::telemetry::{Asker, Cached, Measures, computing};

pub use figures::{Expiry, OfSource, RoleKind};
use gate::Gate;
use live::Key;
pub use live::{Live, Want};
pub use memory::{MemoryError, MemoryStore};
pub(crate) use memory::{Place, Remembered};
pub use repository::Repository;
use servers::Servers;
pub use servers::endpoint;
use set::{Attention, Set};
use wants::Wants;

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

/// Sources whose connections are kept at hand.
const SERVERS: u64 = 1_000;

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
    /// What the next updates load.
    wants: Wants,
    servers: Cache<[u8; 32], Servers>,
    memory: MemoryStore,
    gate: Gate,
    measures: Measures,
    clock: Arc<Clock>,
}

impl Repositories {
    /// Remembers in `memory` and reads the time from `clock`; keeps [`DEFAULT_BYTES`].
    pub fn new(memory: MemoryStore, clock: Arc<Clock>) -> Self {
        Self::keeping(DEFAULT_BYTES, memory, clock)
    }

    /// The same, with about so many bytes of memory for the sets at hand.
    pub fn keeping(bytes: u64, memory: MemoryStore, clock: Arc<Clock>) -> Self {
        Self::measured(bytes, memory, clock, Measures::default())
    }

    /// The same, which counts in `measures`.
    pub fn measured(
        bytes: u64,
        memory: MemoryStore,
        clock: Arc<Clock>,
        measures: Measures,
    ) -> Self {
        let weight = |_: &Key, set: &Arc<Set>| set.weight();
        let shared = Shared {
            sets: Cache::builder().max_capacity(bytes).weigher(weight).build(),
            answers: Cache::new(ANSWERS),
            flights: SingleFlight::default(),
            wants: Wants::default(),
            servers: Cache::new(SERVERS),
            memory,
            gate: Gate::default(),
            measures,
            clock,
        };
        Self { shared: Arc::new(shared) }
    }

    /// The repository's metadata where it is at hand, unexpired, and recent enough or not to be
    /// had anew at the moment, and has everything that is needed of it. No I/O. Whoever asks keeps
    /// it fresh.
    pub fn current(&self, live: &Live) -> Option<Arc<Repository>> {
        let set = self.shared.sets.get(&live.key());
        let now = Instant::now();
        let current = set.and_then(|set| {
            set.attention.is_paid(&live.source, now);
            let time = self.shared.clock.now();
            let answers =
                set.is_current(&live.source, now, time) && live.is_met_by(&set.repository, time);
            answers.then(|| Arc::clone(&set.repository))
        });
        self.shared.measures.looked_up(Cached::Metadata, current.is_some());
        current
    }

    /// Fetches and verifies the repository's metadata, or what of it is needed and not at hand.
    /// Callers at the same time share one update, which goes on when they no longer wait. While
    /// updates fail, or take long, an older set answers for as long as it may.
    /// Cold work is shared fairly between namespaces: the update is that of `namespace`.
    pub async fn update(&self, live: &Live, namespace: &str) -> Result<Arc<Repository>, Refusal> {
        for _ in 0..wants::TURNS {
            if let Some(answer) = self.shared.answered(live) {
                return answer;
            }
            self.shared.wants.add(&live.key(), namespace, &live.wants);
            let repository = self.one_update(live, namespace).await?;
            // An update that had begun before we asked did not load what we need.
            if live.is_met_by(&repository, self.shared.clock.now()) {
                return Ok(repository);
            }
        }
        Err(unavailable(live, &"its roles could not be loaded in time").into())
    }

    async fn one_update(&self, live: &Live, namespace: &str) -> Result<Arc<Repository>, Refusal> {
        let shared = Arc::clone(&self.shared);
        let (wanted, namespace, asker) = (live.clone(), namespace.to_owned(), Asker::current());
        let update = move || async move {
            let span = asker.asks(span::update(&wanted, false));
            shared.asked(&wanted, &namespace).instrument(span).await
        };
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
    /// `None` where there is none, or it lacks what is needed.
    pub fn without_update(&self, live: &Live) -> Option<Result<Arc<Repository>, Refusal>> {
        self.shared.without_update(live)
    }

    /// Drops the sets of all sources but these, and stops refreshing them.
    pub fn retain(&self, fingerprints: &BTreeSet<[u8; 32]>) {
        let gone = |key: &Key| !fingerprints.contains(&key.0);
        let keys = self.shared.sets.iter().map(|(key, _)| key).filter(|key| gone(key));
        keys.for_each(|key| self.shared.sets.invalidate(&*key));
        self.shared.wants.retain(|key| !gone(key));
    }

    /// How the sets at hand are, by the names of their sources.
    pub fn by_source(&self) -> BTreeMap<String, OfSource> {
        self.shared.by_source()
    }

    /// Where fetches, updates and looks into memory are counted.
    pub fn measures(&self) -> &Measures {
        &self.shared.measures
    }
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
