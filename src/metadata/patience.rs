//! What answers while an update takes long, or after it has failed.

use std::pin::pin;

use super::refresh::FAILING;
use super::*;

impl Shared {
    /// What the next update says to this review, or an older set where that takes too long; `None`
    /// where it says nothing. A set that was due a moment ago answers soon. One that was not
    /// refreshed for hours does so only where the source itself takes long: whoever keeps the turns
    /// busy must not keep a revocation from being seen.
    pub(super) async fn in_patience(
        self: &Arc<Self>,
        live: &Live,
        namespace: &str,
    ) -> Option<Result<Arc<Repository>, Refusal>> {
        let mut update = pin!(self.begun_or_joined(live, namespace));
        while let Some(older) = self.without_update(live) {
            let has_begun = self.flights.is_under_way(&live.set_key());
            // Nobody has to find out anew.
            let is_known = self.is_away(live) && older.is_ok();
            let patience = if is_known { Duration::ZERO } else { PATIENCE };
            if let Ok(flown) = timeout(patience, update.as_mut()).await {
                return self.answer_of(flown, live);
            }
            if has_begun || self.may_be_older(live) {
                return Some(self.excused(live, Unavailable::DeadlineExceeded));
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
        if self.may_be_older(live) { self.excused(live, refusal) } else { Err(refusal.into()) }
    }

    /// The older set, or `refusal`. Who asks next does not wait either.
    fn excused(&self, live: &Live, refusal: Unavailable) -> Result<Arc<Repository>, Refusal> {
        if let Some(set) = self.at_hand(live) {
            set.excuse(Instant::now(), UPDATE_TIMEOUT);
        }
        self.without_update(live).unwrap_or(Err(refusal.into()))
    }

    /// Whether the set at hand may answer although no update of it was tried.
    fn may_be_older(&self, live: &Live) -> bool {
        let missed =
            |set: Arc<Set>| set.age(Instant::now()).saturating_sub(live.source.refresh_after);
        let is_hardly_due = || self.at_hand(live).is_some_and(|set| missed(set) < FAILING);
        self.is_away(live) || is_hardly_due()
    }

    /// Whether the source fails, and was asked so lately that reviews need not find out anew.
    fn is_away(&self, live: &Live) -> bool {
        let since = self.outages.get(&live.source.fingerprint);
        since.is_some_and(|since| since.elapsed() < FAILING)
    }
}
