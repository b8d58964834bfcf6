//! One lane with other periods: the oracle of every search for a change that fits.

use aegis_types::Nanos;

use crate::analysis::claim::Cause;
use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::analysis::{decide_within, trial_steps};
use crate::model::{Task, TaskSet};
use crate::policy::SchedulingPolicy;

/// Longest period that a search proposes: about nine years.
const PERIOD_MAX: u64 = 1 << 58;

/// Undecided trials after which a search ends.
const UNDECIDED_MAX: u32 = 8;

/// The tasks of a lane, whose periods may be moved.
pub(super) struct Trial<'a> {
    policy: &'a dyn SchedulingPolicy,
    natural: Vec<Task>,
    tasks: Vec<Task>,
    problem: LaneProblem,
    undecided: u32,
}

impl<'a> Trial<'a> {
    /// `problem` is that of a lane of `set` under `policy`.
    pub(super) fn new(set: &TaskSet, policy: &'a dyn SchedulingPolicy, problem: LaneProblem) -> Self {
        let natural: Vec<Task> = set.on_lane(problem.lane).cloned().collect();
        Self { policy, tasks: natural.clone(), natural, problem, undecided: 0 }
    }

    /// The tasks as they were given.
    pub(super) fn natural(&self) -> &[Task] {
        &self.natural
    }

    /// The period of a task as moved.
    pub(super) fn period(&self, position: usize) -> Nanos {
        self.tasks[position].period
    }

    /// Moves a period; a deadline that equalled the natural period moves along.
    pub(super) fn set_period(&mut self, position: usize, period: Nanos) {
        let (task, natural) = (&mut self.tasks[position], &self.natural[position]);
        task.period = period;
        if natural.deadline == natural.period {
            task.deadline = period;
        }
        let row: &mut LaneTask = &mut self.problem.tasks[position];
        (row.period, row.deadline, row.key) = (task.period, task.deadline, self.policy.key(task));
    }

    /// Whether the lane is shown to meet every deadline; `None`, which ends a search, where that took too long to
    /// tell too often.
    pub(super) fn fits(&mut self) -> Option<bool> {
        let steps = trial_steps(self.problem.tasks.len());
        let Err(failure) = decide_within(&self.problem, steps, steps) else { return Some(true) };
        self.undecided += u32::from(matches!(failure.cause, Cause::Undecided { .. }));
        if self.undecided > UNDECIDED_MAX { None } else { Some(false) }
    }
}

/// The least value from `low` on that `fits`, where larger values fit whenever smaller ones do; a multiple of `step`
/// above `low`. `None` if nothing up to the longest period fits, or `fits` cannot tell. What is returned was tested.
pub(super) fn least_fitting(low: u64, step: u64, mut fits: impl FnMut(u64) -> Option<bool>) -> Option<u64> {
    if fits(low)? {
        return Some(low);
    }
    let at = |steps: u64| steps.checked_mul(step)?.checked_add(low).filter(|&value| value <= PERIOD_MAX);
    let mut fails = 0u64;
    let mut holds = 1u64;
    while !fits(at(holds)?)? {
        fails = holds;
        holds = holds.checked_mul(2)?;
    }
    while holds - fails > 1 {
        let middle = fails + (holds - fails) / 2;
        if fits(at(middle)?)? { holds = middle } else { fails = middle }
    }
    at(holds)
}
