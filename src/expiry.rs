//! How long what is remembered lasts.

use std::time::{Duration, Instant};

use moka::Expiry;

/// Lets an entry leave so long after it was written, by what it holds.
pub(crate) struct After<F>(pub(crate) F);

impl<K, V, F: Fn(&V) -> Duration> Expiry<K, V> for After<F> {
    fn expire_after_create(&self, _: &K, value: &V, _: Instant) -> Option<Duration> {
        Some((self.0)(value))
    }

    fn expire_after_update(
        &self,
        _: &K,
        value: &V,
        _: Instant,
        _: Option<Duration>,
    ) -> Option<Duration> {
        Some((self.0)(value))
    }
}
