//! Deadline-ordered best fit with the lane test as oracle: tasks with the shortest deadlines go first, each to the
//! fullest lane that still meets every deadline, so that tasks of similar deadlines share a lane and a long segment
//! does not block a short deadline.

use aegis_types::{LaneId, TaskId};

use super::{Assignment, LaneChoice, check};
use crate::analysis::decide;
use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::model::TaskSet;
use crate::platform::{ChargedTask, charge};
use crate::policy::SchedulingPolicy;
use crate::{analysis, error::ModelError};

/// Assigns lanes. `choices` has one entry per task of `set`; the lanes that the set's tasks name are not looked at.
///
/// # Errors
/// [`ModelError`] if a task's choice is missing, empty or names a lane that does not exist, or if overheads overflow.
pub fn assign(
    set: &TaskSet,
    choices: &[LaneChoice],
    policy: &dyn SchedulingPolicy,
) -> Result<Assignment, ModelError> {
    check(set, choices)?;
    let charged = charge(set)?;
    let mut search = Search::new(set, &charged, policy);
    let mut open = Vec::new();
    for (task, choice) in set.tasks().iter().zip(choices) {
        match choice {
            LaneChoice::Fixed(lane) => search.place(task.id, *lane),
            LaneChoice::Among(lanes) => open.push((task.deadline, task.id, lanes)),
        }
    }
    open.sort_unstable_by_key(|(deadline, id, _)| (*deadline, *id));
    let mut unplaced = Vec::new();
    for (_, id, lanes) in open {
        match search.best_fit(id, lanes) {
            Some(lane) => search.place(id, lane),
            None => {
                unplaced.push(id);
                search.place(id, search.emptiest(lanes));
            }
        }
    }
    Ok(Assignment { lanes: search.placed, unplaced })
}

struct Search<'a> {
    tasks: Vec<LaneTask>,
    lanes: Vec<LaneProblem>,
    placed: Vec<LaneId>,
    policy: &'a dyn SchedulingPolicy,
}

impl<'a> Search<'a> {
    fn new(set: &TaskSet, charged: &[ChargedTask], policy: &'a dyn SchedulingPolicy) -> Self {
        let tasks: Vec<LaneTask> = set
            .tasks()
            .iter()
            .zip(charged)
            .map(|(task, charged)| LaneTask::new(task, charged, policy))
            .collect();
        let count = u16::try_from(set.platform().lanes()).unwrap_or(u16::MAX);
        let lanes = (0..count).map(|lane| Self::empty(LaneId::new(lane), policy)).collect();
        Self { placed: vec![LaneId::new(0); tasks.len()], tasks, lanes, policy }
    }

    fn empty(lane: LaneId, policy: &dyn SchedulingPolicy) -> LaneProblem {
        LaneProblem {
            lane,
            tasks: Vec::new(),
            class: policy.class(),
            blocking: analysis::Blocking::Attained,
            overrun: aegis_types::Nanos::ZERO,
        }
    }

    fn place(&mut self, id: TaskId, lane: LaneId) {
        self.placed[id.index()] = lane;
        self.lanes[lane.index()].tasks.push(self.tasks[id.index()].clone());
    }

    /// The fullest lane that meets every deadline with the task; ties by lane number.
    fn best_fit(&self, id: TaskId, lanes: &[LaneId]) -> Option<LaneId> {
        let task = &self.tasks[id.index()];
        let accepts = |lane: &&LaneId| {
            let mut trial = Self::empty(**lane, self.policy);
            trial.tasks.clone_from(&self.lanes[lane.index()].tasks);
            trial.tasks.push(task.clone());
            decide(&trial).is_ok()
        };
        lanes
            .iter()
            .filter(accepts)
            .max_by_key(|lane| (self.load(**lane), std::cmp::Reverse(**lane)))
            .copied()
    }

    /// The emptiest of `lanes`, which is not empty; ties by lane number.
    fn emptiest(&self, lanes: &[LaneId]) -> LaneId {
        let least = lanes.iter().min_by_key(|lane| (self.load(**lane), **lane));
        least.copied().unwrap_or_default()
    }

    /// Utilisation of a lane in fractions of 2^-32, rounded up; it orders lanes and decides nothing.
    fn load(&self, lane: LaneId) -> u128 {
        let tasks = &self.lanes[lane.index()].tasks;
        tasks.iter().fold(0u128, |sum, task| {
            let cost: u128 = task.segments.iter().map(|segment| u128::from(segment.get())).sum();
            sum.saturating_add((cost << 32).div_ceil(u128::from(task.period.get())))
        })
    }
}
