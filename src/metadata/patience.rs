//! What answers while an update takes long, or after it has failed.

use std::pin::pin;

use super::refresh::FAILING;
use super::*;

/// How long a review waits for the refresh of a set that could answer without it.
const PATIENCE: Duration = Duration::from_secs(2);

/// The same of one that has not been refreshed for hours, where its source was just seen to fail: it
/// may be one repository's trouble, and another's update done at once.
const BRIEF: Duration = Duration::from_millis(500);

impl Shared {
    /// What the next update says to this review, or an older set where that takes too long; `None`
    /// where it says nothing. A set in use answers soon. One that was not refreshed for hours does so
    /// only where its source fails or takes long: whoever keeps us busy must not keep a revocation
    /// from being seen.
    pub(super) async fn in_patience(
        self: &Arc<Self>,
        live: &Live,
        namespace: &str,
    ) -> Option<Result<Arc<Repository>, Refusal>> {
        let mut update = pin!(self.begun_or_joined(live, namespace));
        while let Some(older) = self.without_update(live) {
            let patience = match (self.is_away(live), self.was_tried_lately(live)) {
                (true, true) if older.is_ok() => Duration::ZERO,
                (true, false) if older.is_ok() => BRIEF,
                _ => PATIENCE,
            };
            if let Ok(flown) = timeout(patience, update.as_mut()).await {
                return self.answer_of(flown, live);
            }
            if let Some(set) = self.current(live) {
                return Some(Ok(Arc::clone(&set.repository)));
            }
            if let Some(older) = self.excused(live) {
                return Some(older);
            }
        }
        self.answer_of(update.await, live)
    }

    /// What is answered after an update that failed.
    pub(super) fn instead(
        &self,
        live: &Live,
        refusal: Refusal,
    ) -> Result<Arc<Repository>, Refusal> {
        match refusal {
            Refusal::Unavailable(no_room @ Unavailable::Overloaded) => self.untried(live, no_room),
            refusal => self.without_update(live).unwrap_or(Err(refusal)),
        }
    }

    /// What is answered to a review that has no place to wait for an update, or no time left:
    /// `refusal`, where no set may.
    pub(super) fn untried(
        &self,
        live: &Live,
        refusal: Unavailable,
    ) -> Result<Arc<Repository>, Refusal> {
        self.excused(live).unwrap_or(Err(refusal.into()))
    }

    /// What the older set says, where it may. Who asks next does not wait either.
    fn excused(&self, live: &Live) -> Option<Result<Arc<Repository>, Refusal>> {
        let set = self.at_hand(live).filter(|_| self.may_be_older(live))?;
        set.excuse(Instant::now(), UPDATE_TIMEOUT);
        self.without_update(live)
    }

    /// Whether the set at hand may answer although no update of it has ended.
    fn may_be_older(&self, live: &Live) -> bool {
        self.is_away(live) || self.was_tried_lately(live)
    }

    /// Whether an update of the set at hand ended lately, as one of a set in use does: later than it is
    /// due where all of its source hang, and each waits for its turn.
    fn was_tried_lately(&self, live: &Live) -> bool {
        let moment = 2 * live.source.refresh_after + FAILING;
        self.at_hand(live).is_some_and(|set| set.untried_for(Instant::now()) < moment)
    }

    fn is_away(&self, live: &Live) -> bool {
        self.outages.is_away(&live.source.fingerprint)
    }
}
