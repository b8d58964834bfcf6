//! Gaps of a carrier that spins, told to the driver.
//!
//! The driver sees itself not running; of the thread that launches for it it sees nothing but late flags. So that
//! thread watches its own looks at the clock too (sections 2 and 10 of `docs/model.md`), and leaves the longest gap where the driver
//! asks in every cycle. A gap that delayed a launch is left there before the flag of that launch shows, unless it goes on:
//! then the occupancy is watched all the same (E4).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::{Nanos, Time};

/// Shorter gaps are not told: what the carrier does between two looks takes no longer, and telling costs the driver a
/// line of its cache.
pub(crate) use crate::calibrate::STALL as NOTABLE;

/// The longest gap of one thread that nobody has asked for yet.
#[derive(Debug, Default)]
pub struct Gap(AtomicU64);

impl Gap {
    /// Leaves a gap, if it is [notable](NOTABLE).
    pub(crate) fn note(&self, gap: Nanos) {
        if gap >= NOTABLE {
            self.0.fetch_max(gap.get(), Ordering::Release);
        }
    }

    /// The longest since it was asked for last.
    pub(crate) fn take(&self) -> Nanos {
        // Hardly ever is there any, and a plain load leaves the line shared.
        if self.0.load(Ordering::Acquire) == 0 {
            return Nanos::ZERO;
        }
        Nanos::new(self.0.swap(0, Ordering::Acquire))
    }
}

/// A thread that looks at the clock again and again.
#[derive(Debug)]
pub(crate) struct Watch {
    told: Arc<Gap>,
    looked: Time,
}

impl Watch {
    /// A watch that begins at `now`.
    pub(crate) const fn new(told: Arc<Gap>, now: Time) -> Self {
        Self { told, looked: now }
    }

    /// The thread looks, and did nothing of length since it looked last.
    pub(crate) fn look(&mut self, now: Time) {
        self.told.note(now.since(self.looked));
        self.looked = now;
    }

    /// The thread has done something until `now` that took longer than it usually does by `excess`.
    pub(crate) fn worked(&mut self, now: Time, excess: Nanos) {
        self.told.note(excess);
        self.looked = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_notable_gap_is_told_once() {
        let told = Arc::new(Gap::default());
        let at = |us: u64| Time::new(us * 1_000);
        let mut watch = Watch::new(Arc::clone(&told), at(100));
        watch.look(at(119));
        assert_eq!(told.take(), Nanos::ZERO, "short gaps are work");
        watch.look(at(139));
        watch.look(at(189));
        watch.look(at(219));
        assert_eq!(told.take(), Nanos::from_micros(50));
        assert_eq!(told.take(), Nanos::ZERO);
    }

    #[test]
    fn of_work_only_what_is_unusual_is_a_gap() {
        let told = Arc::new(Gap::default());
        let at = |us: u64| Time::new(us * 1_000);
        let mut watch = Watch::new(Arc::clone(&told), at(0));
        watch.worked(at(900), Nanos::ZERO);
        watch.look(at(901));
        assert_eq!(told.take(), Nanos::ZERO, "a long visit is none");
        watch.worked(at(2_000), Nanos::from_micros(200));
        assert_eq!(told.take(), Nanos::from_micros(200));
    }
}
