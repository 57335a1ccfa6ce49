//! How the sets at hand are, for metrics.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Shared;
use super::set::Set;

/// A role, as far as it can be told in a label: the names of delegations are their authors'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RoleKind {
    /// `root`.
    Root,
    /// `timestamp`.
    Timestamp,
    /// `snapshot`.
    Snapshot,
    /// `targets`.
    Targets,
    /// Any role that is delegated to.
    Delegation,
}

impl RoleKind {
    /// The kind of the role of this name.
    pub fn of(role: &str) -> Self {
        match role {
            "root" => Self::Root,
            "timestamp" => Self::Timestamp,
            "snapshot" => Self::Snapshot,
            "targets" => Self::Targets,
            _ => Self::Delegation,
        }
    }

    /// As in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Timestamp => "timestamp",
            Self::Snapshot => "snapshot",
            Self::Targets => "targets",
            Self::Delegation => "delegation",
        }
    }

    /// Whether a server signs it anew by itself, over and over. Notary's does so only when the old
    /// one has ended, so that it is about to end tells nothing.
    pub fn is_signed_by_servers(self) -> bool {
        matches!(self, Self::Timestamp | Self::Snapshot)
    }
}

/// When a role of a repository expires.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expiry {
    /// Then.
    pub at: Timestamp,
    /// `registry/repository`; `*` of a TUF source.
    pub repository: String,
    /// The role's name.
    pub role: String,
}

/// A set whose updates have failed for so long is cut off: its server is not seen to sign what it
/// signs by itself. One that restarts, or a single request that fails, is back sooner.
const CUT_OFF: Duration = Duration::from_secs(5 * 60);

/// The sets at hand of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfSource {
    /// Sets in use.
    pub in_use: u64,
    /// Sets in use whose last update failed.
    pub failing: u64,
    /// How long ago the last complete update of a set in use began, of that for which it is
    /// longest; zero where none is in use.
    pub oldest: Duration,
    /// How old a set may be and answer, of the set in use for which it is least.
    pub refuse_after: Option<Duration>,
    /// The earliest expiry of each kind of role in a set in use; apart, of sets that are cut off:
    /// those whose updates have failed for five minutes.
    pub expiries: BTreeMap<(RoleKind, bool), Timestamp>,
    /// What expires first of the sets in use, unless somebody signs: roles that people sign, and
    /// others of sets that are cut off. None where a server is seen to sign.
    pub next: Option<Expiry>,
    /// When the first such role of each set in use expires, in no order.
    pub ends: Vec<Timestamp>,
}

impl OfSource {
    fn add(&mut self, set: &Set, now: Instant) {
        if !set.attention.is_in_use(now) {
            return;
        }
        let refuse_after = set.attention.source().refuse_after;
        self.refuse_after = Some(self.refuse_after.map_or(refuse_after, |it| it.min(refuse_after)));
        self.in_use += 1;
        self.failing += u64::from(set.failures() > 0);
        self.oldest = self.oldest.max(set.age(now));
        let is_cut_off = set.failing_for(now) >= CUT_OFF;
        let mut first: Option<(Timestamp, &str)> = None;
        for (role, at) in &set.expiries {
            let kind = RoleKind::of(role);
            let earliest = self.expiries.entry((kind, is_cut_off)).or_insert(*at);
            *earliest = (*earliest).min(*at);
            let counts = is_cut_off || !kind.is_signed_by_servers();
            if counts && first.is_none_or(|first| (*at, &**role) < first) {
                first = Some((*at, role));
            }
        }
        let Some((at, role)) = first else { return };
        self.ends.push(at);
        let is_next = |next: &Expiry| {
            (at, &*set.live.repository, role) < (next.at, &*next.repository, &*next.role)
        };
        if self.next.as_ref().is_none_or(is_next) {
            let (repository, role) = (set.live.repository.clone(), role.to_owned());
            self.next = Some(Expiry { at, repository, role });
        }
    }
}

impl Shared {
    pub(super) fn by_source(&self) -> BTreeMap<String, OfSource> {
        let now = Instant::now();
        let mut sources: BTreeMap<String, OfSource> = BTreeMap::new();
        for (_, set) in &self.sets {
            sources.entry(set.attention.source().name.clone()).or_default().add(&set, now);
        }
        sources
    }
}
