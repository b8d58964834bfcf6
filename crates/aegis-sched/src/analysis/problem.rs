//! The question that solvers answer and the referee checks: one lane, every overhead charged.
//!
//! A statement of fact, shared by both sides: it holds numbers and no analysis.

use aegis_types::{LaneId, Nanos, TaskId};

use crate::model::{Task, TaskSet};
use crate::platform::ChargedTask;
use crate::policy::{PolicyClass, SchedulingPolicy};

/// What a less urgent segment that already runs is charged with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blocking {
    /// Its whole length: the convention of continuous time and of certificates.
    Attained,
    /// Its length less one tick: in integer time it must have started at least one tick earlier.
    MinusOne,
}

/// A task as its lane sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneTask {
    /// Its number.
    pub id: TaskId,
    /// C' of each segment, in order; at least one, none empty.
    pub segments: Vec<Nanos>,
    /// T: minimum time between arrivals; not zero.
    pub period: Nanos,
    /// D: relative deadline, from the nominal arrival.
    pub deadline: Nanos,
    /// J': latest release after the nominal arrival.
    pub jitter: Nanos,
    /// Its number in the policy's class: a priority, or the relative deadline that orders its jobs.
    pub key: u64,
}

/// The tasks of one lane under a class of policies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneProblem {
    /// The lane.
    pub lane: LaneId,
    /// Its tasks, by number.
    pub tasks: Vec<LaneTask>,
    /// How ready jobs are ordered.
    pub class: PolicyClass,
    /// What blocking is charged with.
    pub blocking: Blocking,
    /// X: overrun accumulated since the lane's last idle instant that the bounds must cover.
    pub overrun: Nanos,
}

impl LaneProblem {
    /// The tasks of `lane` as a certificate needs them: blocking attained, no overrun. `charged` is what
    /// [`crate::platform::charge`] returned for this set.
    pub fn of_lane(
        set: &TaskSet,
        charged: &[ChargedTask],
        policy: &dyn SchedulingPolicy,
        lane: LaneId,
    ) -> Self {
        let tasks = set
            .tasks()
            .iter()
            .zip(charged)
            .filter(|(task, _)| task.lane == lane)
            .map(|(task, charged)| LaneTask::new(task, charged, policy))
            .collect();
        Self::certifiable(lane, tasks, policy)
    }

    /// [`LaneProblem::of_lane`] of every lane, in order; takes the charged tasks apart instead of copying them.
    pub fn of_lanes(set: &TaskSet, charged: Vec<ChargedTask>, policy: &dyn SchedulingPolicy) -> Vec<Self> {
        let lanes = (0..=u16::MAX).map(LaneId::new).take(set.platform().lanes());
        let mut problems: Vec<Self> = lanes.map(|lane| Self::certifiable(lane, Vec::new(), policy)).collect();
        for (task, charged) in set.tasks().iter().zip(charged) {
            if let Some(problem) = problems.get_mut(task.lane.index()) {
                problem.tasks.push(LaneTask::owning(task, charged, policy));
            }
        }
        problems
    }

    fn certifiable(lane: LaneId, tasks: Vec<LaneTask>, policy: &dyn SchedulingPolicy) -> Self {
        let (class, blocking, overrun) = (policy.class(), Blocking::Attained, Nanos::ZERO);
        Self { lane, tasks, class, blocking, overrun }
    }
}

impl LaneTask {
    /// A task with its overheads charged and the policy's number for it.
    pub fn new(task: &Task, charged: &ChargedTask, policy: &dyn SchedulingPolicy) -> Self {
        Self::owning(task, charged.clone(), policy)
    }

    fn owning(task: &Task, charged: ChargedTask, policy: &dyn SchedulingPolicy) -> Self {
        Self {
            id: task.id,
            segments: charged.segments,
            period: task.period,
            deadline: task.deadline,
            jitter: charged.jitter,
            key: policy.key(task),
        }
    }
}
