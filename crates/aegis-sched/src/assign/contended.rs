//! Budgets that depend on the company: which tasks run on the other lanes.
//!
//! Where budgets were measured per co-runner, a task's budget is a function of the whole assignment. The search asks
//! again after every change, so tasks that hurt each other end up on one lane, where they never run at once.

use aegis_types::{LaneId, Nanos, TaskId};

use crate::contention::{Slowdown, SlowdownTable};

/// Contended occupancy budgets as a function of the assignment.
///
/// Must be a function of its arguments alone: equal assignments have equal budgets, or the search would not be
/// deterministic and the result not what was tested.
pub trait ContendedBudgets {
    /// Writes C^B of each segment of `task` beside the tasks of the other lanes.
    ///
    /// `lanes` has one entry per task of the set; a task without a lane does not run at all, and `task` has one.
    /// `segments` has one entry per segment, preset to the budgets of the set. A budget of zero has no meaning and
    /// makes its task unplaceable.
    fn budgets(&self, task: TaskId, lanes: &[Option<LaneId>], segments: &mut [Nanos]);

    /// What asking for one task costs, in tasks looked at (see [`Effort`](super::Effort)): some ten nanoseconds each.
    fn price(&self) -> u64 {
        1
    }
}

/// The budgets of the set are those in isolation. Where the table does not cover the company, the task has no place.
impl ContendedBudgets for SlowdownTable {
    fn budgets(&self, task: TaskId, lanes: &[Option<LaneId>], segments: &mut [Nanos]) {
        // Who does not run does no harm, and nor does who shares the lane.
        let own = lanes.get(task.index()).copied().flatten().unwrap_or_default();
        let lanes: Vec<LaneId> = lanes.iter().map(|lane| lane.unwrap_or(own)).collect();
        let slowdown = self.worst(task, &lanes).ok().map(|worst| worst.ppm);
        for bound in segments {
            *bound = slowdown.and_then(|ppm| bound.scale_ppm_up(ppm)).unwrap_or(Nanos::ZERO);
        }
    }

    fn price(&self) -> u64 {
        let row = |row: &Slowdown| match row {
            Slowdown::Enemy { .. } => 8,
            Slowdown::Excess { .. } => 64,
            // Every mix of the company is looked up.
            Slowdown::Mixes { .. } => 1_024,
        };
        self.rows.iter().map(row).max().unwrap_or(1)
    }
}
