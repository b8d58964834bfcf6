//! How much a bench does: all of it under `cargo bench`, a little where only the code is tried.

use std::time::Duration;

use criterion::Criterion;

/// The variable that asks for few samples: `AEGIS_BENCH_QUICK=1`.
pub const QUICK: &str = "AEGIS_BENCH_QUICK";

/// How much is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// As many samples as the figures need that are written down.
    Full,
    /// Just enough to see that the bench works; its figures mean nothing.
    Quick,
}

impl Effort {
    /// What the environment asks for. Without the argument `--bench`, which cargo adds under `cargo bench`, or with
    /// `--test`, it is quick.
    pub fn asked() -> Self {
        let set = std::env::var(QUICK).is_ok_and(|value| !matches!(value.as_str(), "" | "0"));
        let given = |wanted: &str| std::env::args().any(|argument| argument == wanted);
        if set || given("--test") || !given("--bench") { Self::Quick } else { Self::Full }
    }

    /// `full`, or `quick` where little is asked for.
    pub const fn choose(self, full: u64, quick: u64) -> u64 {
        match self {
            Self::Full => full,
            Self::Quick => quick,
        }
    }

    /// Criterion as every bench uses it: so long for one mean, a third of that to warm up, so many samples; arguments of
    /// the command line go before.
    pub fn criterion(self) -> Criterion {
        let (measuring, samples) = match self {
            Self::Full => (Duration::from_secs(3), 50),
            Self::Quick => (Duration::from_millis(150), 10),
        };
        Criterion::default()
            .warm_up_time(measuring / 3)
            .measurement_time(measuring)
            .sample_size(samples)
            .configure_from_args()
    }

    /// What stands before the figures.
    pub const fn note(self) -> &'static str {
        match self {
            Self::Full => "full counts",
            Self::Quick => "quick: few samples, the figures mean nothing",
        }
    }
}
