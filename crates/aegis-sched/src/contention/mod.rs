//! Budgets that depend on what else is admitted: lanes share caches and memory, whatever their partitions.
//!
//! | level | budget of a segment | module |
//! |---|---|---|
//! | 0 | whatever runs beside it: an enemy's slowdown | [`Slowdown::Enemy`] |
//! | 1 | the worst mix that the assignment allows: at most one task of each other lane | [`Slowdown`] |
//! | 2 | the memory transactions that others can issue while it runs | [`windows`] |
//!
//! Each level turns a set with budgets *in isolation* into one with budgets *beside the rest of that set*. The new set
//! is admitted and certified as any other; its certificate is void for another set, so whoever adds, removes or moves
//! a task asks again, for all lanes. Level 0 alone does not depend on the set.
//!
//! Maiza et al., ACM CSUR 2019 (survey); Andersson et al. 2018 (co-runner-dependent execution times); Altmeyer et al.,
//! RTNS 2015, and Davis et al., Real-Time Systems 2018 (windows). Tables are measured: what they say about mixes that
//! were not measured is an error or the enemy's level, never a guess.

mod slowdown;
pub mod windows;

use aegis_types::{LaneId, Nanos, TaskId};

pub use slowdown::{ClassId, Mix, Slowdown, SlowdownTable, Worst};

use crate::analysis::Failure;
use crate::error::ModelError;
use crate::model::{Task, TaskSet};

/// Why there are no contended budgets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContentionError {
    /// Not one row for every task, or not one number for every segment or class.
    #[error("{place}: {found} entries; legal is {needed}")]
    Count {
        /// What has the entries.
        place: String,
        /// Entries found.
        found: usize,
        /// Entries needed.
        needed: usize,
    },
    /// A mix that the assignment allows was not measured, and the task has no enemy's level.
    #[error("{task} was not measured beside {mix}; measure it, or give the level of an enemy")]
    Untested {
        /// The task.
        task: TaskId,
        /// The mix.
        mix: Mix,
    },
    /// More different mixes than are looked at.
    #[error(
        "{task} can run beside more than {max} different mixes; use fewer classes, or the level of an enemy"
    )]
    TooManyMixes {
        /// The task.
        task: TaskId,
        /// The limit.
        max: usize,
    },
    /// A budget exceeds the range of time.
    #[error("{task}: a contended budget exceeds the range of time")]
    Range {
        /// The task.
        task: TaskId,
    },
    /// A contended budget alone exceeds the deadline.
    #[error("{task}: a segment may take longer than the deadline, {deadline}, beside the others")]
    BeyondDeadline {
        /// The task.
        task: TaskId,
        /// Its deadline.
        deadline: Nanos,
    },
    /// Contended budgets do not fit a lane.
    #[error("{lane}: deadlines are not met with the budgets that contention needs")]
    Lane {
        /// The lane.
        lane: LaneId,
        /// What its analysis says.
        failure: Box<Failure>,
    },
    /// Budgets and responses did not settle.
    #[error("budgets and responses did not settle within {rounds} rounds")]
    Unsettled {
        /// The limit.
        rounds: u32,
    },
    /// The set is no model.
    #[error(transparent)]
    Model(#[from] ModelError),
}

/// The set with other budgets, by task and segment.
fn with_budgets(
    set: &TaskSet,
    budget: impl Fn(&Task, usize) -> Result<Nanos, ContentionError>,
) -> Result<TaskSet, ContentionError> {
    let mut tasks = set.tasks().to_vec();
    for task in &mut tasks {
        for index in 0..task.segments.len() {
            let bound = budget(task, index)?;
            task.segments[index].bound = bound;
        }
    }
    Ok(TaskSet::new(tasks, set.platform().clone())?)
}
