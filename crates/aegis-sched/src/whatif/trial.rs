//! A set with one task changed, and whether its lanes fit then.

use aegis_types::LaneId;

use crate::analysis::problem::LaneProblem;
use crate::analysis::{Cause, decide, decide_within, trial_steps};
use crate::error::ModelError;
use crate::model::{Task, TaskSet};
use crate::platform::charge;
use crate::policy::SchedulingPolicy;

/// Tasks looked at before a search ends with what it has: a set of thousands is tried a few hundred times.
const LOOKS_MAX: u64 = 4_000_000;

/// Undecided lanes after which a search ends.
const UNDECIDED_MAX: u32 = 8;

/// The oracle of a search for a change.
pub(super) struct Trial<'a> {
    pub set: &'a TaskSet,
    pub policy: &'a dyn SchedulingPolicy,
    /// The one lane that misses a deadline.
    pub broken: LaneId,
    looks: u64,
    undecided: u32,
}

impl<'a> Trial<'a> {
    /// `None` where no single change is worth a search: nothing is broken, or more than one lane is.
    ///
    /// # Errors
    /// [`ModelError`] where the set is no model.
    pub(super) fn new(
        set: &'a TaskSet,
        policy: &'a dyn SchedulingPolicy,
    ) -> Result<Option<Self>, ModelError> {
        let problems = LaneProblem::of_lanes(set, charge(set)?, policy);
        let mut broken =
            problems.iter().filter(|problem| decide(problem).is_err()).map(|problem| problem.lane);
        let (first, second) = (broken.next(), broken.next());
        let only = first.filter(|_| second.is_none());
        Ok(only.map(|broken| Self { set, policy, broken, looks: LOOKS_MAX, undecided: 0 }))
    }

    /// The tasks of the lane that misses a deadline: the others' changes do not help it.
    pub(super) fn candidates(&self) -> impl Iterator<Item = &'a Task> + use<'a> {
        self.set.on_lane(self.broken)
    }

    /// Whether every lane fits with this task in the place of the one of its number; `None`, which ends a search,
    /// where that was asked too often. Other lanes than the broken one and the task's are as they were: overheads
    /// depend on how many tasks there are and how they arrive.
    pub(super) fn fits(&mut self, changed: Task) -> Option<bool> {
        let mut tasks = self.set.tasks().to_vec();
        self.looks = self.looks.checked_sub(tasks.len() as u64 + 1)?;
        let lanes = [self.broken, changed.lane];
        let place = tasks.get_mut(changed.id.index())?;
        *place = changed;
        let Ok(set) = TaskSet::new(tasks, self.set.platform().clone()) else { return Some(false) };
        let Ok(charged) = charge(&set) else { return Some(false) };
        let distinct = if lanes[0] == lanes[1] { 1 } else { 2 };
        for lane in &lanes[..distinct] {
            let problem = LaneProblem::of_lane(&set, &charged, self.policy, *lane);
            let steps = trial_steps(problem.tasks.len());
            if let Err(failure) = decide_within(&problem, steps, steps) {
                self.undecided += u32::from(matches!(failure.cause, Cause::Undecided { .. }));
                return (self.undecided <= UNDECIDED_MAX).then_some(false);
            }
        }
        Some(true)
    }
}
