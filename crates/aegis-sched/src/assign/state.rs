//! A partial assignment in which every lane meets every deadline, and changes that keep it so.

use aegis_types::{LaneId, Nanos};

use super::LaneChoice;
use super::contended::ContendedBudgets;
use super::lane::{LaneTest, Row, problem};
use crate::analysis::decide;
use crate::analysis::problem::LaneTask;
use crate::error::ModelError;
use crate::model::{Criticality, TaskSet};
use crate::platform::charge;
use crate::policy::SchedulingPolicy;

/// What a search starts from, as plain numbers.
pub(super) struct Terrain<'a> {
    pub set: &'a TaskSet,
    pub contended: Option<&'a dyn ContendedBudgets>,
    /// The tasks with the budgets of the set, charged.
    charged: Vec<LaneTask>,
    /// Lanes that each task may use, ascending.
    pub allowed: Vec<Vec<LaneId>>,
    pub criticality: Vec<Criticality>,
}

impl<'a> Terrain<'a> {
    /// Charges the set.
    ///
    /// # Errors
    /// [`ModelError::Overflow`] naming the task.
    pub(super) fn new(
        set: &'a TaskSet,
        choices: &[LaneChoice],
        policy: &dyn SchedulingPolicy,
        contended: Option<&'a dyn ContendedBudgets>,
    ) -> Result<Self, ModelError> {
        let charged = charge(set)?;
        let charged =
            set.tasks().iter().zip(&charged).map(|(task, charged)| LaneTask::new(task, charged, policy));
        let allowed = |choice: &LaneChoice| {
            let mut lanes = choice.lanes().to_vec();
            lanes.sort_unstable();
            lanes.dedup();
            lanes
        };
        Ok(Self {
            set,
            contended,
            charged: charged.collect(),
            allowed: choices.iter().take(set.tasks().len()).map(allowed).collect(),
            criticality: set.tasks().iter().map(|task| task.criticality).collect(),
        })
    }

    /// D, which orders the search.
    pub(super) fn deadline(&self, task: usize) -> Nanos {
        self.charged[task].deadline
    }

    /// Work of a task per time with the budgets of the set, in fractions of 2^-32, rounded up.
    pub(super) fn share(&self, task: usize) -> u128 {
        share(&self.charged[task])
    }

    /// Tasks of the set.
    pub(super) fn count(&self) -> usize {
        self.charged.len()
    }
}

/// A task put on a lane, or on none.
pub(super) type Change = (usize, Option<LaneId>);

/// Who runs where, so that every lane fits.
pub(super) struct State<'a> {
    pub terrain: &'a Terrain<'a>,
    pub lanes: Vec<Option<LaneId>>,
    /// By lane, in no order that matters.
    pub members: Vec<Vec<usize>>,
    /// The tasks with the budgets of their present company.
    tasks: Vec<LaneTask>,
    rows: Vec<Option<Row>>,
    test: LaneTest,
    /// Tasks that may still be looked at.
    pub steps: u64,
    /// Lanes that a change may have broken.
    suspects: Vec<bool>,
    /// Budgets before the change, by task.
    undo: Vec<(usize, Vec<Nanos>)>,
    /// Where tasks were before the change; kept to allocate once.
    made: Vec<Change>,
}

impl<'a> State<'a> {
    /// Nobody runs anywhere.
    pub(super) fn empty(terrain: &'a Terrain<'a>, policy: &dyn SchedulingPolicy, steps: u64) -> Self {
        let lanes = terrain.set.platform().lanes();
        Self {
            terrain,
            lanes: vec![None; terrain.count()],
            members: vec![Vec::new(); lanes],
            tasks: terrain.charged.clone(),
            rows: terrain.charged.iter().map(Row::of).collect(),
            test: LaneTest::new(policy.class()),
            steps,
            suspects: vec![false; lanes],
            undo: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Makes the changes if every lane still fits, else none of them.
    pub(super) fn attempt(&mut self, changes: &[Change]) -> bool {
        let mut made = std::mem::take(&mut self.made);
        made.clear();
        for &(task, lane) in changes {
            made.push((task, self.relocate(task, lane)));
            if let Some(lane) = lane {
                self.suspects[lane.index()] = true;
            }
        }
        self.reassess();
        let fits = self.suspects_fit();
        if !fits {
            for &(task, lane) in made.iter().rev() {
                self.relocate(task, lane);
            }
            while let Some((task, segments)) = self.undo.pop() {
                self.tasks[task].segments = segments;
                self.rows[task] = Row::of(&self.tasks[task]);
            }
        }
        self.undo.clear();
        self.made = made;
        fits
    }

    /// Makes the changes if every lane still fits, and takes them back unless `keep` approves of the outcome.
    pub(super) fn attempt_if(&mut self, changes: &[Change], keep: impl FnOnce(&Self) -> bool) -> bool {
        let before: Vec<Change> = changes.iter().map(|&(task, _)| (task, self.lanes[task])).collect();
        if !self.attempt(changes) {
            return false;
        }
        let kept = keep(self);
        if !kept {
            self.restore(&before);
        }
        kept
    }

    /// Puts tasks where they are known to fit.
    pub(super) fn restore(&mut self, lanes: &[Change]) {
        for &(task, lane) in lanes {
            self.relocate(task, lane);
        }
        self.reassess();
        self.undo.clear();
        self.suspects.fill(false);
    }

    /// Work of the placed tasks per time, in fractions of 2^-32: what a search that may choose keeps small.
    pub(super) fn energy(&self) -> u128 {
        let placed = self.lanes.iter().zip(&self.tasks).filter(|(lane, _)| lane.is_some());
        placed.map(|(_, task)| share(task)).sum()
    }

    /// Work of a lane per time, in fractions of 2^-32, rounded up.
    pub(super) fn load(&self, lane: LaneId) -> u128 {
        self.members[lane.index()].iter().map(|&member| share(&self.tasks[member])).sum()
    }

    /// Lanes that the task may use, fullest first; ties by number.
    pub(super) fn fullest_first(&self, task: usize) -> Vec<LaneId> {
        let mut lanes: Vec<(u128, LaneId)> =
            self.terrain.allowed[task].iter().map(|&lane| (self.load(lane), lane)).collect();
        lanes.sort_unstable_by_key(|&(load, lane)| (std::cmp::Reverse(load), lane));
        lanes.into_iter().map(|(_, lane)| lane).collect()
    }

    /// Whether [`decide`] accepts a lane as it stands; the quick test is not asked.
    pub(super) fn decided(&self, lane: usize, policy: &dyn SchedulingPolicy) -> bool {
        let mut members = self.members[lane].clone();
        members.sort_unstable();
        let tasks = members.iter().map(|&member| self.tasks[member].clone()).collect();
        decide(&problem(tasks, policy.class())).is_ok()
    }

    /// Puts a task on another lane, tested or not, and returns where it was.
    pub(super) fn relocate(&mut self, task: usize, lane: Option<LaneId>) -> Option<LaneId> {
        let old = std::mem::replace(&mut self.lanes[task], lane);
        if let Some(old) = old {
            let members = &mut self.members[old.index()];
            if let Some(at) = members.iter().position(|&member| member == task) {
                members.swap_remove(at);
            }
        }
        if let Some(lane) = lane {
            self.members[lane.index()].push(task);
        }
        old
    }

    /// Asks for every placed task's budget again; where one grew, its lane is suspect.
    pub(super) fn reassess(&mut self) {
        let terrain = self.terrain;
        let Some(contended) = terrain.contended else { return };
        let price = contended.price().saturating_mul(terrain.count() as u64);
        self.steps = self.steps.saturating_sub(price);
        let mut budgets: Vec<Nanos> = Vec::new();
        for (task, model) in terrain.set.tasks().iter().enumerate() {
            let Some(lane) = self.lanes[task] else { continue };
            budgets.clear();
            budgets.extend(model.segments.iter().map(|segment| segment.bound));
            contended.budgets(model.id, &self.lanes, &mut budgets);
            let attempts = u64::from(model.retries) + 1;
            let plain = model.segments.iter().zip(&terrain.charged[task].segments);
            for ((segment, &charged), budget) in plain.zip(&mut budgets) {
                *budget = recharged(charged, segment.bound, *budget, attempts);
            }
            let present = &mut self.tasks[task];
            if present.segments == budgets {
                continue;
            }
            let grew = present.segments.iter().zip(&budgets).any(|(old, new)| new > old);
            self.suspects[lane.index()] |= grew;
            self.undo.push((task, std::mem::replace(&mut present.segments, budgets.clone())));
            self.rows[task] = Row::of(present);
        }
    }

    /// Tests the suspects; none is left.
    fn suspects_fit(&mut self) -> bool {
        let mut fits = true;
        for lane in 0..self.suspects.len() {
            if !std::mem::take(&mut self.suspects[lane]) || !fits {
                continue;
            }
            fits = self.test.fits(&self.tasks, &self.rows, &self.members[lane]);
            self.steps = self.steps.saturating_sub(self.test.spent());
        }
        fits
    }

    /// C^B of each segment of a task beside the present others.
    pub(super) fn budgets(&self, task: usize) -> Vec<Nanos> {
        let model = &self.terrain.set.tasks()[task];
        let mut budgets: Vec<Nanos> = model.segments.iter().map(|segment| segment.bound).collect();
        if let (Some(contended), Some(_)) = (self.terrain.contended, self.lanes[task]) {
            contended.budgets(model.id, &self.lanes, &mut budgets);
        }
        budgets
    }
}

/// C' with another budget: the overheads of a segment do not depend on it. Beyond the range of time it is the largest
/// span, which no test accepts; a budget of zero stays zero, which none accepts either.
fn recharged(charged: Nanos, declared: Nanos, budget: Nanos, attempts: u64) -> Nanos {
    if budget.is_zero() {
        return Nanos::ZERO;
    }
    let all = |span: Nanos| span.checked_mul(attempts);
    let overheads = all(declared).and_then(|declared| charged.checked_sub(declared));
    let sum = overheads.and_then(|overheads| overheads.checked_add(all(budget)?));
    sum.unwrap_or(Nanos::MAX)
}

/// C / T in fractions of 2^-32, rounded up.
fn share(task: &LaneTask) -> u128 {
    let cost: u128 = task.segments.iter().map(|segment| u128::from(segment.get())).sum();
    (cost << 32).div_ceil(u128::from(task.period.get().max(1)))
}
