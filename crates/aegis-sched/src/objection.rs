//! What the referee says of claims that it does not accept. Words only: what is checked stands in [`crate::referee`].

use aegis_types::{LaneId, Nanos, TaskId, Time};

use crate::sag::job::JobKey;

/// Why the referee does not accept a claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Objection {
    /// The claim is not about this lane's tasks.
    #[error("the claim is not about this lane's tasks, in ascending order")]
    WrongTasks,
    /// The claim covers another overrun than the problem.
    #[error("the claim covers an overrun of {claimed}, the problem has {asked}")]
    WrongOverrun {
        /// What it covers.
        claimed: Nanos,
        /// What is asked.
        asked: Nanos,
    },
    /// The evidence has not one item for everything that has to be shown.
    #[error("{task}: the claim's evidence is incomplete")]
    Evidence {
        /// The task, or the lane's first.
        task: TaskId,
    },
    /// A claimed length of a busy period is exceeded by the work in it.
    #[error("{task}: more than {claimed} of work arrives within {claimed}")]
    Busy {
        /// The task, or the lane's first.
        task: TaskId,
        /// The claimed length.
        claimed: Nanos,
    },
    /// A job may respond later than claimed.
    #[error(
        "{task}: a job arriving {arrival}ns into its busy period is not shown to respond within {claimed}"
    )]
    Bound {
        /// The task.
        task: TaskId,
        /// The claimed bound.
        claimed: Nanos,
        /// Arrival of the job that was not shown, from the start of its busy period, in nanoseconds.
        arrival: i64,
    },
    /// A window holds more work than time.
    #[error("a window of {window} holds more work than time")]
    Demand {
        /// Length of the window.
        window: Nanos,
    },
    /// The claimed bound exceeds the deadline.
    #[error("{task}: the bound {claimed} exceeds the deadline {deadline}")]
    Deadline {
        /// The task.
        task: TaskId,
        /// The claimed bound.
        claimed: Nanos,
        /// Its deadline.
        deadline: Nanos,
    },
    /// Terms do not add up to the bound, or a term contradicts the task.
    #[error("{task}: the terms do not add up to {claimed}, or contradict the task")]
    Terms {
        /// The task.
        task: TaskId,
        /// The claimed bound.
        claimed: Nanos,
    },
    /// Rungs do not start at no overrun and rise.
    #[error("{lane}: the ladder does not rise from an overrun of zero")]
    Ladder {
        /// The lane.
        lane: LaneId,
    },
    /// Not one ladder per lane.
    #[error("{found} ladders for {lanes} lanes")]
    Lanes {
        /// Ladders found.
        found: usize,
        /// Lanes of the platform.
        lanes: usize,
    },
    /// The class leaves a lane free while a job is ready, and there are no states to show what follows.
    #[error("{lane}: a lane that stays free while a job is ready is certified by its states only")]
    Inserts {
        /// The lane.
        lane: LaneId,
    },
    /// The states do not contain every schedule.
    #[error("{lane}: {objection}")]
    Cover {
        /// The lane.
        lane: LaneId,
        /// What is missing.
        objection: CoverObjection,
    },
    /// A number leaves 64 bits.
    #[error("a number leaves the range of time")]
    Range,
    /// The evidence takes too long to check.
    #[error("the claim takes more than {steps} steps to check")]
    TooLong {
        /// Steps that a check may take.
        steps: u64,
    },
}

/// Why states are not accepted as a cover.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CoverObjection {
    /// Completions on the one core do not release other jobs at once.
    #[error("a delay between jobs; a cover is checked for edges without delays")]
    Delay,
    /// Some job is ended from outside.
    #[error("an abort; a cover is checked for jobs that run to their end")]
    Abort,
    /// Not one level for each number of dispatched jobs, or no state for a core that is free from the beginning.
    #[error("the cover does not begin with an idle core, or has not a level more than jobs")]
    Shape,
    /// A state of a level has another number of jobs, or one that the set does not have.
    #[error("a state of level {level} has not {level} jobs of the set")]
    Jobs {
        /// The level.
        level: usize,
    },
    /// A job can be next, and what follows lies within no state.
    #[error("{job} can end from {earliest} to {latest} as job number {level}, which no state contains")]
    Missing {
        /// The job.
        job: JobKey,
        /// The level in which the state is missing.
        level: usize,
        /// When the core becomes free at the earliest.
        earliest: Time,
        /// When the core becomes free at the latest.
        latest: Time,
    },
    /// A job can complete after its deadline.
    #[error("{job} can complete at {completion}, after its deadline {deadline}")]
    Deadline {
        /// The job.
        job: JobKey,
        /// The completion.
        completion: Time,
        /// Its deadline.
        deadline: Time,
    },
    /// What happens in a state depends on jobs that are not in the set.
    #[error("a state depends on jobs beyond the last one of the set")]
    Short,
    /// The last level does not lie within the one that it should repeat.
    #[error("the last level does not repeat an earlier one")]
    Repeat,
    /// A number leaves 64 bits.
    #[error("a number leaves the range of time")]
    Range,
    /// The cover is too large to be checked.
    #[error("the cover takes more than {} steps to check", crate::referee::sag::STEPS_MAX)]
    TooLong,
}
