//! Servers that ask to be left alone for a while.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use url::Url;

/// How long what one answer asked for counts for other requests: no longer than refusals are
/// remembered, so that a server that is back sooner than it said is seen like any other.
const COUNTS: Duration = Duration::from_secs(1);

/// The longest pause that is worth knowing: no deadline is as far.
const LONGEST: Duration = Duration::from_secs(3600);

/// Who of an endpoint's servers asked for a rest (`Retry-After`, RFC 9110, section 10.2.3).
#[derive(Debug, Default)]
pub(super) struct Rests(Mutex<BTreeMap<String, Rest>>);

/// What a server has asked for, and with which status.
#[derive(Debug, Clone, Copy)]
struct Rest {
    asked: Instant,
    until: Instant,
    status: u16,
}

impl Rests {
    /// The server of `url` has just asked for this pause.
    pub(super) fn asked_for(&self, url: &Url, pause: Duration, status: u16) {
        let asked = Instant::now();
        let rest = Rest { asked, until: asked + pause.min(LONGEST), status };
        // An endpoint speaks to its own server and to its token hosts, and to no others.
        self.lock().insert(url.authority().to_owned(), rest);
    }

    /// How long the server of `url` wants to be left alone from now on, and with which status it
    /// said so.
    pub(super) fn wanted(&self, url: &Url) -> Option<(Duration, u16)> {
        let rest = *self.lock().get(url.authority())?;
        let left = rest.until.saturating_duration_since(Instant::now());
        (rest.asked.elapsed() < COUNTS && !left.is_zero()).then_some((left, rest.status))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Rest>> {
        // Between any two changes it is whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
