//! How metadata is kept fresh, as metrics: read when they are asked for.

use std::collections::BTreeMap;
use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

use crate::metadata::{OfSource, Repositories};

pub(super) struct Freshness(pub(super) Repositories);

impl std::fmt::Debug for Freshness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Freshness").finish_non_exhaustive()
    }
}

impl Collector for Freshness {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let sources = self.0.by_source();
        let mut gauge = |name: &str, help: &str, unit, value: fn(&OfSource) -> Option<f64>| {
            of_each(&mut encoder, (name, help, unit), &sources, value)
        };
        gauge(
            "repositories_in_use",
            "Repositories kept fresh in the background",
            None,
            |source| Some(source.in_use as f64),
        )?;
        gauge(
            "repositories_failing",
            "Repositories in use whose last update failed: older metadata answers while it may",
            None,
            |source| Some(source.failing as f64),
        )?;
        gauge(
            "metadata_age",
            "Time since the last complete update of a repository in use, of the one with the longest",
            Some(&Unit::Seconds),
            |source| Some(source.oldest.as_secs_f64()),
        )?;
        gauge(
            "metadata_refuse_after",
            "How old metadata may be and answer: the source's refuseAfterSeconds",
            Some(&Unit::Seconds),
            |source| Some(source.refuse_after?.as_secs_f64()),
        )?;
        expiries(&mut encoder, &sources)
    }
}

fn of_each(
    encoder: &mut DescriptorEncoder<'_>,
    (name, help, unit): (&str, &str, Option<&Unit>),
    sources: &BTreeMap<String, OfSource>,
    value: fn(&OfSource) -> Option<f64>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(name, help, unit, MetricType::Gauge)?;
    for (name, source) in sources {
        let Some(value) = value(source) else { continue };
        let labels = [("source", name.as_str())];
        ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
    }
    Ok(())
}

/// Not one series a repository: there may be ten thousand.
fn expiries(
    encoder: &mut DescriptorEncoder<'_>,
    sources: &BTreeMap<String, OfSource>,
) -> Result<(), Error> {
    let mut family = encoder.encode_descriptor(
        "metadata_expiry_timestamp",
        "When the first role of this kind expires, of the repositories in use, since 1970",
        Some(&Unit::Seconds),
        MetricType::Gauge,
    )?;
    for (name, source) in sources {
        for ((role, is_cut_off), at) in &source.expiries {
            let updates = updates_are(*is_cut_off);
            let labels = [("source", name.as_str()), ("role", role.as_str()), ("updates", updates)];
            ConstGauge::new(at.as_second() as f64).encode(family.encode_family(&labels)?)?;
        }
    }
    Ok(())
}

fn updates_are(is_cut_off: bool) -> &'static str {
    match is_cut_off {
        true => "failing",
        false => "ok",
    }
}
