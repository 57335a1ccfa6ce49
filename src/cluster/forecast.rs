//! What will not be admitted any more, and when: for the status of TrustSources, and for events.
//!
//! A replica knows the expiry of what it has in use, and no more. The lease's holder writes what it
//! knows as a condition; every replica tells it by an event, of which all make one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::events::{Events, Refusal};
use crate::metadata::{Expiry, OfSource};

/// The condition's type. It is none that kstatus knows: a source whose metadata is about to expire
/// is in force.
pub(super) const EXPIRING: &str = "Expiring";

/// From here on it is told: the time to find whoever keeps the keys, for a root several of them.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// From here on it is urgent: a weekend.
const VERY_SOON: SignedDuration = SignedDuration::from_hours(2 * 24);

/// What this replica can say of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forecast {
    /// Nothing of it is in use: whether what is at hand was signed anew is not known.
    Unknown,
    /// No role that has to be signed by somebody expires soon.
    Sound,
    /// One does, and how soon, as a reason.
    Expiring(&'static str, Expiry),
}

impl Forecast {
    /// What is known of a source from its sets.
    pub(super) fn of(source: &OfSource, now: Timestamp) -> Self {
        if source.in_use == 0 {
            return Self::Unknown;
        }
        let Some(next) = &source.next else { return Self::Sound };
        let left = next.at.duration_since(now);
        let reason = match left {
            left if left <= SignedDuration::ZERO => "Expired",
            left if left <= VERY_SOON => "ExpiresVerySoon",
            left if left <= SOON => "ExpiresSoon",
            _ => return Self::Sound,
        };
        Self::Expiring(reason, next.clone())
    }

    /// The same where the condition is this already. Who has nothing in use does not take back what
    /// another replica told, and has nothing to say where none did: a replica's first review of a
    /// source is no reason to write.
    pub(super) fn after(&self, former: Option<&Condition>) -> Self {
        match (self, former.map(|former| former.status.as_str())) {
            (Self::Unknown, None | Some("False")) => Self::Sound,
            _ => self.clone(),
        }
    }

    /// The condition's status, reason and message. No time is told but that of an expiry, so that
    /// nothing is written while nothing changes.
    pub(super) fn words(&self) -> (&'static str, &'static str, String) {
        match self {
            Self::Unknown => (
                "Unknown",
                "NotInUse",
                "the lease's holder has none of its metadata in use".to_owned(),
            ),
            Self::Sound => (
                "False",
                "NothingExpires",
                "of what the lease's holder has in use, nothing that has to be signed expires within \
                 seven days"
                    .to_owned(),
            ),
            Self::Expiring(reason, expiry) => ("True", *reason, message(reason, expiry)),
        }
    }
}

fn message(reason: &str, Expiry { at, repository, role }: &Expiry) -> String {
    let (verb, then) = match reason {
        "Expired" => ("expired", "images that need it are not admitted before it is signed anew"),
        _ => ("expires", "unless it is signed anew by then, no image that needs it is admitted"),
    };
    // Whole seconds, as metadata has them.
    let at = Timestamp::from_second(at.as_second()).unwrap_or(*at);
    format!("{role} of {repository} {verb} at {at}: {then}")
}

/// Tells by events what is about to expire, each thing once a threshold.
#[derive(Debug, Default)]
pub(super) struct Teller {
    events: Option<Events>,
    told: BTreeMap<String, Forecast>,
}

impl Teller {
    pub(super) fn new(events: Option<Events>) -> Self {
        Self { events, told: BTreeMap::new() }
    }

    /// Tells what is new of these sources; `uid` says which object one of a name is.
    pub(super) fn tell(
        &mut self,
        forecasts: &BTreeMap<String, Forecast>,
        uid: impl Fn(&str) -> Option<String>,
    ) {
        let Some(events) = &self.events else { return };
        for (name, forecast) in forecasts {
            let Forecast::Expiring(reason, expiry) = forecast else { continue };
            if self.told.get(name) == Some(forecast) {
                continue;
            }
            events.tell(|| Refusal::of_source(name, &uid(name)?, reason, &message(reason, expiry)));
        }
        self.told.clone_from(forecasts);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    fn of(next: Option<(&str, &str)>) -> Forecast {
        let next = next.map(|(role, expires)| Expiry {
            at: at(expires),
            repository: "r.example/api".to_owned(),
            role: role.to_owned(),
        });
        let source = OfSource { in_use: 1, next, ..OfSource::default() };
        Forecast::of(&source, at("2030-01-01T00:00:00Z"))
    }

    #[test]
    fn how_soon_is_the_reason_and_the_message_holds_no_time_that_runs() {
        assert_eq!(of(None), Forecast::Sound);
        assert_eq!(Forecast::of(&OfSource::default(), Timestamp::UNIX_EPOCH), Forecast::Unknown);
        let reason = |expires| of(Some(("targets", expires))).words().1;
        assert_eq!(reason("2030-01-08T00:00:01Z"), "NothingExpires");
        assert_eq!(reason("2030-01-08T00:00:00Z"), "ExpiresSoon");
        assert_eq!(reason("2030-01-03T00:00:00Z"), "ExpiresVerySoon");
        assert_eq!(reason("2030-01-01T00:00:00Z"), "Expired");
        let soon = of(Some(("targets/releases", "2030-01-05T00:00:00.123Z")));
        let (status, _, message) = soon.words();
        assert_eq!(status, "True");
        assert_eq!(
            message,
            "targets/releases of r.example/api expires at 2030-01-05T00:00:00Z: unless it is \
             signed anew by then, no image that needs it is admitted"
        );
        assert_eq!(Forecast::Unknown.words().0, "Unknown");
        assert_eq!(Forecast::Sound.words().0, "False");
    }
}
