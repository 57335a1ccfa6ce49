//! How much is remembered, as metrics: read when they are asked for.

use std::collections::BTreeMap;
use std::fmt::{self, Error};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

pub(super) struct RememberedOf<F>(pub(super) F);

impl<F> fmt::Debug for RememberedOf<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RememberedOf").finish_non_exhaustive()
    }
}

impl<F> Collector for RememberedOf<F>
where
    F: Fn() -> BTreeMap<String, usize> + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut family = encoder.encode_descriptor(
            "repositories_remembered",
            "TrustCheckpoints of a source; one with many roles counts for several",
            None,
            MetricType::Gauge,
        )?;
        for (source, count) in (self.0)() {
            let labels = [("source", source.as_str())];
            ConstGauge::new(count as f64).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
