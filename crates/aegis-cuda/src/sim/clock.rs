//! Virtual time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::Time;

/// The clock of a simulation. Clones show the same time.
#[derive(Clone, Debug, Default)]
pub struct SimClock {
    now: Arc<AtomicU64>,
}

impl SimClock {
    /// A clock at its epoch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The virtual time.
    pub fn now(&self) -> Time {
        Time::new(self.now.load(Ordering::Acquire))
    }

    /// Moves the time forward to `instant`; an earlier instant changes nothing.
    pub fn advance_to(&self, instant: Time) {
        self.now.fetch_max(instant.get(), Ordering::AcqRel);
    }
}
