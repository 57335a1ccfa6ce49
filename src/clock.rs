//! The time, which never goes back within a process.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// The machine's clock, held at its latest reading when it is set back: nothing that had expired
/// is accepted again.
#[derive(Debug)]
pub struct Clock {
    latest_micros: AtomicI64,
    read: fn() -> Timestamp,
}

impl Clock {
    /// Reads the machine's clock.
    pub fn system() -> Self {
        Self::reading(Timestamp::now)
    }

    /// Reads the time from `read`.
    pub fn reading(read: fn() -> Timestamp) -> Self {
        Self { latest_micros: AtomicI64::new(i64::MIN), read }
    }

    /// The time, in microseconds' precision; never before an earlier answer.
    pub fn now(&self) -> Timestamp {
        let read = (self.read)().as_microsecond();
        let latest = self.latest_micros.fetch_max(read, Ordering::AcqRel).max(read);
        Timestamp::from_microsecond(latest).unwrap_or(Timestamp::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicI64, Ordering};

    use super::*;

    static SECOND: AtomicI64 = AtomicI64::new(1_000);

    #[test]
    fn t17_a_clock_set_back_does_not_bring_time_back() {
        let clock = Clock::reading(|| {
            Timestamp::from_second(SECOND.load(Ordering::SeqCst)).expect("a time")
        });
        let before = clock.now();
        SECOND.store(10, Ordering::SeqCst);
        assert_eq!(clock.now(), before);
        SECOND.store(2_000, Ordering::SeqCst);
        assert!(clock.now() > before);
    }
}
