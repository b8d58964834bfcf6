//! What an exploration is asked, what it may cost, and what it answers.

use aegis_types::{Bytes, Time};

use super::job::JobKey;

/// What an exploration may cost. Past any of it the answer is [`SagVerdict::Undecided`], never "schedulable".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The most states expanded.
    pub states: u64,
    /// The most bytes held at one time by states and their index.
    pub bytes: Bytes,
}

impl Default for Limits {
    fn default() -> Self {
        Self { states: u64::MAX, bytes: Bytes::new(4 << 30) }
    }
}

/// Which idle time is inserted although a job is ready.
///
/// The ready job of highest priority is looked at; if the rule forbids its start, the processor idles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IdleRule {
    /// Precautious RM: a job starts only if the next job of highest priority can still follow it in time (Nasri,
    /// Kargahi 2014).
    PrecautiousRm,
    /// Critical-window EDF: a job starts only if the next jobs of all other tasks can still follow it in time (Nasri,
    /// Fohler 2016).
    CriticalWindowEdf,
}

/// Whether an exploration goes on once a deadline can be missed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnMiss {
    /// It ends: the verdict is known.
    #[default]
    Stop,
    /// It goes on, so that the bounds of all jobs are complete; late jobs run to their end.
    Explore,
}

/// What is explored, and how far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Identical cores under one queue.
    pub cores: u32,
    /// Idle time that the policy inserts; one core only.
    pub idle: Option<IdleRule>,
    /// Whether a miss ends it.
    pub on_miss: OnMiss,
    /// What it may cost.
    pub limits: Limits,
}

impl Default for Options {
    fn default() -> Self {
        Self { cores: 1, idle: None, on_miss: OnMiss::Stop, limits: Limits::default() }
    }
}

/// The limit that ended an exploration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// [`Limits::states`].
    States,
    /// [`Limits::bytes`].
    Memory,
    /// The caller's callback said no.
    Stopped,
}

impl Limit {
    /// In words.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::States => "states",
            Self::Memory => "memory",
            Self::Stopped => "time",
        }
    }
}

/// Whether every deadline is met, in every schedule that the intervals allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SagVerdict {
    /// All are, always.
    Schedulable,
    /// One can be missed; where the exploration is only [sufficient](Exactness::Sufficient), perhaps only there.
    Miss {
        /// The job.
        job: JobKey,
        /// A completion that was found.
        completion: Time,
        /// The deadline before it.
        deadline: Time,
    },
    /// A limit was reached first.
    Undecided {
        /// Which.
        limit: Limit,
    },
}

/// Whether bounds are attained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exactness {
    /// Some schedule attains every bound, as long as no job's shortest cost is zero.
    Exact,
    /// No schedule exceeds a bound; none need attain it.
    Sufficient,
}

/// When a job completes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobBounds {
    /// The earliest completion.
    pub completion_min: Time,
    /// The latest completion.
    pub completion_max: Time,
}

/// What an exploration took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// Different sets of dispatched jobs.
    pub nodes: u64,
    /// States expanded: sets of dispatched jobs, each with an interval in which the processor becomes free.
    pub states: u64,
    /// Dispatches looked at.
    pub edges: u64,
    /// The most nodes of one level.
    pub width: u64,
    /// The most bytes held by states and their index.
    pub bytes_peak: u64,
}

/// The answer of an exploration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SagReport {
    /// Whether every deadline is met.
    pub verdict: SagVerdict,
    /// Whether the bounds are attained.
    pub exactness: Exactness,
    /// Whether every schedule was followed to its end, so that `bounds` are bounds.
    pub complete: bool,
    /// Bounds of the jobs, in the order of the set; nothing for a job that was not reached.
    pub bounds: Vec<Option<JobBounds>>,
    /// What it took.
    pub effort: Effort,
}
