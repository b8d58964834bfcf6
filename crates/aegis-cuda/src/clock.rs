//! The one host clock. Read by the driver and the carriers of the composition root, told to everyone else.

use aegis_types::Time;
use rustix::time::{ClockId, clock_gettime};

/// The monotonic raw clock, counted from an epoch: unaffected by time synchronisation, shared by all threads.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    epoch: u64,
}

impl HostClock {
    /// A clock whose epoch is this instant.
    pub fn start() -> Self {
        Self { epoch: raw() }
    }

    /// The time since the epoch.
    pub fn now(&self) -> Time {
        Time::new(raw().saturating_sub(self.epoch))
    }
}

fn raw() -> u64 {
    let now = clock_gettime(ClockId::MonotonicRaw);
    // The kernel's monotonic clocks start at boot and are never negative.
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(now.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_does_not_go_back() {
        let clock = HostClock::start();
        let mut last = clock.now();
        for _ in 0..10_000 {
            let now = clock.now();
            assert!(now >= last);
            last = now;
        }
    }
}
