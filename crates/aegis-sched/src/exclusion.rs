//! Pairs of tasks that must not run at once, where keeping them apart costs less than budgeting their contention.
//!
//! The rule at run time: a lane decides as ever; a decided segment is launched once no conflicting segment that was
//! decided earlier (equal stamps: lower lane first) is unfinished. What that costs is part of its occupancy:
//!
//! ```text
//! C''_i = C'_i + sum over other lanes of the longest C' on that lane in i's connected component
//! ```
//!
//! over the conflicts between tasks of different lanes. When a segment is decided, every other lane holds at most one
//! segment that was decided earlier. It waits for those that it conflicts with; they wait for earlier ones that *they*
//! conflict with, and so on, all within one component, at most one on each lane. Later decisions delay none of these.
//! Taken in order of decision, each starts no later than all before it have ended, so all have ended after the sum. To
//! charge direct conflicts alone is unsafe: a neighbour may itself be waiting.
//!
//! The engine keeps the rule for what [`Task::excludes`](crate::Task::excludes) says; a set is given to admission and
//! engine only after [`Exclusion::beside`] has charged it, once.
//!
//! Tasks of one lane never run at once; conflicts between them cost nothing and join nothing.

use std::collections::{BTreeMap, BTreeSet};

use aegis_types::{LaneId, Nanos, TaskId};

use crate::error::ModelError;
use crate::model::{Task, TaskSet};
use crate::platform::{ChargedTask, charge};

/// Which tasks must not run at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Exclusion {
    /// The lower number first.
    pairs: BTreeSet<(TaskId, TaskId)>,
}

/// Why pairs are no exclusion, or cannot be charged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExclusionError {
    /// A task excludes itself.
    #[error("{task} excludes itself; legal are pairs of different tasks")]
    Itself {
        /// The task.
        task: TaskId,
    },
    /// A pair names a task that the set does not have.
    #[error("a pair names {task}; legal is task0 to below task{tasks}")]
    Unknown {
        /// The task.
        task: TaskId,
        /// How many there are.
        tasks: usize,
    },
    /// Charges exceed the range of time.
    #[error("waiting for excluded segments exceeds the range of time")]
    Range,
    /// The set cannot be charged at all.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Exclusion {
    /// An exclusion of pairs, in any order.
    ///
    /// # Errors
    /// [`ExclusionError::Itself`] for a pair of one task.
    pub fn new(pairs: impl IntoIterator<Item = (TaskId, TaskId)>) -> Result<Self, ExclusionError> {
        let ordered = |(a, b): (TaskId, TaskId)| {
            if a == b { Err(ExclusionError::Itself { task: a }) } else { Ok((a.min(b), a.max(b))) }
        };
        Ok(Self { pairs: pairs.into_iter().map(ordered).collect::<Result<_, _>>()? })
    }

    /// What the tasks of a set exclude.
    pub fn of(set: &TaskSet) -> Self {
        let pairs = set.tasks().iter().flat_map(|task| task.excludes.iter().map(|&other| (task.id, other)));
        Self { pairs: pairs.filter(|(a, b)| a != b).map(|(a, b)| (a.min(b), a.max(b))).collect() }
    }

    /// The pairs, the lower number first.
    pub fn pairs(&self) -> impl Iterator<Item = (TaskId, TaskId)> + '_ {
        self.pairs.iter().copied()
    }

    /// Whether two tasks must not run at once.
    pub fn excludes(&self, a: TaskId, b: TaskId) -> bool {
        self.pairs.contains(&(a.min(b), a.max(b)))
    }

    /// How long a decided segment of each task may wait for excluded ones. `tasks` has the lane and the longest C' of
    /// every task, by number.
    ///
    /// # Errors
    /// [`ExclusionError::Unknown`] and [`ExclusionError::Range`].
    pub fn waits(&self, tasks: &[(LaneId, Nanos)]) -> Result<Vec<Nanos>, ExclusionError> {
        let component = self.components(tasks)?;
        // Longest segment by component and lane. A task without conflicts is alone in its component.
        let mut longest: BTreeMap<usize, BTreeMap<LaneId, Nanos>> = BTreeMap::new();
        for (&component, &(lane, segment)) in component.iter().zip(tasks) {
            let known = longest.entry(component).or_default().entry(lane).or_default();
            *known = segment.max(*known);
        }
        let wait = |(component, (own, _)): (&usize, &(LaneId, Nanos))| {
            let lanes = longest.get(component).into_iter().flatten();
            let others = lanes.filter(|(lane, _)| *lane != own).map(|(_, segment)| *segment);
            others.into_iter().try_fold(Nanos::ZERO, Nanos::checked_add).ok_or(ExclusionError::Range)
        };
        component.iter().zip(tasks).map(wait).collect()
    }

    /// The set with the waiting added to every budget, to be admitted and certified as any other. Charging a budget
    /// multiplies it by the attempts at its segment, so each attempt may wait anew.
    ///
    /// # Errors
    /// [`ExclusionError`].
    pub fn beside(&self, set: &TaskSet) -> Result<TaskSet, ExclusionError> {
        let charged = charge(set)?;
        let longest = |task: &ChargedTask| task.segments.iter().copied().max().unwrap_or_default();
        let places: Vec<(LaneId, Nanos)> =
            set.tasks().iter().zip(&charged).map(|(task, charged)| (task.lane, longest(charged))).collect();
        let mut tasks = set.tasks().to_vec();
        for (task, wait) in tasks.iter_mut().zip(self.waits(&places)?) {
            for segment in &mut task.segments {
                segment.bound = segment.bound.checked_add(wait).ok_or(ExclusionError::Range)?;
            }
        }
        Ok(TaskSet::new(tasks, set.platform().clone())?)
    }

    /// The tasks whose budgets enter the bounds of a lane: its own, and those that its segments may wait for.
    pub(crate) fn entering(set: &TaskSet, lane: LaneId) -> Vec<&Task> {
        let exclusion = Self::of(set);
        if exclusion.pairs.is_empty() {
            return set.on_lane(lane).collect();
        }
        let places: Vec<_> = set.tasks().iter().map(|task| (task.lane, Nanos::ZERO)).collect();
        // A set excludes no task that it does not have; if it did, all of them would count.
        let component = exclusion.components(&places).unwrap_or_else(|_| vec![0; places.len()]);
        let own: BTreeSet<usize> = set.on_lane(lane).map(|task| component[task.id.index()]).collect();
        set.tasks().iter().filter(|task| own.contains(&component[task.id.index()])).collect()
    }

    /// The connected component of every task, named by its lowest member.
    fn components(&self, tasks: &[(LaneId, Nanos)]) -> Result<Vec<usize>, ExclusionError> {
        let mut parent: Vec<usize> = (0..tasks.len()).collect();
        for &(a, b) in &self.pairs {
            for task in [a, b] {
                if task.index() >= tasks.len() {
                    return Err(ExclusionError::Unknown { task, tasks: tasks.len() });
                }
            }
            if tasks[a.index()].0 != tasks[b.index()].0 {
                let (a, b) = (root(&mut parent, a.index()), root(&mut parent, b.index()));
                parent[a.max(b)] = a.min(b);
            }
        }
        Ok((0..tasks.len()).map(|task| root(&mut parent, task)).collect())
    }
}

/// The root of a task's tree; halves the path on its way.
fn root(parent: &mut [usize], mut task: usize) -> usize {
    while parent[task] != task {
        parent[task] = parent[parent[task]];
        task = parent[task];
    }
    task
}
