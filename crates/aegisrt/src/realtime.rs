//! Who asks for the system's real-time class, and with which priority.
//!
//! The driver goes before the carriers: its cycles are short and bounded, theirs are not. Both are asked for only
//! when the user says so, and what became of it is reported: without the class, a certificate carries no guarantee of
//! the operating system's.

use std::time::Duration;

use aegis_cuda::{HostClock, realtime};
use aegis_types::{Nanos, Time};

/// A thread's part in the runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Decides.
    Driver,
    /// Carries a lane.
    Carrier,
}

impl Role {
    const fn priority(self) -> u8 {
        match self {
            Self::Driver => 20,
            Self::Carrier => 10,
        }
    }
}

/// Asks for the real-time class for the calling thread if `wanted`, and says what became of it. Timed waits of the
/// driver are made as exact as the system can either way.
pub fn enter(role: Role, wanted: bool) -> String {
    // A coarser timer is no failure: how late the driver wakes is measured and charged.
    let slack = realtime::set_timer_slack(Nanos::new(1)).is_ok();
    let class = if !wanted {
        "ordinary scheduling class: no guarantee of the operating system's".to_owned()
    } else {
        match realtime::enter(role.priority()) {
            Ok(()) => format!("real-time class, first in first out, priority {}", role.priority()),
            Err(error) => format!("ordinary scheduling class: {error}"),
        }
    };
    if slack { class } else { format!("{class}; coarse timers") }
}

/// Puts the calling thread back into the ordinary class.
pub fn leave(wanted: bool) {
    if wanted {
        // A thread that the system keeps in the class ends with the run.
        let _refused = realtime::leave();
    }
}

/// Pauses of closed-loop measurements.
///
/// Work that keeps every core busy in the real-time class for longer than the system's limit (usually 950 ms of each
/// second) is suspended by the system for the rest of that second, and the pause would be measured as if it were the
/// work's own. So all lanes rest at the same time, well before.
#[derive(Clone, Copy, Debug)]
pub struct Breath {
    next: Time,
}

impl Breath {
    /// How long lanes are kept busy at a stretch.
    const BUSY: Nanos = Nanos::from_millis(500);
    /// How long they rest.
    const REST: Nanos = Nanos::from_millis(60);

    /// The first rest comes a stretch after `now`.
    pub const fn start(now: Time) -> Self {
        Self { next: now.saturating_add(Self::BUSY) }
    }

    /// Whether lanes that are free must stay so.
    pub fn is_due(&self, now: Time) -> bool {
        now >= self.next
    }

    /// Rests; every lane is idle.
    pub fn take(&mut self, clock: HostClock) {
        std::thread::sleep(Duration::from_nanos(Self::REST.get()));
        *self = Self::start(clock.now());
    }
}
