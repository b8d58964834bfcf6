//! The whole fleet on lanes, or its best part: best fit, then repair, in a bounded number of steps.
//!
//! 1. Several orders of best fit, of which the one that leaves least out is kept. Where budgets depend on the company,
//!    the lanes that would be found without it are one more.
//! 2. Repair (`repair`) until every task has a lane or the steps are spent.
//! 3. Whoever is left out takes the place of less critical tasks, wherever it fits without them.
//! 4. Every lane is decided by [`decide`](crate::analysis::decide()).
//!
//! The bin-packing side of the problem is NP-hard, so a task that is left out is no proof that it does not fit. A
//! lane that is returned fits.

use aegis_types::{LaneId, Nanos, TaskId};

use super::order::{Draw, Loss};
use super::repair::Repair;
use super::state::{Change, State, Terrain};
use super::{ContendedBudgets, LaneChoice, check};
use crate::error::ModelError;
use crate::model::{Criticality, TaskSet};
use crate::policy::SchedulingPolicy;

/// How hard to search. Equal efforts on equal inputs give equal results.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effort {
    /// Of the sequence that breaks ties and disturbs.
    pub seed: u64,
    /// Tasks looked at in lane tests before the search ends with what it has. Small fleets need few of the default's,
    /// and a fleet of thousands of tasks needs more to be placed at all.
    pub steps: u64,
}

impl Default for Effort {
    fn default() -> Self {
        Self { seed: 1, steps: 400_000 }
    }
}

/// What is to be assigned.
#[derive(Clone, Copy)]
pub struct AssignmentRequest<'a> {
    /// The tasks; the lanes that they name are not looked at.
    pub set: &'a TaskSet,
    /// One per task.
    pub choices: &'a [LaneChoice],
    /// Its class chooses the lane test.
    pub policy: &'a dyn SchedulingPolicy,
    /// Budgets by company; `None` where those of the set hold in any.
    pub contended: Option<&'a dyn ContendedBudgets>,
    /// How hard to search.
    pub effort: Effort,
}

/// Lanes for the whole fleet or its best part; each lane meets every deadline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assigned {
    /// The lanes, by [`TaskId`]; `None` for a task that is left out.
    pub lanes: Vec<Option<LaneId>>,
    /// Tasks without a lane, the most critical first, ties by number.
    pub dropped: Vec<TaskId>,
    /// C^B of each segment beside the tasks that have lanes, by [`TaskId`]; those of the set for a task without one.
    pub budgets: Vec<Vec<Nanos>>,
    /// Tasks looked at.
    pub steps: u64,
}

impl Assigned {
    /// Whether every task has a lane.
    pub const fn is_complete(&self) -> bool {
        self.dropped.is_empty()
    }

    /// The tasks that have lanes, on them and with their budgets there, renumbered without gaps in the order of `set`.
    ///
    /// # Errors
    /// [`ModelError`] where that is no model; never for the set that was searched.
    pub fn admitted(&self, set: &TaskSet) -> Result<TaskSet, ModelError> {
        let placed = set.tasks().iter().zip(self.lanes.iter().zip(&self.budgets));
        let tasks = placed.filter_map(|(task, (lane, budgets))| Some((task, (*lane)?, budgets)));
        let numbered = (0..=u16::MAX).zip(tasks).map(|(number, (task, lane, budgets))| {
            let mut task = task.clone();
            (task.id, task.lane) = (TaskId::new(number), lane);
            for (segment, bound) in task.segments.iter_mut().zip(budgets) {
                segment.bound = *bound;
            }
            task
        });
        TaskSet::new(numbered.collect(), set.platform().clone())
    }
}

/// Assigns lanes; deterministic. Tasks that are left out stay charged to the decider.
///
/// # Errors
/// [`ModelError`] if a task's choice is missing, empty or names a lane that does not exist, or if overheads overflow.
pub fn search(request: &AssignmentRequest<'_>) -> Result<Assigned, ModelError> {
    check(request.set, request.choices)?;
    let terrain = Terrain::new(request.set, request.choices, request.policy, request.contended)?;
    let steps = request.effort.steps;
    let plain = match request.contended {
        Some(_) => search(&AssignmentRequest { contended: None, ..*request })?.lanes,
        None => Vec::new(),
    };
    let mut state = State::empty(&terrain, request.policy, steps);
    let start = best_start(&mut state, &plain);
    take(&mut state, &start);
    if !Loss::of_state(&state).is_none() {
        let found = Repair::new(&mut state, Draw(request.effort.seed)).run();
        take(&mut state, &found);
    }
    let spent = steps - state.steps;
    state.steps = steps;
    promote(&mut state);
    confirm(&mut state, request.policy);
    Ok(conclude(&state, spent + steps - state.steps))
}

/// In which order and where a start puts tasks.
#[derive(Clone, Copy)]
enum Start<'a> {
    /// Shortest deadline first, to these lanes and no others.
    Given(&'a [Option<LaneId>]),
    /// Shortest deadline first, to the fullest lane.
    Deadlines,
    /// Shortest deadline first, to the emptiest lane.
    Spread,
    /// Most critical first, then shortest deadline, to the fullest lane.
    Criticality,
}

/// The lanes of the start that leaves least out. `plain` are lanes that are worth a try, or empty.
fn best_start(state: &mut State<'_>, plain: &[Option<LaneId>]) -> Vec<Option<LaneId>> {
    let mut best: Option<(Loss, Vec<Option<LaneId>>)> = None;
    let given = (!plain.is_empty()).then_some(Start::Given(plain));
    for start in given.into_iter().chain([Start::Deadlines, Start::Spread, Start::Criticality]) {
        let nowhere = vec![None; state.lanes.len()];
        take(state, &nowhere);
        fill(state, start);
        let loss = Loss::of_state(state);
        if best.as_ref().is_none_or(|(known, _)| loss < *known) {
            best = Some((loss, state.lanes.clone()));
        }
        if loss.is_none() {
            break;
        }
    }
    best.map(|(_, lanes)| lanes).unwrap_or_default()
}

fn fill(state: &mut State<'_>, start: Start<'_>) {
    let terrain = state.terrain;
    let mut order: Vec<usize> = (0..terrain.count()).collect();
    let rank = |&task: &usize| match start {
        Start::Criticality => (std::cmp::Reverse(terrain.criticality[task]), terrain.deadline(task), task),
        _ => (std::cmp::Reverse(Criticality::High), terrain.deadline(task), task),
    };
    order.sort_unstable_by_key(rank);
    for task in order {
        let lanes = match start {
            Start::Given(lanes) => lanes[task].into_iter().collect(),
            Start::Spread => state.fullest_first(task).into_iter().rev().collect(),
            Start::Deadlines | Start::Criticality => state.fullest_first(task),
        };
        place(state, task, &lanes);
    }
}

/// Puts a task on the first of the lanes that takes it; where budgets depend on the company, on the one on which all
/// budgets together ask for least. Returns whether there is one.
pub(super) fn place(state: &mut State<'_>, task: usize, lanes: &[LaneId]) -> bool {
    let mut best: Option<(u128, LaneId)> = None;
    for &lane in lanes {
        if state.steps == 0 {
            break;
        }
        let change = [(task, Some(lane))];
        if state.terrain.contended.is_none() {
            if state.attempt(&change) {
                return true;
            }
            continue;
        }
        let mut energy = 0;
        state.attempt_if(&change, |state| {
            energy = state.energy();
            false
        });
        if energy > 0 && best.is_none_or(|(least, _)| energy < least) {
            best = Some((energy, lane));
        }
    }
    best.is_some_and(|(_, lane)| state.attempt(&[(task, Some(lane))]))
}

/// Goes to lanes that are known to fit.
pub(super) fn take(state: &mut State<'_>, lanes: &[Option<LaneId>]) {
    let changes: Vec<Change> = lanes.iter().copied().enumerate().collect();
    state.restore(&changes);
}

/// Puts in whoever was left out where it fits, if need be in the place of all less critical tasks of a lane, which
/// are then put in again as far as they fit. Ends, because every round leaves less out.
fn promote(state: &mut State<'_>) {
    let terrain = state.terrain;
    let mut progress = true;
    while progress && state.steps > 0 {
        progress = false;
        for task in left_out(state) {
            if place(state, task, &state.fullest_first(task)) {
                progress = true;
            }
        }
        let outcasts = left_out(state);
        progress |= outcasts.into_iter().any(|task| {
            state.fullest_first(task).into_iter().any(|lane| {
                let lesser = |&&member: &&usize| terrain.criticality[member] < terrain.criticality[task];
                let mut changes: Vec<Change> =
                    state.members[lane.index()].iter().filter(lesser).map(|&member| (member, None)).collect();
                let idle = changes.is_empty() || state.steps == 0;
                changes.push((task, Some(lane)));
                !idle && state.attempt(&changes)
            })
        });
    }
}

/// Tasks without a lane, the most critical first, ties by number.
fn left_out(state: &State<'_>) -> Vec<usize> {
    let mut tasks: Vec<usize> = (0..state.lanes.len()).filter(|&task| state.lanes[task].is_none()).collect();
    tasks.sort_by_key(|&task| std::cmp::Reverse(state.terrain.criticality[task]));
    tasks
}

/// Takes tasks off lanes that [`decide`](crate::analysis::decide()) does not accept, the least critical first, then
/// the heaviest: the search's own test is quicker than that decision, and this is where it would be caught lying.
fn confirm(state: &mut State<'_>, policy: &dyn SchedulingPolicy) {
    while let Some(lane) = (0..state.members.len()).find(|&lane| !state.decided(lane, policy)) {
        let terrain = state.terrain;
        let weight = |&&task: &&usize| {
            (terrain.criticality[task], std::cmp::Reverse(terrain.share(task)), std::cmp::Reverse(task))
        };
        let Some(&least) = state.members[lane].iter().min_by_key(weight) else { return };
        state.restore(&[(least, None)]);
    }
}

fn conclude(state: &State<'_>, steps: u64) -> Assigned {
    let dropped = left_out(state).into_iter().map(|task| state.terrain.set.tasks()[task].id).collect();
    let budgets = (0..state.lanes.len()).map(|task| state.budgets(task)).collect();
    Assigned { lanes: state.lanes.clone(), dropped, budgets, steps }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Arrival, Basis, OccupancyBudget, OnOverrun, Task};
    use crate::platform::{Overheads, PartitionModel, Platform};
    use crate::policy::EarliestDeadline;

    fn task(number: u16, criticality: Criticality) -> Task {
        Task {
            id: TaskId::new(number),
            name: format!("task-{number}"),
            lane: LaneId::new(0),
            period: Nanos::new(10),
            deadline: Nanos::new(10),
            jitter: Nanos::ZERO,
            arrival: Arrival::Sporadic,
            segments: vec![OccupancyBudget { bound: Nanos::new(4), basis: Basis::Declared }],
            priority: None,
            criticality,
            on_overrun: OnOverrun::Skip,
            retries: 0,
            weight: 1,
            excludes: Vec::new(),
        }
    }

    /// A quick test that lied would leave such a state behind.
    #[test]
    fn a_lane_that_the_decision_refuses_loses_its_least_critical_tasks() {
        let criticality = [Criticality::High, Criticality::Low, Criticality::Medium, Criticality::Low];
        let tasks = (0..).zip(criticality).map(|(number, level)| task(number, level)).collect();
        let partitions = vec![PartitionModel { name: "all".into(), lanes: 1 }];
        let platform = Platform::new(partitions, Overheads::default()).expect("legal");
        let set = TaskSet::new(tasks, platform).expect("legal");
        let choices = vec![LaneChoice::Fixed(LaneId::new(0)); 4];
        let terrain = Terrain::new(&set, &choices, &EarliestDeadline, None).expect("legal");
        let mut state = State::empty(&terrain, &EarliestDeadline, 1_000);
        for number in 0..4 {
            state.relocate(number, Some(LaneId::new(0)));
        }
        assert!(!state.decided(0, &EarliestDeadline));
        confirm(&mut state, &EarliestDeadline);
        let lane = Some(LaneId::new(0));
        assert_eq!(state.lanes, [lane, None, lane, None]);
        assert!(state.decided(0, &EarliestDeadline));
    }
}
