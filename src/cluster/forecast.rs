//! What will not be admitted any more, and when: for the status of TrustSources, and for events.
//!
//! A replica knows the expiry of what it has in use, and no more. The lease's holder writes what it
//! knows as a condition; every replica tells it by an event, of which all make one.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::events::{Events, Refusal};
use crate::metadata::{Expiry, OfSource, WHOLE};

/// The condition's type. It is none that kstatus knows: a source whose metadata is about to expire
/// is in force.
pub(super) const EXPIRING: &str = "Expiring";

/// From here on it is told: the time to find whoever keeps the keys, for a root several of them.
const SOON: SignedDuration = SignedDuration::from_hours(7 * 24);

/// From here on it is urgent: a weekend.
const VERY_SOON: SignedDuration = SignedDuration::from_hours(2 * 24);

/// The reasons, the most urgent first, each with the time that is left at most.
const REASONS: [(&str, SignedDuration); 3] =
    [("Expired", SignedDuration::ZERO), ("ExpiresVerySoon", VERY_SOON), ("ExpiresSoon", SOON)];

/// What this replica can say of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Forecast {
    /// Nothing of it is in use: whether what is at hand was signed anew is not known.
    Unknown,
    /// No role that has to be signed by somebody expires soon.
    Sound,
    /// Some do.
    Expiring {
        /// How soon.
        reason: &'static str,
        /// The first of them.
        first: Expiry,
        /// How many other repositories have one that ends as soon.
        others: usize,
    },
}

impl Forecast {
    /// What is known of a source from its sets.
    pub(super) fn of(source: &OfSource, now: Timestamp) -> Self {
        if source.in_use == 0 {
            return Self::Unknown;
        }
        let Some(next) = &source.next else { return Self::Sound };
        let ends = |at: Timestamp, left: SignedDuration| at.duration_since(now) <= left;
        let Some((reason, left)) = REASONS.into_iter().find(|(_, left)| ends(next.at, *left))
        else {
            return Self::Sound;
        };
        let all = source.ends.iter().filter(|at| ends(**at, left)).count();
        Self::Expiring { reason, first: next.clone(), others: all.saturating_sub(1) }
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
            Self::Expiring { reason, first, others } => {
                ("True", *reason, message(reason, first) + &and(reason, *others))
            }
        }
    }
}

/// What signing the first one anew does not settle.
fn and(reason: &str, others: usize) -> String {
    let repositories = match others {
        0 => return String::new(),
        1 => "1 more repository has".to_owned(),
        others => format!("{others} more repositories have"),
    };
    let when = match reason {
        "Expired" => "has expired",
        "ExpiresVerySoon" => "expires within two days",
        _ => "expires within seven days",
    };
    format!("; {repositories} a role that {when}")
}

/// A TUF source has one repository, which its name says.
fn message(reason: &str, Expiry { at, repository, role }: &Expiry) -> String {
    let (verb, then) = match reason {
        "Expired" => ("expired", "images that need it are not admitted before it is signed anew"),
        _ => ("expires", "unless it is signed anew by then, no image that needs it is admitted"),
    };
    // Whole seconds, as metadata has them.
    let at = Timestamp::from_second(at.as_second()).unwrap_or(*at);
    let whose = match &**repository {
        WHOLE => String::new(),
        repository => format!(" of {repository}"),
    };
    format!("{role}{whose} {verb} at {at}: {then}")
}

/// Tells by events what is about to expire, each thing once a threshold. How many others do is not in
/// them: replicas know of different ones, and all are to make one event.
#[derive(Debug, Default)]
pub(super) struct Teller {
    events: Option<Events>,
    told: BTreeMap<String, (&'static str, Expiry)>,
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
        let expiring = forecasts.iter().filter_map(|(name, forecast)| match forecast {
            Forecast::Expiring { reason, first, .. } => {
                Some((name.clone(), (*reason, first.clone())))
            }
            Forecast::Unknown | Forecast::Sound => None,
        });
        let expiring: BTreeMap<_, _> = expiring.collect();
        for (name, now) in expiring.iter().filter(|(name, now)| self.told.get(*name) != Some(now)) {
            let (reason, first) = now;
            events.tell(|| Refusal::of_source(name, &uid(name)?, reason, &message(reason, first)));
        }
        self.told = expiring;
    }
}

#[cfg(test)]
mod tests;
