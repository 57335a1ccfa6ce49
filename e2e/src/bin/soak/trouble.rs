//! What may keep evidence from being had, for how long, and what that looks like.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::Outcome;
use countersign_e2e::front::{Front, Mode};

/// How long trouble is seen at most: a second for which a server asked for rest, two for which a
/// refusal is remembered, and a moment.
const SEEN: Duration = Duration::from_secs(4);

/// How long a question hangs at most at a server that does not answer. Whoever asks a registry for
/// the same tag waits with it, and it keeps its place.
const HANGS: Duration = Duration::from_secs(10);

/// What can excuse a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Trouble {
    /// The Notary server fails.
    Notary,
    /// The registry fails.
    Registry,
    /// The TUF server fails.
    Tuf,
    /// More was asked for at once than there are places for.
    Overload,
    /// The API server does not take what is to be remembered.
    ApiServer,
    /// Keys have been rotated: a new root holds at once, also where not every file that it has
    /// signed was read yet.
    Rotation,
}

impl Trouble {
    fn codes(self) -> &'static [&'static str] {
        match self {
            Self::Notary => &["SourceUnavailable", "DeadlineExceeded", "MalformedMetadata"],
            Self::Registry => &["RegistryUnavailable", "DeadlineExceeded"],
            // All that it has is at hand: there is nothing that it could excuse.
            Self::Tuf => &[],
            Self::Overload => &["Overloaded", "DeadlineExceeded"],
            Self::ApiServer => &["SourceUnavailable", "DeadlineExceeded"],
            Self::Rotation => &["SourceUnavailable", "ThresholdNotMet"],
        }
    }
}

/// Until when which trouble is seen; `None` while it goes on.
#[derive(Default)]
pub(crate) struct Troubles(Mutex<BTreeMap<Trouble, Option<Instant>>>);

impl Troubles {
    /// Lets a server fail for so long.
    pub(crate) fn fail(&self, trouble: Trouble, front: &Front, mode: Mode, time: Duration) {
        self.set(trouble, None);
        front.set(mode);
        thread::sleep(time);
        front.set(Mode::Forward);
        let hangs = trouble == Trouble::Registry && matches!(mode, Mode::Silent | Mode::Slow);
        let hangs = if hangs { HANGS } else { Duration::ZERO };
        self.set(trouble, Some(Instant::now() + hangs + SEEN));
    }

    /// Does something that goes with this trouble.
    pub(crate) fn with<T>(&self, trouble: Trouble, act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        self.set(trouble, None);
        let acted = act();
        let hangs = if trouble == Trouble::Overload { HANGS } else { Duration::ZERO };
        self.set(trouble, Some(Instant::now() + hangs + SEEN));
        acted
    }

    /// Whether a refusal of this code, of what was asked then, may be this trouble's.
    pub(crate) fn excuse(&self, trouble: Trouble, code: &str, asked: Instant) -> bool {
        let until = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&trouble).copied();
        let is_seen = until.is_some_and(|until| until.is_none_or(|until| asked < until));
        is_seen && trouble.codes().contains(&code)
    }

    fn set(&self, trouble: Trouble, until: Option<Instant>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(trouble, until);
    }
}
