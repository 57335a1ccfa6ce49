//! What is measured where evidence is fetched and verified. The hot way counts with one atomic
//! addition; everything else happens beside a network round trip.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use super::metrics::Raised;
use crate::http::FetchError;

/// Whom a request is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Server {
    /// A registry.
    Registry,
    /// A TrustSource's server.
    Source,
}

impl Server {
    /// As in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Source => "source",
        }
    }
}

/// What is kept in memory to save a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// A repository's verified metadata.
    Metadata,
    /// What a tag stands for.
    Tag,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FetchLabels {
    server: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpdateLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FailureLabels {
    source: String,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct LookupLabels {
    cache: &'static str,
    result: &'static str,
}

type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// Fetches, updates, and looks into caches. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Measures(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    fetches: Durations<FetchLabels>,
    updates: Durations<UpdateLabel>,
    under_way: Gauge,
    verifying: Histogram,
    failures: Family<FailureLabels, Counter>,
    lookups: Family<LookupLabels, Counter>,
    metadata: Lookups,
    tags: Lookups,
}

/// Counters that are found once, so that counting takes no lock.
#[derive(Debug)]
struct Lookups {
    hits: Counter,
    misses: Counter,
}

impl Lookups {
    fn of(lookups: &Family<LookupLabels, Counter>, cache: &'static str) -> Self {
        let count = |result| lookups.get_or_create_owned(&LookupLabels { cache, result });
        Self { hits: count("hit"), misses: count("miss") }
    }
}

/// 5 ms (a server nearby) to 10 s (no fetch and no update takes longer).
fn network() -> Histogram {
    Histogram::new([0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0])
}

impl Default for Measures {
    fn default() -> Self {
        let lookups = Family::default();
        let inner = Inner {
            fetches: Family::new_with_constructor(network),
            updates: Family::new_with_constructor(network),
            under_way: Gauge::default(),
            // 100 us (an unchanged timestamp) to 1 s (the largest files there may be).
            verifying: Histogram::new([1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 5e-2, 0.25, 1.0]),
            failures: Family::default(),
            metadata: Lookups::of(&lookups, "metadata"),
            tags: Lookups::of(&lookups, "tags"),
            lookups,
        };
        Self(Arc::new(inner))
    }
}

impl Measures {
    /// Registers everything.
    pub fn register(&self, registry: &mut Registry) {
        let Inner { fetches, updates, under_way, verifying, failures, lookups, .. } = &*self.0;
        registry.register_with_unit(
            "fetch_duration",
            "Time of a request to a registry or a source, with its redirects, token and retries",
            Unit::Seconds,
            fetches.clone(),
        );
        registry.register_with_unit(
            "metadata_update_duration",
            "Time of an update of a repository's signed metadata",
            Unit::Seconds,
            updates.clone(),
        );
        registry.register("metadata_updates_in_flight", "Updates under way", under_way.clone());
        registry.register_with_unit(
            "metadata_verify_duration",
            "Computing time of an update: what was fetched is parsed and verified",
            Unit::Seconds,
            verifying.clone(),
        );
        registry.register(
            "metadata_update_failures",
            "Updates of repositories' signed metadata that failed, by the code of the refusal",
            failures.clone(),
        );
        registry.register(
            "cache_lookups",
            "Looks into what is kept in memory, by what was found",
            lookups.clone(),
        );
    }

    /// A request to `server` ended so.
    pub(crate) fn fetched<T>(&self, server: Server, ended: &Result<T, FetchError>, took: Duration) {
        let labels = FetchLabels { server: server.as_str(), outcome: outcome(ended) };
        self.0.fetches.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// An update is under way until the guard is dropped.
    pub(crate) fn updating(&self) -> Raised {
        Raised::of(&self.0.under_way)
    }

    /// Updates under way.
    pub fn updates_in_flight(&self) -> i64 {
        self.0.under_way.get()
    }

    /// An update ended so, and took so long, of which it computed for `verifying`.
    pub(crate) fn updated(&self, outcome: &'static str, took: Duration, verifying: Duration) {
        let labels = UpdateLabel { outcome };
        self.0.updates.get_or_create(&labels).observe(took.as_secs_f64());
        self.0.verifying.observe(verifying.as_secs_f64());
    }

    /// An update of a repository of this source failed, for the reason `code`.
    pub(crate) fn update_failed(&self, source: &str, code: &'static str) {
        let labels = FailureLabels { source: source.to_owned(), code };
        self.0.failures.get_or_create(&labels).inc();
    }

    /// Something was looked for in memory.
    pub(crate) fn looked_up(&self, cached: Cached, found: bool) {
        let lookups = match cached {
            Cached::Metadata => &self.0.metadata,
            Cached::Tag => &self.0.tags,
        };
        if found { &lookups.hits } else { &lookups.misses }.inc();
    }
}

/// How a request ended, as in labels.
pub(crate) fn outcome<T>(ended: &Result<T, FetchError>) -> &'static str {
    match ended {
        Ok(_) => "ok",
        Err(FetchError::NotFound) => "not_found",
        Err(FetchError::Unauthorized) => "unauthorized",
        Err(FetchError::Status(_)) => "status",
        Err(FetchError::Deadline) => "deadline",
        Err(FetchError::TooLarge { .. }) => "too_large",
        Err(_) => "failed",
    }
}

/// Runs `future`, and tells for how long it computed: the time that it did not wait.
pub(crate) async fn computing<F: Future>(future: F) -> (F::Output, Duration) {
    let mut future = pin!(future);
    let mut computed = Duration::ZERO;
    let output = poll_fn(|context| {
        let begun = Instant::now();
        let polled = future.as_mut().poll(context);
        computed += begun.elapsed();
        polled
    });
    let output = output.await;
    (output, computed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn waiting_is_no_computing() {
        let work = async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(20) {}
        };
        let ((), computed) = computing(work).await;
        assert!(computed >= Duration::from_millis(20), "{computed:?}");
        assert!(computed < Duration::from_millis(150), "{computed:?}");
    }
}
