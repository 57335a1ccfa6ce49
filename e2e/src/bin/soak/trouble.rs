//! What may keep evidence from being had, for how long, and what that looks like.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use countersign_e2e::Outcome;
use countersign_e2e::front::{Front, Mode};
use countersign_e2e::pki::{Authority, Identity};

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
            // The mutating webhook lets in what it cannot pin, and the validating one may be able to.
            Self::Registry => &["RegistryUnavailable", "DeadlineExceeded", "NotPinned"],
            // All that it has is at hand: there is nothing that it could excuse.
            Self::Tuf => &[],
            Self::ApiServer => &["SourceUnavailable", "DeadlineExceeded"],
            Self::Rotation => &["SourceUnavailable", "ThresholdNotMet"],
        }
    }
}

/// How a server fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It answers like that, or not.
    Answers(Mode),
    /// It ends all connections and takes no more.
    Closed,
    /// It ends all connections, takes more, and never says anything on them.
    Mute,
    /// It shows a certificate for another name.
    OtherName,
    /// It shows one that has expired.
    Expired,
    /// It shows one of another authority.
    OtherAuthority,
}

impl Fault {
    /// Whether who asks is left waiting.
    fn hangs(self) -> bool {
        matches!(self, Self::Answers(Mode::Silent | Mode::Slow) | Self::Mute)
    }
}

/// Until when which trouble is seen; `None` while it goes on.
pub(crate) struct Troubles {
    seen: Mutex<BTreeMap<Trouble, Option<Instant>>>,
    other_name: Identity,
    expired: Identity,
    other_authority: Identity,
}

impl Troubles {
    /// With the certificates that a server shows by [`Fault`]; another authority's files are in
    /// `folder`.
    pub(crate) fn new(authority: &Authority, folder: &Path) -> Outcome<Self> {
        let other = Authority::new(folder)?;
        Ok(Self {
            seen: Mutex::default(),
            other_name: authority.server_only("other-name", &["other.example.com"])?,
            expired: authority.expired_server("expired", &["localhost"])?,
            other_authority: other.server_only("other-authority", &["localhost"])?,
        })
    }

    /// Lets a server fail for so long.
    pub(crate) fn fail(
        &self,
        trouble: Trouble,
        front: &mut Front,
        fault: Fault,
        time: Duration,
    ) -> Outcome<()> {
        self.set(trouble, None);
        match fault {
            Fault::Answers(mode) => front.set(mode),
            Fault::Closed => front.close(),
            Fault::Mute => front.mute()?,
            Fault::OtherName => front.show(&self.other_name)?,
            Fault::Expired => front.show(&self.expired)?,
            Fault::OtherAuthority => front.show(&self.other_authority)?,
        }
        thread::sleep(time);
        match fault {
            Fault::Answers(_) => front.set(Mode::Forward),
            _ => front.restart()?,
        }
        let hangs = if fault.hangs() { HANGS } else { Duration::ZERO };
        self.set(trouble, Some(Instant::now() + hangs + SEEN));
        Ok(())
    }

    /// Does something that goes with this trouble.
    pub(crate) fn with<T>(&self, trouble: Trouble, act: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        self.set(trouble, None);
        let acted = act();
        self.set(trouble, Some(Instant::now() + SEEN));
        acted
    }

    /// Whether a refusal of this code, of what was asked then, may be this trouble's.
    pub(crate) fn excuse(&self, trouble: Trouble, code: &str, asked: Instant) -> bool {
        let until = self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&trouble).copied();
        let is_seen = until.is_some_and(|until| until.is_none_or(|until| asked < until));
        is_seen && trouble.codes().contains(&code)
    }

    fn set(&self, trouble: Trouble, until: Option<Instant>) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(trouble, until);
    }
}
