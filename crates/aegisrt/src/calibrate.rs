//! What the runtime itself costs on this machine: measured with every lane busy, because that is when it counts.
//!
//! | module | what it is |
//! |---|---|
//! | [`samples`] | samples of one duration, and what is charged for it |
//! | [`steps`] | the engine's part of a cycle, on a synthetic fleet |
//! | `series` | what consecutive steps are charged with |
//! | [`synchronous`] | the paths to carriers on a device whose work runs where it is launched |
//! | [`asynchronous`] | the paths to the launcher of a device whose work runs later, and what the device itself takes |
//! | [`charges`] | which samples each overhead is charged with |
//! | [`floors`] | plain operations on one lane of an otherwise idle device |
//! | [`gaps`] | when a spinning thread did not run |
//! | `laps` | work going round between driver and lanes |
//! | `turns` | visits of the launcher to its lanes |
//! | `wakeups` | how long a sleeping thread takes to run after it was woken |
//! | [`rehearsal`] | models that keep an asynchronous device busy |
//!
//! Every charge is the largest of its samples times one plus the margin. Of what threads do the largest thousandth is
//! left out: among many thousand samples those are preemptions, which are no cost of the step but stalls, and are
//! declared as such. The driver's steps, of which a launch is charged with dozens, are charged as their sum.
//!
//! Paths and steps are measured in rounds: a host has bad seconds, and what meets one of them in full, or none, says
//! little. Of the driver's steps the largest round is charged, of paths all rounds together.

pub mod asynchronous;
pub mod charges;
pub mod floors;
pub mod gaps;
mod laps;
pub mod rehearsal;
pub mod samples;
mod series;
pub mod steps;
pub mod synchronous;
mod turns;
mod wakeups;

use aegis_sched::Overheads;
use aegis_types::Nanos;

use crate::config::{CalibrationRound, Figure, HostStalls};
use crate::error::RuntimeError;

pub(crate) use gaps::STALL;
pub use samples::Samples;
pub use steps::Synthetic;

/// How to calibrate.
#[derive(Clone, Copy, Debug)]
pub struct CalibrateOptions {
    /// How long the lanes are kept busy.
    pub duration: Nanos,
    /// Margin on every high-water mark, in millionths.
    pub margin_ppm: u64,
    /// Seed of the busy work's lengths.
    pub seed: u64,
    /// The longest stall of the host that is declared, where the driver spins; `None` for the longest that is seen. Longer
    /// stalls void what is in flight when the fleet is served, and no budget is measured in them: a host that stalls
    /// now and then is better served by a short limit, one that often does by a long one.
    pub stall: Option<Nanos>,
    /// Into how many rounds the time is cut, each of which measures the driver's steps and its paths to the lanes in every
    /// situation; zero is one.
    pub rounds: u32,
}

impl Default for CalibrateOptions {
    fn default() -> Self {
        Self { duration: Nanos::from_millis(5_000), margin_ppm: 200_000, seed: 1, stall: None, rounds: 5 }
    }
}

/// Samples of every overhead, by name, what is charged for them, and what was seen besides.
#[derive(Clone, Debug)]
pub struct Measured {
    /// What the analysis charges.
    pub overheads: Overheads,
    /// The samples behind it.
    pub samples: Vec<(&'static str, Samples)>,
    /// What is not charged.
    pub figures: Vec<Figure>,
    /// The mark of the launcher's visits, as [`Calibration::turn`](crate::config::Calibration::turn) has it.
    pub turn: Option<Nanos>,
    /// When the host did not run the driver, where it spins.
    pub stalls: Option<HostStalls>,
    /// What each round would charge for the driver's steps by itself.
    pub rounds: Vec<CalibrationRound>,
}

/// Fewer samples of a latency say nothing about its largest value.
const SAMPLES_MIN: usize = 100;

/// Refuses a calibration that was too short.
fn enough(what: &str, samples: &Samples, options: CalibrateOptions) -> Result<(), RuntimeError> {
    if samples.count() >= SAMPLES_MIN {
        return Ok(());
    }
    let reason = format!(
        "only {} samples of `{what}` in {}; legal: a duration that gives at least {SAMPLES_MIN}",
        samples.count(),
        options.duration
    );
    Err(RuntimeError::System { what: "calibrating", reason })
}
