//! A lane that fits, and tasks that come and go on it.
//!
//! What a change cannot make worse is not analysed again. Under static priorities a new task reaches a more urgent one
//! by its longest segment only, so levels that are blocked for as long already stay as they are. A task that leaves
//! takes work away, and every test here is monotone: what fitted fits. Of the other levels, those with enough to spare
//! in some window need no fixed point (`spare`). The utilisation is kept as a sum, and added up anew only where that
//! comes close to one.

use aegis_types::{LaneId, Nanos, TaskId};

use super::claim::Claim;
use super::demand::{Row, Rows, STEPS_MAX, WHOLE, check_utilisation, share_up};
use super::np_fp::{self, Ranks};
use super::problem::{Blocking, LaneProblem, LaneTask};
use super::spare::Spares;
use super::verdict::Judge;
use super::{Failure, decide};
use crate::policy::PolicyClass;

/// The tasks of a lane, every deadline of which is met.
#[derive(Clone, Debug)]
pub struct AdmittedLane {
    problem: LaneProblem,
    rows: Rows,
    ranks: Ranks,
    spares: Spares,
    /// The sum of the shares of all tasks, rounded up.
    shares: u128,
}

/// Why a task does not join a lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Its number is taken.
    #[error("task {0} is on the lane already; each task joins once")]
    Taken(TaskId),
    /// A number of it is out of range.
    #[error("task {0} has an empty segment list, a zero where none is legal, or a span above 36 years")]
    Range(TaskId),
    /// With it a deadline would be missed, or none could be shown to be met.
    #[error("with task {0} not every deadline of the lane is shown to be met")]
    Deadline(TaskId),
}

impl AdmittedLane {
    /// A lane without tasks.
    pub fn empty(lane: LaneId, class: PolicyClass, blocking: Blocking) -> Self {
        let problem = LaneProblem { lane, tasks: Vec::new(), class, blocking, overrun: Nanos::ZERO };
        let rows = Rows { rows: Vec::new(), overrun: 0 };
        let ranks = Ranks::of(&rows);
        Self { problem, rows, ranks, spares: Spares::default(), shares: 0 }
    }

    /// A lane with the tasks of `problem`.
    ///
    /// # Errors
    /// [`Failure`] where these do not fit.
    pub fn of(problem: LaneProblem) -> Result<Self, Failure> {
        decide(&problem)?;
        let rows = Rows::of(&problem)?;
        let ranks = Ranks::of(&rows);
        let shares = rows.rows.iter().map(share_up).sum();
        let ranked = problem.class == PolicyClass::StaticPriority;
        let spares = if ranked { Spares::of(&rows) } else { Spares::default() };
        Ok(Self { problem, rows, ranks, spares, shares })
    }

    /// The tasks, by number.
    pub fn tasks(&self) -> &[LaneTask] {
        &self.problem.tasks
    }

    /// The question that these tasks ask, for the analyses that state bounds.
    pub const fn problem(&self) -> &LaneProblem {
        &self.problem
    }

    /// A claim for the lane as it is, for the referee.
    ///
    /// # Errors
    /// [`Failure`] as in [`decide`]; none where every task came in through this type.
    pub fn claim(&self) -> Result<Claim, Failure> {
        decide(&self.problem)
    }

    /// Adds a task.
    ///
    /// # Errors
    /// [`Rejection`]; the lane is then as it was.
    pub fn add(&mut self, task: LaneTask) -> Result<(), Rejection> {
        let id = task.id;
        let position = match self.problem.tasks.binary_search_by_key(&id, |other| other.id) {
            Ok(_) => return Err(Rejection::Taken(id)),
            Err(position) => position,
        };
        let row = Row::of(&task, &self.problem).ok_or(Rejection::Range(id))?;
        self.rows.rows.insert(position, row);
        if self.fits_with(position) {
            self.problem.tasks.insert(position, task);
            self.shares += share_up(&row);
            return Ok(());
        }
        self.rows.rows.remove(position);
        self.forget(position, &row);
        Err(Rejection::Deadline(id))
    }

    /// Takes a task away; `None` if it is not on the lane.
    pub fn remove(&mut self, id: TaskId) -> Option<LaneTask> {
        let position = self.problem.tasks.binary_search_by_key(&id, |other| other.id).ok()?;
        let row = self.rows.rows.remove(position);
        self.shares -= share_up(&row);
        self.forget(position, &row);
        Some(self.problem.tasks.remove(position))
    }

    /// Takes a row that stood at `position` out of what is kept beside the rows.
    fn forget(&mut self, position: usize, row: &Row) {
        if self.is_ranked() {
            self.ranks.remove(position);
            self.spares.remove(&self.rows, position, row);
        }
    }

    fn is_ranked(&self) -> bool {
        self.problem.class == PolicyClass::StaticPriority
    }

    /// Whether the rows fit now that there is one more at `position`.
    fn fits_with(&mut self, position: usize) -> bool {
        if !self.is_ranked() {
            return Judge::new(self.problem.class).fits(&self.rows);
        }
        let added = self.rows.rows[position];
        let rank = self.ranks.insert(&self.rows, position);
        self.spares.insert(&self.rows, position);
        // A level above is as before unless the new segment is the one that blocks it. One of its own key ranks by
        // number, so levels of that key are looked at wherever they stand.
        let changed = |other: usize, at: usize, blocking: u64| {
            let reached = other >= rank || self.rows.rows[at].key == added.key || blocking == added.blocks;
            reached && !self.spares.suffice(&self.rows, at, blocking + self.rows.overrun)
        };
        (self.shares + share_up(&added) < WHOLE || check_utilisation(&self.rows).is_ok())
            && np_fp::first_late(&self.rows, &self.ranks, STEPS_MAX, changed).is_none()
    }
}
