//! What solvers return: bounds with the evidence that a referee needs, or why there are none.

use aegis_types::{Nanos, TaskId};

use crate::referee::certificate::Term;

/// Bounds for every task of a lane, with evidence. Worth nothing until the referee has checked it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// X: the accumulated overrun that the bounds cover.
    pub overrun: Nanos,
    /// Lengths no busy period exceeds: one per task (of its priority level) for static priorities, else one.
    pub busy: Vec<Nanos>,
    /// The bounds, in the order of the problem's tasks.
    pub tasks: Vec<TaskClaim>,
}

/// A claimed bound of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskClaim {
    /// The task.
    pub task: TaskId,
    /// R: response time from the nominal arrival.
    pub bound: Nanos,
    /// What R is made of; adds up to it.
    pub terms: Vec<Term>,
    /// Static priorities only: latest start of the last segment of each job of the level's busy period, from the
    /// start of that period.
    pub starts: Vec<Nanos>,
}

/// Why a solver has no bounds to claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The task it failed for, as a position in the problem; `None` where the lane as a whole is at fault.
    pub position: Option<usize>,
    /// What went wrong.
    pub cause: Cause,
}

/// What went wrong in an analysis.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// The lane is asked for more than all of its time.
    Utilisation {
        /// What is asked for, in millionths of the lane's time, rounded up; `u64::MAX` where it does not fit.
        ppm: u64,
    },
    /// The lane is asked for exactly all of its time, and jitter or overrun on top leave no busy period an end.
    Full,
    /// A response may come after its deadline.
    Deadline {
        /// The response that was found; worse ones may exist.
        bound: Nanos,
        /// What it is made of.
        terms: Vec<Term>,
        /// When the deadline passes, from the start of the critical busy period.
        instant: Nanos,
    },
    /// Some window holds more work than time.
    Demand {
        /// Length of the window.
        window: Nanos,
        /// Work that must complete inside it.
        demand: Nanos,
        /// Task of the blocking segment, if any is part of the demand.
        blocker: Option<TaskId>,
    },
    /// A bound lies beyond the analysis's horizon of 36 years, or an input does.
    Horizon,
    /// The class leaves a lane free while a job is ready, and nothing is known of windows of such a lane.
    Concrete,
    /// The analysis would take longer than its bounded number of steps.
    Undecided {
        /// How many steps were spent.
        steps: u64,
    },
}
