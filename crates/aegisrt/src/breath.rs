//! Pauses of closed-loop measurements.
//!
//! Work that keeps every core busy in the real-time class for longer than the system's limit (usually 950 ms of each
//! second) is suspended by the system for the rest of that second, and the pause would be measured as if it were the
//! work's own. So all lanes rest at the same time, well before.

use std::time::Duration;

use aegis_cuda::HostClock;
use aegis_types::{Nanos, Time};

/// How long lanes are kept busy at a stretch.
const BUSY: Nanos = Nanos::from_millis(500);
/// How long they rest.
const REST: Nanos = Nanos::from_millis(60);

/// When all lanes rest next.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Breath {
    next: Time,
}

impl Breath {
    /// The first rest comes a stretch after `now`.
    pub(crate) const fn start(now: Time) -> Self {
        Self { next: now.saturating_add(BUSY) }
    }

    /// Whether lanes that are free must stay so.
    pub(crate) fn is_due(&self, now: Time) -> bool {
        now >= self.next
    }

    /// Rests; every lane is idle.
    pub(crate) fn take(&mut self, clock: HostClock) {
        std::thread::sleep(Duration::from_nanos(REST.get()));
        *self = Self::start(clock.now());
    }
}
