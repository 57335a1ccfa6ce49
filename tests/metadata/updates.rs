//! How updates ended, as the metrics tell it.

use countersign::metadata::Repositories;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

/// How many updates ended as unchanged, updated and failed.
pub(crate) fn updates(repositories: &Repositories) -> [u64; 3] {
    let mut registry = Registry::default();
    repositories.measures().register(&mut registry);
    let mut text = String::new();
    encode(&mut text, &registry).expect("text");
    ["unchanged", "updated", "failed"].map(|outcome| {
        let series = format!("metadata_update_duration_seconds_count{{outcome=\"{outcome}\"}} ");
        let count = text.lines().find_map(|line| line.strip_prefix(&*series));
        count.map_or(0, |count| count.parse().expect("a number"))
    })
}
