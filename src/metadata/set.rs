//! A verified set at hand: how long it answers, and whether anybody asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use countersign_verify::memory::Memory;
use countersign_verify::notary::RoleInfo;
use countersign_verify::outcome::{Denial, Refusal, Unavailable};
use jiff::Timestamp;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::refresh::FAILING;
use super::{Live, Repository};
use crate::api::Source;

/// A set that a review asked for within this time is in use: it is refreshed in the background.
/// Others stay, where there is room, for as long as they could answer in an outage.
pub(super) const IN_USE: Duration = Duration::from_secs(3600);

/// How long a set answers that has been passed by what an update under way verified: the update
/// has ended by then as a rule, so that no review waits for it.
const GRACE: Duration = Duration::from_secs(1);

/// An age that no set reaches, in milliseconds.
const NEVER: u64 = u64::MAX;

/// What a set takes in memory beside what its files do: tables, keys, its own task.
const OVERHEAD_BYTES: u64 = 4 << 10;

/// What a file takes in memory, in its own lengths: its bytes once, and what is made of them.
const FOOTPRINT: u64 = 3;

/// Files by role, as they were verified; without older roots.
pub(super) type Kept = HashMap<String, Bytes>;

/// A complete, verified set, from its last complete update on.
pub(super) struct Set {
    /// What it was last updated for.
    pub(super) live: Live,
    pub(super) repository: Arc<Repository>,
    pub(super) files: Arc<Kept>,
    /// When each of its roles expires or has expired, where it is bad for no other reason.
    pub(super) expiries: Vec<(String, Timestamp)>,
    /// When its last complete update began.
    pub(super) complete: Instant,
    /// Updates that have failed since.
    failures: AtomicU32,
    /// When the first of them did.
    failing_since: OnceLock<Instant>,
    /// The last one's code.
    last_failure: Mutex<Option<&'static str>>,
    /// Until when it answers though it is due, in milliseconds since `complete`.
    excused: AtomicU64,
    /// How old it was when its last update failed, in milliseconds.
    tried: AtomicU64,
    /// How old it was when something newer than it rests on was verified, in milliseconds.
    passed: AtomicU64,
    /// It never answers again.
    ended: AtomicBool,
    pub(super) attention: Arc<Attention>,
}

/// Who cares for a repository; shared by its sets, one after the other.
pub(super) struct Attention {
    begun: Instant,
    /// When a review asked last, in milliseconds since `begun`.
    used: AtomicU64,
    /// As the last review knew it: how often to refresh may have changed.
    source: ArcSwap<Source>,
    /// Refreshes the sets.
    keeper: OnceLock<AbortHandle>,
}

impl Set {
    pub(super) fn new(
        live: Live,
        repository: Arc<Repository>,
        files: Arc<Kept>,
        complete: Instant,
        attention: Arc<Attention>,
    ) -> Self {
        let (failures, last_failure) = (AtomicU32::new(0), Mutex::default());
        let failing_since = OnceLock::new();
        let excused = AtomicU64::new(0);
        let expiries = expiries(&repository);
        Self {
            live,
            repository,
            files,
            expiries,
            complete,
            failures,
            failing_since,
            last_failure,
            excused,
            tried: AtomicU64::new(0),
            passed: AtomicU64::new(NEVER),
            ended: AtomicBool::new(false),
            attention,
        }
    }

    /// The same with more of the repository loaded.
    pub(super) fn extended(&self, repository: Arc<Repository>) -> Self {
        let last_failure = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        Self {
            live: self.live.clone(),
            expiries: expiries(&repository),
            repository,
            files: Arc::clone(&self.files),
            complete: self.complete,
            failures: AtomicU32::new(self.failures()),
            failing_since: self.failing_since.clone(),
            last_failure: Mutex::new(*last_failure),
            excused: AtomicU64::new(self.excused.load(Ordering::Relaxed)),
            tried: AtomicU64::new(self.tried.load(Ordering::Relaxed)),
            passed: AtomicU64::new(self.passed.load(Ordering::Relaxed)),
            ended: AtomicBool::new(self.ended.load(Ordering::Relaxed)),
            attention: Arc::clone(&self.attention),
        }
    }

    pub(super) fn age(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.complete)
    }

    /// Whether it answers without an update.
    pub(super) fn is_current(&self, source: &Source, now: Instant, time: Timestamp) -> bool {
        let age = self.age(now);
        let due = age >= source.refresh_after;
        let excused = || age < self.excused_for() && age < source.refuse_after;
        (!due || excused()) && !self.is_over(now) && time < self.repository.expires()
    }

    /// What it answers where an update fails or takes too long; `None` where it has expired or was
    /// passed, so that the update's own refusal tells more.
    pub(super) fn without_update(
        &self,
        source: &Source,
        now: Instant,
        time: Timestamp,
    ) -> Option<Result<Arc<Repository>, Refusal>> {
        if self.repository.expires() <= time || self.is_over(now) {
            return None;
        }
        let age = self.age(now);
        if age < source.refuse_after {
            return Some(Ok(Arc::clone(&self.repository)));
        }
        let (source_name, age_seconds) = (source.name.clone(), age.as_secs());
        Some(Err(Unavailable::SourceStale { source_name, age_seconds }.into()))
    }

    /// So much is verified, by an update that has not ended or by another process.
    pub(super) fn is_passed_by(&self, verified: &Memory, now: Instant) {
        if self.repository.superseded_by(verified) {
            self.passed.fetch_min(millis(self.age(now)), Ordering::Relaxed);
        }
    }

    /// What passed it could not be remembered.
    pub(super) fn goes_on(&self) {
        self.passed.store(NEVER, Ordering::Relaxed);
    }

    /// What passed it is remembered. It is refreshed as before, and says what has expired.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    fn is_over(&self, now: Instant) -> bool {
        let passed = Duration::from_millis(self.passed.load(Ordering::Relaxed));
        self.ended.load(Ordering::Relaxed) || self.age(now) >= passed.saturating_add(GRACE)
    }

    /// It answers for so long without an update, as long as it may at all.
    pub(super) fn excuse(&self, now: Instant, time: Duration) {
        self.excused.fetch_max(millis(self.age(now) + time), Ordering::Relaxed);
    }

    /// An update has failed with this code: reviews do not wait for the next one, which the
    /// background tries. Tells whether the one before ended otherwise.
    pub(super) fn failed(&self, now: Instant, code: &'static str) -> bool {
        // Where we had no room for it, it says nothing of the source.
        if code != Unavailable::Overloaded.code() {
            self.tried.fetch_max(millis(self.age(now)), Ordering::Relaxed);
            self.excuse(now, FAILING);
        }
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.failing_since.get_or_init(|| now);
        self.is_news(code)
    }

    /// For how long no update of it has ended, whether it failed or not.
    pub(super) fn untried_for(&self, now: Instant) -> Duration {
        let tried = Duration::from_millis(self.tried.load(Ordering::Relaxed));
        self.age(now).saturating_sub(tried)
    }

    /// Whether what went wrong before had another code.
    pub(super) fn is_news(&self, code: &'static str) -> bool {
        let mut last = self.last_failure.lock().unwrap_or_else(PoisonError::into_inner);
        last.replace(code) != Some(code)
    }

    pub(super) fn failures(&self) -> u32 {
        self.failures.load(Ordering::Relaxed)
    }

    /// For how long updates have failed.
    pub(super) fn failing_for(&self, now: Instant) -> Duration {
        let since = self.failing_since.get();
        since.map_or(Duration::ZERO, |since| now.saturating_duration_since(*since))
    }

    fn excused_for(&self) -> Duration {
        Duration::from_millis(self.excused.load(Ordering::Relaxed))
    }
}

/// The memory that a repository takes as a set, roughly, in bytes.
pub(super) fn footprint(repository: &Repository) -> u32 {
    let bytes = FOOTPRINT.saturating_mul(repository.bytes()).saturating_add(OVERHEAD_BYTES);
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

fn expiries(repository: &Repository) -> Vec<(String, Timestamp)> {
    let expires = |role: RoleInfo| match role.state {
        Ok(detail) => Some((role.name, detail.expires)),
        // Its images are refused until somebody signs it anew.
        Err(Refusal::Denied(Denial::Expired { expired, .. })) => Some((role.name, expired)),
        Err(_) => None,
    };
    repository.roles().into_iter().filter_map(expires).collect()
}

impl Attention {
    pub(super) fn new(source: &Arc<Source>, now: Instant) -> Self {
        Self {
            begun: now,
            used: AtomicU64::new(0),
            source: ArcSwap::new(Arc::clone(source)),
            keeper: OnceLock::new(),
        }
    }

    /// A review asks. Two atomic reads and a write.
    pub(super) fn is_paid(&self, source: &Arc<Source>, now: Instant) {
        self.used.store(millis(now.saturating_duration_since(self.begun)), Ordering::Relaxed);
        if !Arc::ptr_eq(&self.source.load(), source) {
            self.goes_on_in(source);
        }
    }

    pub(super) fn is_in_use(&self, now: Instant) -> bool {
        self.unused_for(now) < IN_USE
    }

    /// Whether nobody has asked for so long that the last refresh, which was made for somebody, is
    /// too old to answer.
    pub(super) fn is_over(&self, now: Instant) -> bool {
        self.unused_for(now) >= IN_USE + self.source.load().refuse_after
    }

    fn unused_for(&self, now: Instant) -> Duration {
        let used = self.begun + Duration::from_millis(self.used.load(Ordering::Relaxed));
        now.saturating_duration_since(used)
    }

    /// It goes on in another version of its source.
    pub(super) fn goes_on_in(&self, source: &Arc<Source>) {
        self.source.store(Arc::clone(source));
    }

    pub(super) fn source(&self) -> Arc<Source> {
        self.source.load_full()
    }

    /// Ends `keeper` when nobody holds a set of this repository any more.
    pub(super) fn keep_by(&self, keeper: AbortHandle) {
        if let Err(another) = self.keeper.set(keeper) {
            another.abort();
        }
    }
}

impl Drop for Attention {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.abort();
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
