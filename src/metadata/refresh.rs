//! Sets in use are refreshed before they are due, so that reviews do not wait.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tracing::Instrument as _;

use super::set::{Attention, Set};
use super::{Live, SetKey, Shared, UPDATE_TIMEOUT, span};
use crate::fair;

/// A refresh begins at 60% to 90% of `refreshAfterSeconds`: sets that were read together spread,
/// and the update has a tenth of the time to end in before a review would have to wait for it.
const DUE: (f64, f64) = (0.6, 0.9);

/// The first pause after an update that failed; it doubles.
const BACK_OFF: Duration = Duration::from_secs(1);

/// The longest pause, before it is spread: so long may it take until a source that is back is
/// asked again about a set in use.
const LONGEST_BACK_OFF: Duration = Duration::from_secs(16);

/// How long after an update that failed the end of the next one may be.
pub(super) const FAILING: Duration = LONGEST_BACK_OFF.saturating_add(UPDATE_TIMEOUT);

/// Nothing is looked at more often.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

/// Looks after the sets of one repository, one after the other, for as long as anybody holds one of
/// them: who puts another in the place of one that has just gone need not know whether it went.
pub(super) async fn keep(shared: Weak<Shared>, key: SetKey, attention: Weak<Attention>) {
    let Some(mut pause) = first_pause(&shared, &key, &attention) else { return };
    loop {
        sleep(pause).await;
        match turn(&shared, &key, &attention).await {
            Some(next) => pause = next.max(SHORTEST_PAUSE),
            None => return,
        }
    }
}

fn first_pause(
    shared: &Weak<Shared>,
    key: &SetKey,
    attention: &Weak<Attention>,
) -> Option<Duration> {
    let (shared, attention) = (shared.upgrade()?, attention.upgrade()?);
    Some(next_pause(&shared, key, &attention))
}

/// Refreshes the set if it is in use, and tells when to look again; `None` where nobody holds any.
async fn turn(
    shared: &Weak<Shared>,
    key: &SetKey,
    attention: &Weak<Attention>,
) -> Option<Duration> {
    let waiting = {
        let (shared, attention) = (shared.upgrade()?, attention.upgrade()?);
        let now = Instant::now();
        if attention.is_over(now) && at_hand(&shared, key, &attention).is_some() {
            shared.sets.invalidate(key);
        }
        if !attention.is_in_use(now) {
            // To look at the set itself would count as use: what nobody asks for is to leave first.
            return Some(spread(attention.source().refresh_after));
        }
        shared.gate.enter_background(attention.source().host())
    };
    // Holds nothing meanwhile: the source may change or go, and the set with it.
    let turn = waiting.await;
    let (shared, attention) = (shared.upgrade()?, attention.upgrade()?);
    if let Some(set) = at_hand(&shared, key, &attention) {
        refresh(&shared, &set, turn).await;
    }
    Some(next_pause(&shared, key, &attention))
}

fn next_pause(shared: &Shared, key: &SetKey, attention: &Arc<Attention>) -> Duration {
    match at_hand(shared, key, attention) {
        Some(set) => pause(shared, &set),
        None => spread(attention.source().refresh_after),
    }
}

/// The set, if it is not of those that came after they had gone.
fn at_hand(shared: &Shared, key: &SetKey, attention: &Arc<Attention>) -> Option<Arc<Set>> {
    shared.sets.get(key).filter(|set| Arc::ptr_eq(&set.attention, attention))
}

async fn refresh(shared: &Arc<Shared>, set: &Set, turn: fair::Place<String>) {
    let live = Live { source: set.attention.source(), ..set.live.clone() };
    let (key, live) = (live.set_key(), Arc::new(live));
    let (seen, whole) = (set.complete, Arc::clone(shared));
    let update = move || async move {
        let _turn = turn;
        // A review may have been faster.
        let done = match whole.at_hand(&live) {
            Some(set) if set.complete != seen => Ok(Arc::clone(&set.repository)),
            _ => whole.renew(&live, false).instrument(span::update(&live, true)).await,
        };
        (live, done)
    };
    // The update tells in the log how it ended.
    let _ = shared.flights.at_once(key, update).await;
}

/// Until the next refresh: before the set is due, and where it expires earlier, then. A source that
/// signs a new timestamp only when the old one has ended has one by then.
fn pause(shared: &Shared, set: &Set) -> Duration {
    match set.failures() {
        0 => {
            let left = set.repository.expires().duration_since(shared.clock.now());
            let due = spread(set.attention.source().refresh_after);
            let due = due.saturating_sub(set.age(Instant::now()));
            Duration::try_from(left).map_or(due, |left| due.min(left))
        }
        failures => back_off(failures - 1),
    }
}

/// How long to leave a source alone after an update that failed, with so many failed before it.
fn back_off(before: u32) -> Duration {
    let doubled = BACK_OFF.saturating_mul(2_u32.saturating_pow(before));
    spread(doubled.min(LONGEST_BACK_OFF))
}

fn spread(whole: Duration) -> Duration {
    // A freshly keyed hash is random enough to spread pauses.
    let random = (RandomState::new().hash_one(0) % 1024) as f64 / 1024.0;
    whole.mul_f64(DUE.0 + (DUE.1 - DUE.0) * random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn o6_pauses_are_spread_over_their_whole_range() {
        let pauses: Vec<Duration> = (0..1000).map(|_| spread(Duration::from_secs(1000))).collect();
        // A tenth of it without any is a bug, and no chance: one in 10^45.
        for tenth in 0..10 {
            let (from, to) = (600 + 30 * tenth, 630 + 30 * tenth);
            let is_within = |pause: &Duration| (from..to).contains(&pause.as_secs());
            assert!(pauses.iter().any(is_within), "none from {from} s to {to} s");
        }
        assert!(pauses.iter().all(|pause| (600..900).contains(&pause.as_secs())));
    }
}
