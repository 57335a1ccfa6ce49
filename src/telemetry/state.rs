//! How this replica is, as metrics: read when they are asked for.

use std::fmt::Error;
use std::sync::Arc;

use countersign_verify::policy::Rule;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;
use tokio::sync::watch;

use crate::review::Reviewer;
use crate::server::Readiness;

pub(super) struct State {
    pub(super) readiness: Readiness,
    pub(super) leads: watch::Receiver<bool>,
    pub(super) reviewer: Arc<Reviewer>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut flag = |name, help, value| {
            let metric = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(u64::from(value)).encode(metric)
        };
        let ready = self.readiness.held().is_none();
        flag("ready", "1 while this replica is ready: nothing holds it back", ready)?;
        let leads = *self.leads.borrow();
        flag("lease_held", "1 on the replica that writes what the replicas share", leads)?;
        let metric = encoder.encode_descriptor(
            "clock_ahead",
            "How far the time that is held is ahead of the machine's clock, which was set back",
            Some(&Unit::Seconds),
            MetricType::Gauge,
        )?;
        ConstGauge::new(self.readiness.clock_ahead().as_secs_f64()).encode(metric)?;

        let snapshot = self.reviewer.snapshot();
        let policies = snapshot.policies.policies();
        let invalid = policies.iter().filter(|it| matches!(it.rule, Rule::Invalid(_))).count();
        let mut family = encoder.encode_descriptor(
            "policies",
            "TrustPolicies, by whether they could be read: others deny what they match",
            None,
            MetricType::Gauge,
        )?;
        for (state, count) in [("in_force", policies.len() - invalid), ("invalid", invalid)] {
            let labels = [("state", state)];
            ConstGauge::new(count as f64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
