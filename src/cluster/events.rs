//! Events on the owner of what was refused: who looks at a ReplicaSet without pods, or at a Job that
//! never starts, sees why.
//!
//! They are telemetry. No review waits for one, and none is promised: what is too much is counted
//! and left out.

mod budget;
mod refusal;
mod series;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::time::Duration;

use kube::{Api, Client};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

pub use refusal::{Owner, Refusal};

use super::problem::{Told, because};
use crate::telemetry::{EventOutcome, Metrics};
use budget::{Budget, Recent};
use series::Series;

/// Most refusals that wait to be written; each is below 3 KiB. A burst is some tens.
const QUEUE: usize = 256;

/// Longest time for one event. Nobody waits for it but the events behind it.
const WRITE: Duration = Duration::from_secs(5);

/// Most series remembered, below 1 KiB each. One that was forgotten goes on all the same, since its
/// event is found by its name.
const SERIES: usize = 1024;

/// Takes what was refused, without waiting.
#[derive(Debug, Clone)]
pub struct Events {
    queue: mpsc::Sender<Refusal>,
    metrics: Metrics,
}

impl Events {
    /// Where refusals go, and what writes them for as long as it is polled and anyone can tell it
    /// of some. `instance` is this replica's name.
    pub fn new(
        client: Client,
        instance: &str,
        metrics: &Metrics,
    ) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut waiting) = mpsc::channel(QUEUE);
        let mut writer = Writer {
            client,
            instance: instance.to_owned(),
            metrics: metrics.clone(),
            budget: Budget::new(Instant::now()),
            series: Recent::new(SERIES),
            told: Told::default(),
        };
        let writing = async move {
            while let Some(refusal) = waiting.recv().await {
                writer.take(&refusal).await;
            }
        };
        (Self { queue, metrics: metrics.clone() }, writing)
    }

    /// Where refusals go, and the queue that nobody writes.
    #[cfg(test)]
    pub(super) fn queued() -> (Self, mpsc::Receiver<Refusal>) {
        let metrics = Metrics::register(&mut prometheus_client::registry::Registry::default());
        let (queue, waiting) = mpsc::channel(QUEUE);
        (Self { queue, metrics }, waiting)
    }

    /// Queues what `refusal` gives, if there is an owner to tell. It is not asked where too many
    /// wait already: that is counted as `dropped`.
    pub fn tell(&self, refusal: impl FnOnce() -> Option<Refusal>) {
        match self.queue.try_reserve() {
            Ok(place) => {
                if let Some(refusal) = refusal() {
                    place.send(refusal);
                }
            }
            Err(_) => self.metrics.event(EventOutcome::Dropped),
        }
    }
}

struct Writer {
    client: Client,
    instance: String,
    metrics: Metrics,
    budget: Budget,
    series: Recent<(String, String), Series>,
    told: Told,
}

impl Writer {
    async fn take(&mut self, refusal: &Refusal) {
        let now = Instant::now();
        let key = (refusal.namespace.clone(), refusal.event_name());
        let name = key.1.clone();
        let series = self.series.get(key, now);
        series.occurred();
        if !self.budget.take(&refusal.namespace, &refusal.owner.uid, now) {
            return self.metrics.event(EventOutcome::Limited);
        }
        let api = Api::namespaced(self.client.clone(), &refusal.namespace);
        let writing = series.write(&api, &name, || refusal.event(&name, &self.instance));
        let problem = match timeout(WRITE, writing).await {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(because(&error)),
            Err(_) => Some(format!("no answer within {} s", WRITE.as_secs())),
        };
        match problem {
            None => {
                self.told.clear();
                self.metrics.event(EventOutcome::Written);
            }
            Some(problem) => {
                self.told.tell("an event could not be written", &problem);
                self.metrics.event(EventOutcome::Failed);
            }
        }
    }
}
