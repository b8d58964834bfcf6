//! What would admit a refused set: the smallest single change of each kind, every one of them tested.
//!
//! | question | smallest means |
//! |---|---|
//! | [`what_if_lane`] | least load moved |
//! | [`what_if_partition`] | least load moved |
//! | [`what_if_priority`] | fewest tasks passed |
//! | [`what_if_period`], [`what_if_deadline`] | least stretched |
//! | [`what_if_budget`] | least cut |
//! | [`what_if_segment`] | fewest pieces |
//!
//! The first three are found by enumeration, the others by a monotone search on the lane test; with a policy whose
//! order depends on what is searched they may miss a smaller one. One change repairs one lane: where two lanes miss
//! deadlines, and where none does, every answer is empty. Answers are ordered from the smallest, ties by task, at
//! most one for each task.

mod place;
mod span;
mod trial;

use aegis_types::{LaneId, Nanos, PartitionId, TaskId};

pub use place::{BudgetsThere, what_if_lane, what_if_partition, what_if_priority};
pub use span::{what_if_budget, what_if_deadline, what_if_period, what_if_segment};

use crate::model::TaskSet;

/// A single change under which every lane meets its deadlines; it was tested.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WhatIf {
    /// The task on another lane of its partition.
    Lane {
        /// The task.
        task: TaskId,
        /// The emptiest lane that takes it.
        lane: LaneId,
    },
    /// The task on a lane of another partition, with its budgets there.
    Partition {
        /// The task.
        task: TaskId,
        /// The partition.
        partition: PartitionId,
        /// The emptiest of its lanes that takes the task.
        lane: LaneId,
    },
    /// Another explicit priority.
    Priority {
        /// The task.
        task: TaskId,
        /// Its priority; 0 is the most urgent.
        priority: u32,
    },
    /// A longer period; a deadline that equals it moves along.
    Period {
        /// The task.
        task: TaskId,
        /// The shortest period that fits.
        period: Nanos,
    },
    /// A later deadline.
    Deadline {
        /// The task.
        task: TaskId,
        /// The earliest deadline that fits.
        deadline: Nanos,
    },
    /// Smaller budgets for every segment of the task.
    Budget {
        /// The task.
        task: TaskId,
        /// The largest factor that fits, in millionths; budgets are rounded down.
        ppm: u64,
    },
    /// Shorter segments.
    Segments {
        /// The task.
        task: TaskId,
        /// Its segments after the cut.
        pieces: usize,
        /// The longest of their budgets, the price of the cut included.
        longest: Nanos,
    },
}

impl WhatIf {
    /// The task that changes.
    pub const fn task(&self) -> TaskId {
        match *self {
            Self::Lane { task, .. }
            | Self::Partition { task, .. }
            | Self::Priority { task, .. }
            | Self::Period { task, .. }
            | Self::Deadline { task, .. }
            | Self::Budget { task, .. }
            | Self::Segments { task, .. } => task,
        }
    }

    /// The change in words, with the task's name.
    pub fn describe(&self, set: &TaskSet) -> String {
        let task = self.task();
        let name = set.task(task).map_or_else(|| task.to_string(), |task| format!("`{}`", task.name));
        match self {
            Self::Lane { lane, .. } => format!("{name} on {lane}"),
            Self::Partition { partition, lane, .. } => {
                let known = set.platform().partitions.get(partition.index());
                let partition =
                    known.map_or_else(|| partition.to_string(), |known| format!("`{}`", known.name));
                format!("{name} on {lane} of partition {partition}")
            }
            Self::Priority { priority, .. } => format!("priority {priority} for {name}"),
            Self::Period { period, .. } => format!("a period of {period} for {name}"),
            Self::Deadline { deadline, .. } => format!("a deadline of {deadline} for {name}"),
            Self::Budget { ppm, .. } => {
                format!("budgets of {name} at {}.{:04} % or less", ppm / 10_000, ppm % 10_000)
            }
            Self::Segments { pieces, longest, .. } => {
                format!("{name} in {pieces} segments of at most {longest}")
            }
        }
    }
}
