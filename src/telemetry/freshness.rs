//! How metadata is kept fresh, as metrics: read when they are asked for.

use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::metadata::{Figures, Repositories};

pub(super) struct Freshness(pub(super) Repositories);

impl std::fmt::Debug for Freshness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Freshness").finish_non_exhaustive()
    }
}

impl Collector for Freshness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let figures = self.0.figures();
        let Figures { unchanged, updated, failed, running, in_use, failing, oldest } = figures;
        let mut updates = encoder.encode_descriptor(
            "metadata_updates",
            "Updates of repositories' signed metadata, by how they ended",
            None,
            MetricType::Counter,
        )?;
        let ends = [("unchanged", unchanged), ("updated", updated), ("failed", failed)];
        for (outcome, count) in ends {
            let labels = [("outcome", outcome)];
            ConstCounter::new(count).encode(updates.encode_family(&labels)?)?;
        }
        let mut gauge = |name: &str, help: &str, unit: Option<&Unit>, value: f64| {
            let metric = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
            ConstGauge::new(value).encode(metric)
        };
        let (running, in_use) = (running as f64, in_use as f64);
        gauge("metadata_updates_in_flight", "Updates under way", None, running)?;
        gauge("repositories_in_use", "Repositories kept fresh in the background", None, in_use)?;
        gauge(
            "repositories_failing",
            "Repositories in use whose last update failed: older metadata answers while it may",
            None,
            failing as f64,
        )?;
        gauge(
            "metadata_age",
            "Time since the last complete update of a repository in use, of the one with the longest",
            Some(&Unit::Seconds),
            oldest.as_secs_f64(),
        )
    }
}
