//! Contended profiling: occupancy budgets measured where the model will run, in the company it will have.
//!
//! | module | what it is |
//! |---|---|
//! | [`mix`] | strata: what every lane does while a victim is measured |
//! | [`bed`], [`closed_loop`] | lanes that are kept busy, and the victim's occupancies |
//! | [`search`] | the search for the harshest mix |
//! | [`campaign`], [`state`] | explore, freeze, confirm, and what is known in between |
//! | [`claim`] | what the samples allow to claim |
//! | [`profiler`] | a campaign on a system, restartable, with its files |
//! | [`enemies`] | kernels that are loaded beside a fleet to hurt it |
//!
//! A budget that comes out is a *contended occupancy budget* with its level, strata and samples: a measurement, never
//! a proof, and it is named so wherever it is used.

pub mod bed;
pub mod campaign;
pub mod claim;
pub mod closed_loop;
pub mod enemies;
#[cfg(test)]
mod fixture;
pub mod mix;
pub mod profiler;
pub mod search;
pub mod state;
#[cfg(test)]
mod tests;

use aegis_types::{LaneId, Nanos, TaskId};

pub use bed::{CrewBed, Ran, TestBed};
pub use campaign::{Campaign, Stop};
pub use mix::{Mix, Role, Stratum};
pub use profiler::{Progress, Stage, WcetProfiler};
pub use state::{CampaignState, Confirmed, Observed, Summary, TaskCampaign};

/// How to profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProfileOptions {
    /// How long each task is measured, at most, beside what the first sample of each stratum takes: two fifths of it
    /// explore, the rest confirms.
    pub time_per_task: Nanos,
    /// Confirm samples of each stratum.
    pub samples: usize,
    /// Samples of each mix that is tried while exploring.
    pub probe: usize,
    /// Strata of a task that are confirmed, at most.
    pub strata_max: usize,
    /// Ascents from random mixes, after the one from the greedy mix.
    pub restarts: usize,
    /// Passes over all lanes in one ascent, at most.
    pub passes: usize,
    /// Rounds of fresh samples of a stratum in which a sample exceeds the budget, at most.
    pub rounds: u32,
    /// Jobs of the victim that are run and not counted, before each stretch of samples.
    pub warm_up: usize,
    /// The longest pause before a launch. What a device does after a longer one is not measured; the text of the level
    /// says how long they were.
    pub pause_max: Nanos,
    /// Margin on the high-water mark, in millionths.
    pub margin_ppm: u64,
    /// Seed of orders and pauses.
    pub seed: u64,
}

impl ProfileOptions {
    /// The part of the time in which mixes are tried.
    pub const fn exploration(&self) -> Nanos {
        Nanos::new(self.time_per_task.get() / 5 * 2)
    }
}

impl Default for ProfileOptions {
    fn default() -> Self {
        Self {
            time_per_task: Nanos::from_millis(4_000),
            samples: 300,
            probe: 24,
            strata_max: 12,
            restarts: 2,
            passes: 3,
            rounds: 3,
            warm_up: 3,
            pause_max: Nanos::from_micros(500),
            margin_ppm: 200_000,
            seed: 1,
        }
    }
}

/// A task to be profiled, as a campaign needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Victim {
    /// The task.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// How many segments its jobs have.
    pub segments: u16,
    /// Input slots that may be used in turn.
    pub slots: u32,
}

/// A copy of an enemy, loaded on a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Enemy {
    /// Which enemy: copies on several lanes share the number.
    pub kind: u16,
    /// How its lane's carrier knows it.
    pub load: Victim,
    /// Whether it runs between a victim's segments on the same lane, to take caches away, instead of beside it.
    pub flushes: bool,
}

/// A segment failed while tasks were profiled, or its lane was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{task} failed while tasks were profiled; run it alone to see its error")]
pub struct FailedInProfile {
    /// The task, which may be an enemy.
    pub task: TaskId,
}
