//! How the runtime's threads wait for the next event: by looking again, or by sleeping until somebody wakes them.
//!
//! A look costs tens of nanoseconds and a core of its own; a wake-up costs microseconds and no core. Which is better
//! is the user's to say, and both are charged as measured.

use aegis_types::Nanos;

use crate::config::WaitMode;

/// How long before its next timer a driver stops sleeping where the fleet says `hybrid`: ordinary systems wake a thread
/// within half of it.
const BEFORE: Nanos = Nanos::from_micros(100);

/// The longest single sleep: in it the two clocks part by 10 µs at most (500 ppm).
pub const SLEEP_MAX: Nanos = Nanos::from_millis(20);

/// How driver and carriers wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Waiting {
    /// Nobody sleeps: every thread looks again at once. Each needs a core of its own.
    Spin,
    /// Threads look while something is in flight, the driver also when its next timer is near; else they sleep.
    Hybrid {
        /// How long before its next timer the driver stops sleeping: more than a wake-up takes.
        before: Nanos,
    },
    /// Threads sleep until they are woken or their timer expires.
    #[default]
    Blocking,
}

impl From<WaitMode> for Waiting {
    fn from(mode: WaitMode) -> Self {
        match mode {
            WaitMode::Spin => Self::Spin,
            WaitMode::Hybrid => Self::Hybrid { before: BEFORE },
            WaitMode::Blocking => Self::Blocking,
        }
    }
}

/// What a thread does that found nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pause {
    /// Look again at once.
    Look,
    /// Sleep for so long, unless somebody wakes the thread before.
    Sleep(Nanos),
}

impl Waiting {
    /// Whether threads may sleep, so that whoever has something for them must wake them.
    pub const fn sleeps(self) -> bool {
        match self {
            Self::Spin => false,
            Self::Hybrid { .. } | Self::Blocking => true,
        }
    }

    /// What a thread does whose next timer expires in `left`, `None` without a timer; `flying` says whether it waits
    /// for something in flight.
    pub fn pause(self, left: Option<Nanos>, flying: bool) -> Pause {
        let near = |before: Nanos| left.is_some_and(|left| left <= before);
        let sleep = |before: Nanos| {
            let rest = left.map_or(SLEEP_MAX, |left| left.saturating_sub(before));
            Pause::Sleep(rest.min(SLEEP_MAX))
        };
        match self {
            Self::Spin => Pause::Look,
            Self::Hybrid { before } if flying || near(before) => Pause::Look,
            Self::Hybrid { before } => sleep(before),
            Self::Blocking if near(Nanos::ZERO) => Pause::Look,
            Self::Blocking => sleep(Nanos::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_may_sleep_sleeps_and_never_past_its_timer() {
        let us = Nanos::from_micros;
        let hybrid = Waiting::Hybrid { before: us(50) };
        let table = [
            (Waiting::Spin, None, false, Pause::Look),
            (Waiting::Spin, Some(us(900)), true, Pause::Look),
            (hybrid, Some(us(50)), false, Pause::Look),
            (hybrid, Some(us(51)), false, Pause::Sleep(us(1))),
            (hybrid, Some(us(900)), true, Pause::Look),
            (hybrid, None, false, Pause::Sleep(SLEEP_MAX)),
            (hybrid, None, true, Pause::Look),
            (Waiting::Blocking, Some(Nanos::ZERO), false, Pause::Look),
            (Waiting::Blocking, Some(us(7)), true, Pause::Sleep(us(7))),
            (Waiting::Blocking, Some(Nanos::from_millis(500)), false, Pause::Sleep(SLEEP_MAX)),
        ];
        for (waiting, left, flying, expected) in table {
            assert_eq!(waiting.pause(left, flying), expected, "{waiting:?} {left:?} {flying}");
        }
    }
}
