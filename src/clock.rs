//! The time, which never goes back within a process.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use jiff::Timestamp;

/// How far the machine's clock may stay behind the time that is held. Steps by which clocks are
/// kept right are far smaller, and signatures that end after days may well end so much too early.
/// Source: what Kerberos tolerates between clocks (RFC 4120, section 1.6).
pub const BEHIND: Duration = Duration::from_secs(300);

static SYSTEM: LazyLock<Clock> = LazyLock::new(|| Clock::reading(Timestamp::now));

/// The machine's clock, held at its latest reading when it is set back: nothing that had expired
/// is accepted again. Clones are the same.
#[derive(Debug, Clone)]
pub struct Clock {
    latest_micros: Arc<AtomicI64>,
    read: fn() -> Timestamp,
}

impl Clock {
    /// Reads the machine's clock; one for the whole process.
    pub fn system() -> Self {
        SYSTEM.clone()
    }

    /// Reads the time from `read`.
    pub fn reading(read: fn() -> Timestamp) -> Self {
        Self { latest_micros: Arc::new(AtomicI64::new(i64::MIN)), read }
    }

    /// The time, in microseconds' precision; never before an earlier answer.
    pub fn now(&self) -> Timestamp {
        let read = (self.read)().as_microsecond();
        let latest = self.latest_micros.fetch_max(read, Ordering::AcqRel).max(read);
        Timestamp::from_microsecond(latest).unwrap_or(Timestamp::MAX)
    }

    /// How far the time that is held is ahead of what is read: zero but where the clock was set back.
    pub fn ahead(&self) -> Duration {
        let read = (self.read)().as_microsecond();
        let ahead = self.latest_micros.load(Ordering::Acquire).saturating_sub(read);
        Duration::from_micros(ahead.try_into().unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static SECOND: AtomicI64 = AtomicI64::new(1_000);

    #[test]
    fn t17_a_clock_set_back_does_not_bring_time_back() {
        let clock = Clock::reading(|| {
            Timestamp::from_second(SECOND.load(Ordering::SeqCst)).expect("a time")
        });
        assert_eq!(clock.ahead(), Duration::ZERO, "nothing was read");
        let before = clock.now();
        assert_eq!(clock.ahead(), Duration::ZERO);
        SECOND.store(10, Ordering::SeqCst);
        assert_eq!(clock.now(), before);
        assert_eq!(clock.clone().ahead(), Duration::from_secs(990));
        SECOND.store(2_000, Ordering::SeqCst);
        assert_eq!(clock.ahead(), Duration::ZERO, "a look does not hold");
        assert!(clock.now() > before);
    }
}
