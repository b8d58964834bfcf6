//! Who asks for the system's real-time class, and with which priority.
//!
//! The driver goes before the carriers: its cycles are short and bounded, theirs are not. Both are asked for only
//! when the user says so, and what became of it is reported: without the class, a certificate carries no guarantee of
//! the operating system's.

use aegis_cuda::realtime;
use aegis_types::Nanos;

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
