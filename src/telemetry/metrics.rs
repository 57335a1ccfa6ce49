//! What is counted. Every label has few values: a user can name none of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use tokio::sync::watch;

use super::Lines;
use super::freshness::Freshness;
use super::outcomes::{CheckpointOutcome, EventOutcome, Outcome};
use super::remembered::RememberedOf;
use super::state::State;
use crate::metadata::Repositories;
use crate::review::{Review, Reviewer};
use crate::server::Readiness;
use countersign_verify::outcome::Finding;
use countersign_verify::policy::Action;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CheckpointLabel {
    outcome: CheckpointOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EventLabel {
    outcome: EventOutcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReviewLabels {
    action: &'static str,
    outcome: Outcome,
    code: &'static str,
}

/// How reviews of which too many wait are answered.
const OVERLOADED: [(&str, Outcome); 3] =
    [("validate", Outcome::Denied), ("validate", Outcome::Warned), ("mutate", Outcome::Allowed)];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabel {
    action: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabels {
    policy: String,
    action: &'static str,
    code: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ExceptionLabels {
    policy: String,
    exception: String,
}

type Durations = Family<ActionLabel, Histogram, fn() -> Histogram>;

/// The counters of the webhook server. Cheap to clone; clones count together.
#[derive(Debug, Clone)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    reviews: Family<ReviewLabels, Counter>,
    durations: Durations,
    refusals: Family<RefusalLabels, Counter>,
    exceptions: Family<ExceptionLabels, Counter>,
    in_flight: Gauge,
    panics: Counter,
    rejected: Family<ReasonLabel, Counter>,
    events: Family<EventLabel, Counter>,
    checkpoints: Family<CheckpointLabel, Counter>,
    certificate_expiry: Gauge<f64, AtomicU64>,
    certificate_is_good: Gauge,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

impl Metrics {
    /// Registers everything under `registry`, which should have the prefix `countersign`.
    pub fn register(registry: &mut Registry) -> Self {
        let durations: Durations = Family::new_with_constructor(|| {
            // 20 us (a warm review) to 10 s (no review takes longer).
            Histogram::new([
                2e-5, 5e-5, 1e-4, 2.5e-4, 1e-3, 5e-3, 2.5e-2, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
            ])
        });
        let inner = Inner {
            reviews: Family::default(),
            durations,
            refusals: Family::default(),
            exceptions: Family::default(),
            in_flight: Gauge::default(),
            panics: Counter::default(),
            rejected: Family::default(),
            events: Family::default(),
            checkpoints: Family::default(),
            certificate_expiry: Gauge::default(),
            certificate_is_good: Gauge::default(),
        };
        // Of what an alert waits for, the first is to be seen as a rise.
        for outcome in EventOutcome::ALL {
            drop(inner.events.get_or_create(&EventLabel { outcome }));
        }
        for outcome in CheckpointOutcome::ALL {
            drop(inner.checkpoints.get_or_create(&CheckpointLabel { outcome }));
        }
        for (action, outcome) in OVERLOADED {
            let labels = ReviewLabels { action, outcome, code: "Overloaded" };
            drop(inner.reviews.get_or_create(&labels));
        }
        // Nothing has been found yet.
        inner.certificate_is_good.set(1);
        inner.register(registry);
        let build = vec![("version", env!("CARGO_PKG_VERSION"))];
        registry.register("build", "The program that runs", Info::new(build));
        Self(Arc::new(inner))
    }

    /// Counts the lines that `lines` has dropped.
    pub fn watch_lines(registry: &mut Registry, lines: &Lines) {
        registry.register_collector(Box::new(DroppedLines(lines.clone())));
    }

    /// Counts how metadata is kept fresh, and what that takes.
    pub fn watch_repositories(registry: &mut Registry, repositories: &Repositories) {
        repositories.measures().register(registry);
        registry.register_collector(Box::new(Freshness(repositories.clone())));
    }

    /// Tells of how many repositories of each source versions are remembered in the cluster.
    pub fn watch_remembered(
        registry: &mut Registry,
        counts: impl Fn() -> BTreeMap<String, usize> + Send + Sync + 'static,
    ) {
        registry.register_collector(Box::new(RememberedOf(counts)));
    }

    /// Tells whether this replica is ready and holds the lease, and how the policies are.
    pub fn watch_state(
        registry: &mut Registry,
        readiness: &Readiness,
        leads: &watch::Receiver<bool>,
        reviewer: &Arc<Reviewer>,
    ) {
        let (readiness, leads) = (readiness.clone(), leads.clone());
        let reviewer = Arc::clone(reviewer);
        registry.register_collector(Box::new(State { readiness, leads, reviewer }));
    }

    /// One request was answered. `code` is empty where nothing was refused.
    pub fn answered(
        &self,
        action: &'static str,
        outcome: Outcome,
        code: &'static str,
        took: Duration,
    ) {
        self.0.reviews.get_or_create(&ReviewLabels { action, outcome, code }).inc();
        self.0.durations.get_or_create(&ActionLabel { action }).observe(took.as_secs_f64());
    }

    /// Counts each policy's refusals and exceptions, those of Audit policies too.
    pub fn reviewed(&self, review: &Review) {
        for verdict in review.images.iter().flat_map(|image| &image.decision.verdicts) {
            let policy = || verdict.policy.clone().unwrap_or_default();
            match &verdict.finding {
                Finding::Refused(refusal) => {
                    let action = action(verdict.action);
                    let labels = RefusalLabels { policy: policy(), action, code: refusal.code() };
                    self.0.refusals.get_or_create(&labels).inc();
                }
                Finding::Excepted { exception, .. } => {
                    let exception = exception.clone();
                    let labels = ExceptionLabels { policy: policy(), exception };
                    self.0.exceptions.get_or_create(&labels).inc();
                }
                Finding::Verified | Finding::AllowedUnverified { .. } => {}
            }
        }
    }

    /// A review waits for something; it stops waiting when the guard is dropped.
    pub fn waiting(&self) -> Raised {
        Raised::of(&self.0.in_flight)
    }

    /// A review panicked.
    pub fn panicked(&self) {
        self.0.panics.inc();
    }

    /// A request was no AdmissionReview.
    pub fn rejected(&self, reason: &'static str) {
        self.0.rejected.get_or_create(&ReasonLabel { reason }).inc();
    }

    /// An event was to be written.
    pub fn event(&self, outcome: EventOutcome) {
        self.0.events.get_or_create(&EventLabel { outcome }).inc();
    }

    /// A TrustCheckpoint was to be written, or was seen deleted.
    pub fn checkpoint(&self, outcome: CheckpointOutcome) {
        self.0.checkpoints.get_or_create(&CheckpointLabel { outcome }).inc();
    }

    /// The serving certificate ends then, in seconds since 1970.
    pub fn certificate_expires(&self, unix_seconds: i64) {
        self.0.certificate_expiry.set(unix_seconds as f64);
    }

    /// Whether the certificate and key that were found last can be used.
    pub fn certificate_reloaded(&self, is_good: bool) {
        self.0.certificate_is_good.set(i64::from(is_good));
    }
}

fn action(action: Action) -> &'static str {
    match action {
        Action::Audit => "Audit",
        Action::Warn => "Warn",
        Action::Deny => "Deny",
    }
}

impl Inner {
    fn register(&self, registry: &mut Registry) {
        registry.register(
            "reviews",
            "Admission requests answered, by webhook, outcome and the code of the first refusal",
            self.reviews.clone(),
        );
        registry.register_with_unit(
            "review_duration",
            "Time from the arrival of a request to its answer",
            Unit::Seconds,
            self.durations.clone(),
        );
        registry.register(
            "refusals",
            "Images that a policy refused, by the policy's action; without a policy, the setting for unmatched images",
            self.refusals.clone(),
        );
        registry.register(
            "exceptions_used",
            "Images let in by an exception only",
            self.exceptions.clone(),
        );
        registry.register(
            "reviews_in_flight",
            "Reviews that wait for a registry or a trust source",
            self.in_flight.clone(),
        );
        registry.register("panics", "Reviews that panicked: bugs", self.panics.clone());
        registry.register(
            "requests_rejected",
            "Requests that were no AdmissionReview, too large or too slow",
            self.rejected.clone(),
        );
        registry.register(
            "events",
            "Refusals to be told to the owners of what was refused, by what became of their events",
            self.events.clone(),
        );
        registry.register(
            "checkpoints",
            "TrustCheckpoints that were to be written, or were seen deleted, by what became of them",
            self.checkpoints.clone(),
        );
        registry.register_with_unit(
            "certificate_expiry_timestamp",
            "When the serving certificate ends, since 1970",
            Unit::Seconds,
            self.certificate_expiry.clone(),
        );
        registry.register(
            "certificate_last_reload_successful",
            "0 while the certificate or key that was found last cannot be used",
            self.certificate_is_good.clone(),
        );
    }
}

/// Raises a gauge by one while it lives.
#[derive(Debug)]
pub struct Raised(Gauge);

impl Raised {
    pub(super) fn of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[derive(Debug)]
struct DroppedLines(Lines);

impl prometheus_client::collector::Collector for DroppedLines {
    fn encode(
        &self,
        mut encoder: prometheus_client::encoding::DescriptorEncoder<'_>,
    ) -> Result<(), std::fmt::Error> {
        use prometheus_client::encoding::EncodeMetric;
        use prometheus_client::metrics::MetricType;

        let counter = prometheus_client::metrics::counter::ConstCounter::new(self.0.dropped());
        let help = "Log lines dropped because standard error does not keep up";
        let metric =
            encoder.encode_descriptor("log_lines_dropped", help, None, MetricType::Counter)?;
        counter.encode(metric)
    }
}
