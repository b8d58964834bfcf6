//! How long a sleeping thread takes to run after somebody wakes it.
//!
//! While lanes are kept busy a driver that spins whenever something is in flight never sleeps, so its wake-ups do not
//! show in the laps. They are measured by themselves: one thread sleeps, another wakes it and says when.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aegis_cuda::HostClock;
use aegis_types::{Nanos, Time};

/// Time from the end of one wake-up to the next: long enough for the sleeper to be asleep again.
const REST: Nanos = Nanos::from_micros(250);
/// Nobody is left asleep by a lost wake-up for longer than this.
const DOZE: Duration = Duration::from_millis(50);
/// Samples at most.
const ROOM: usize = 1 << 16;

/// Sleeps and is woken for so long, and returns how long each wake-up took: from just before the call that wakes to the
/// first reading of the clock behind it.
pub(super) fn measure(clock: HostClock, duration: Nanos) -> Vec<Nanos> {
    let (called, over) = (AtomicU64::new(0), AtomicBool::new(false));
    let sleeper = std::thread::current();
    let mut samples = Vec::with_capacity(ROOM);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let end = clock.now().saturating_add(duration);
            while clock.now() < end {
                // The one that was woken says so by taking the stamp away.
                let rested = clock.now().saturating_add(REST);
                while clock.now() < rested || called.load(Ordering::Acquire) != 0 {
                    std::hint::spin_loop();
                }
                called.store(clock.now().get().max(1), Ordering::Release);
                sleeper.unpark();
            }
            over.store(true, Ordering::Release);
            sleeper.unpark();
        });
        while !over.load(Ordering::Acquire) {
            std::thread::park_timeout(DOZE);
            let awake = clock.now();
            let stamp = called.swap(0, Ordering::AcqRel);
            // A sleep also ends by itself, and by wake-ups that somebody else meant.
            if stamp != 0 && samples.len() < samples.capacity() {
                samples.push(awake.since(Time::new(stamp)));
            }
        }
    });
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_wake_up_takes_some_time_and_none_is_lost() {
        let clock = HostClock::start();
        let samples = measure(clock, Nanos::from_millis(60));
        assert!(samples.len() > 5, "{} wake-ups in 60 ms", samples.len());
        assert!(samples.iter().all(|sample| !sample.is_zero()), "{samples:?}");
    }
}
