//! Live repositories: fetched, verified, swapped in whole, kept fresh, and what is remembered of
//! them.

mod figures;
mod gate;
mod heavy;
mod live;
mod memory;
mod notary;
mod outages;
mod patience;
mod refresh;
mod repository;
mod servers;
mod set;
mod sets;
mod span;
pub mod tuf;
mod update;
mod wants;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use countersign_verify::outcome::{Refusal, Unavailable};
use moka::sync::Cache;
use tokio::time::{Instant, timeout};
use tracing::{Instrument as _, Span};

use crate::api::Source;
use crate::clock::Clock;
use crate::http::FetchError;
use crate::singleflight::InTurn;
use crate::telemetry::{Asker, Cached, Measures, computing};

pub use figures::{Expiry, OfSource, RoleKind};
use gate::Gate;
pub(crate) use live::WHOLE;
use live::{Key, SetKey};
pub use live::{Live, Want};
pub use memory::{MemoryError, MemoryStore};
pub(crate) use memory::{Place, Remembered};
use outages::Outages;
pub use repository::Repository;
use servers::Servers;
pub use servers::endpoint;
use set::{Attention, Set};
use wants::Wants;

/// How long one update of a repository may take once it has begun, whoever waits for it and for
/// how long; and how long it may wait for its turn.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long the refusal of a failed update is given again where nothing else can answer: a source
/// that is back, or a repository that has been signed, is seen within it.
const NEGATIVE_LIFE: Duration = Duration::from_secs(1);

/// Memory for the answers that are given again, in bytes. Most are refusals; what lacks a role for
/// the moment is a whole repository.
const ANSWERS_BYTES: u64 = 16 << 20;

/// What a refusal takes of it, roughly: its texts are bounded.
const REFUSAL_BYTES: u32 = 1 << 10;

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

/// What an update was begun for, and its answer to that.
type Flown = (Arc<Live>, Result<Arc<Repository>, Refusal>);

/// When an update ended that made no set, and in what.
type Answer = (Instant, Result<Arc<Repository>, Refusal>);

struct Shared {
    sets: Cache<SetKey, Arc<Set>>,
    answers: Cache<Key, Answer>,
    outages: Outages,
    /// The sources there are, where that was said: what is read of others is not kept.
    sources: ArcSwapOption<BTreeMap<String, Arc<Source>>>,
    /// Of one repository there is one update at a time, however often its source changes: what each
    /// puts in place is newer than what was there.
    flights: InTurn<SetKey, Flown>,
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
        let weight = |_: &SetKey, set: &Arc<Set>| set::footprint(&set.repository);
        let shared = Shared {
            sets: Cache::builder().max_capacity(bytes).weigher(weight).build(),
            answers: answers(),
            outages: Outages::new(),
            sources: ArcSwapOption::empty(),
            flights: InTurn::default(),
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
        let current = self.shared.at_hand(live).and_then(|set| {
            set.attention.is_paid(&live.source, Instant::now());
            self.shared.suffices(live, &set).then(|| Arc::clone(&set.repository))
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
            if let Some(answer) = self.shared.in_patience(live, namespace).await {
                return answer;
            }
        }
        Err(unavailable(live, &"its roles could not be loaded in time").into())
    }

    /// The older set that answers a review whose time is over, where it may; otherwise that no update
    /// has ended in time.
    pub fn at_deadline(&self, live: &Live) -> Result<Arc<Repository>, Refusal> {
        self.shared.untried(live, Unavailable::DeadlineExceeded)
    }

    /// Keeps the sets that hold in these sources, by their names, and refreshes them as these say;
    /// drops all others, and every connection to others.
    pub fn retain(&self, sources: &BTreeMap<String, Arc<Source>>) {
        self.shared.retain(sources);
    }

    /// How the sets at hand are, by the names of their sources.
    pub fn by_source(&self) -> BTreeMap<String, OfSource> {
        self.shared.by_source()
    }

    /// How much memory there is for sets.
    #[cfg(test)]
    pub(crate) fn capacity(&self) -> Option<u64> {
        self.shared.sets.policy().max_capacity()
    }

    /// Where fetches, updates and looks into memory are counted.
    pub fn measures(&self) -> &Measures {
        &self.shared.measures
    }
}

fn answers() -> Cache<Key, Answer> {
    let weight = |_: &Key, (_, answer): &Answer| match answer {
        Ok(repository) => set::footprint(repository),
        Err(_) => REFUSAL_BYTES,
    };
    Cache::builder()
        .max_capacity(ANSWERS_BYTES)
        .weigher(weight)
        // None is given again for nearly as long.
        .time_to_live(UPDATE_TIMEOUT)
        .build()
}

/// Why a file could not be had. With no room it says nothing of the source.
fn not_had(source: &str, file: &str, error: &FetchError) -> Unavailable {
    match error {
        FetchError::NoRoom => Unavailable::Overloaded,
        _ => Unavailable::SourceUnavailable {
            source_name: source.to_owned(),
            cause: format!("{file}: {error}"),
            is_away: error.is_outage(),
        },
    }
}

fn unavailable(live: &Live, cause: &dyn std::fmt::Display) -> Unavailable {
    Unavailable::SourceUnavailable {
        source_name: live.source.name.clone(),
        cause: cause.to_string(),
        is_away: false,
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
