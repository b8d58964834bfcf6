//! Changes of mode: from one certified set to another while jobs are pending.
//!
//! **At once.** Let the *union* have every task of the old and of the new set, each with the larger of its budgets,
//! segment by segment. If the tasks that both have are otherwise the same and the union is certified, the new tasks may
//! start at any time and the removed ones may stop at any time: whatever happens is a legal run of the union, in which
//! a task that has not started yet, or no longer arrives, is a sporadic task that does not arrive. No deadline is missed
//! and every response stays within the union's certificate. A removed contract stays charged until no job of it is
//! left; at a lane's next idle instant after that the certificate of the new set takes over.
//!
//! **At an idle instant.** Everything else (another period, deadline, lane, priority, cut, platform) mixes contracts
//! that were never analysed together. A lane that is idle has no job whose bound could be broken: there it may switch.
//! Lanes may do so one by one only if the charges of their tasks do not depend on what the others still run; the
//! decider's cycle grows with the number of tasks, so in general the device has to be idle as a whole.
//!
//! That both sets are certified on their own does not make a change safe: pending jobs of the old one meet the new ones.
//!
//! What this cannot see: budgets that were measured beside some tasks only. Where budgets depend on co-runners (see
//! [`crate::contention`]), those of both sets must hold beside the whole union.

use std::collections::{BTreeMap, BTreeSet};

use aegis_types::{LaneId, TaskId};

use crate::admission::{AdmissionController, AdmissionRequest, Depth, Refusal, Verdict};
use crate::error::ModelError;
use crate::model::{Arrival, Task, TaskSet};
use crate::referee::certificate::Certificate;

/// How to get from one set to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transition {
    /// New tasks may start and removed ones stop at any time.
    AtOnce {
        /// What is certified until no job of a removed task is left.
        union: Box<Union>,
        /// The new set's own certificate, from a lane's next idle instant on.
        then: Certificate,
    },
    /// The change has to wait.
    AtIdle {
        /// For what.
        idle: Idle,
        /// The new set's certificate.
        then: Certificate,
        /// Why it cannot be made at once.
        because: Vec<Obstacle>,
    },
}

/// Two sets as one, certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Union {
    /// Tasks of the old set under their old numbers, then those that only the new one has.
    pub set: TaskSet,
    /// The number in the union of each task of the new set, by its number there.
    pub numbers: Vec<TaskId>,
    /// The certificate of the union.
    pub certificate: Certificate,
}

/// What has to be idle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Idle {
    /// Each of these lanes, for its own switch; the others do not change.
    Lanes(Vec<LaneId>),
    /// All lanes at the same instant.
    Device,
}

/// Why a change cannot be made at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The platforms differ.
    Platform,
    /// A task that both sets have is not the same in both, or a task excludes others.
    Contract {
        /// Its name.
        task: String,
        /// What differs.
        field: &'static str,
    },
    /// The policy inserts idle time, and what it is certified for begins with its start.
    Inserts,
    /// Old and new tasks together are no model.
    Model(ModelError),
    /// Old and new tasks together do not fit.
    Union(Box<Refusal>),
}

/// Plans the change from `old`, whose certificate has the given epoch, to `new`. Tasks are the same where their names
/// are. The union's certificate has the next epoch, the new set's the one after.
///
/// # Errors
/// The refusal of the new set, if it does not fit on its own.
pub fn transition(
    controller: &AdmissionController,
    old: &TaskSet,
    new: &TaskSet,
    epoch: u64,
    depth: Depth,
) -> Result<Transition, Box<Refusal>> {
    let admit =
        |set: &TaskSet, epoch: u64| match controller.analyze(&AdmissionRequest { set, epoch, depth }).verdict
        {
            Verdict::Admitted(certificate) => Ok(certificate),
            Verdict::Refused(refusal) => Err(refusal),
        };
    let then = admit(new, epoch.saturating_add(2))?;
    let union = match controller.policy().class().inserts() {
        Some(_) => Err(vec![Obstacle::Inserts]),
        None => union(old, new),
    };
    let because = match union {
        Err(obstacles) => obstacles,
        Ok((set, numbers)) => match admit(&set, epoch.saturating_add(1)) {
            Ok(certificate) => {
                let union = Box::new(Union { set, numbers, certificate });
                return Ok(Transition::AtOnce { union, then });
            }
            Err(refusal) => vec![Obstacle::Union(refusal)],
        },
    };
    Ok(Transition::AtIdle { idle: idle(old, new), then, because })
}

/// Both sets as one, with the larger budgets, and where the new tasks are in it.
fn union(old: &TaskSet, new: &TaskSet) -> Result<(TaskSet, Vec<TaskId>), Vec<Obstacle>> {
    let mut obstacles = Vec::new();
    if old.platform() != new.platform() {
        obstacles.push(Obstacle::Platform);
    }
    // What waiting costs depends on every task that is excluded, directly or not.
    if let Some(task) = old.tasks().iter().chain(new.tasks()).find(|task| !task.excludes.is_empty()) {
        obstacles.push(Obstacle::Contract { task: task.name.clone(), field: "excludes" });
    }
    let mut tasks = old.tasks().to_vec();
    let mut numbers = Vec::with_capacity(new.tasks().len());
    let known = names(old);
    for task in new.tasks() {
        let Some(&position) = known.get(task.name.as_str()) else {
            numbers.push(number(tasks.len()));
            tasks.push(Task { id: number(tasks.len()), ..task.clone() });
            continue;
        };
        let common = &mut tasks[position];
        numbers.push(common.id);
        if let Some(field) = difference(common, task) {
            obstacles.push(Obstacle::Contract { task: task.name.clone(), field });
            continue;
        }
        for (budget, other) in common.segments.iter_mut().zip(&task.segments) {
            if other.bound > budget.bound {
                budget.clone_from(other);
            }
        }
    }
    if !obstacles.is_empty() {
        return Err(obstacles);
    }
    match TaskSet::new(tasks, old.platform().clone()) {
        Ok(set) => Ok((set, numbers)),
        Err(error) => Err(vec![Obstacle::Model(error)]),
    }
}

/// Positions by name.
fn names(set: &TaskSet) -> BTreeMap<&str, usize> {
    set.tasks().iter().enumerate().map(|(position, task)| (task.name.as_str(), position)).collect()
}

/// A number of a task; sets have at most 10,000 tasks, and two of them are too many for a set.
fn number(position: usize) -> TaskId {
    TaskId::new(u16::try_from(position).unwrap_or(u16::MAX))
}

/// The first thing other than budgets in which two contracts differ.
fn difference(old: &Task, new: &Task) -> Option<&'static str> {
    let same = [
        ("lane", old.lane == new.lane),
        ("period", old.period == new.period),
        ("deadline", old.deadline == new.deadline),
        ("jitter", old.jitter == new.jitter),
        ("arrival", old.arrival == new.arrival),
        ("segments", old.segments.len() == new.segments.len()),
        ("priority", old.priority == new.priority),
        ("criticality", old.criticality == new.criticality),
        ("on_overrun", old.on_overrun == new.on_overrun),
        ("retries", old.retries == new.retries),
        ("weight", old.weight == new.weight),
    ];
    same.into_iter().find(|(_, same)| !same).map(|(field, _)| field)
}

/// What has to be idle for a change that cannot be made at once.
fn idle(old: &TaskSet, new: &TaskSet) -> Idle {
    match charges_stay(old, new) {
        Some(true) => Idle::Lanes(changed_lanes(old, new)),
        Some(false) | None => Idle::Device,
    }
}

/// Whether every task is charged the same while some lanes have switched and others have not. Charges depend on the
/// other tasks through the decider's cycle alone. A lane switches as a whole, so a task that stays on its lane is there
/// once; one that moves may be on two lanes for a while. `None` on overflow.
fn charges_stay(old: &TaskSet, new: &TaskSet) -> Option<bool> {
    let platform = old.platform();
    let timer = |task: &Task| matches!(task.arrival, Arrival::Periodic { .. });
    let known: BTreeSet<_> =
        old.tasks().iter().map(|task| (task.name.as_str(), task.lane, timer(task))).collect();
    let added =
        new.tasks().iter().filter(|task| !known.contains(&(task.name.as_str(), task.lane, timer(task))));
    let mixed: Vec<Task> = old.tasks().iter().chain(added).cloned().collect();
    let cycle = |tasks: &[Task]| Some((platform.decider_cycle(tasks)?, platform.decider_look(tasks)?));
    let longest = cycle(&mixed)?;
    let unmoved = [old, new].map(|set| cycle(set.tasks()) == Some(longest));
    let excludes = old.tasks().iter().chain(new.tasks()).any(|task| !task.excludes.is_empty());
    Some(!excludes && platform == new.platform() && unmoved == [true, true])
}

/// Lanes on which anything differs.
fn changed_lanes(old: &TaskSet, new: &TaskSet) -> Vec<LaneId> {
    let contracts = |set: &TaskSet, lane: LaneId| -> BTreeMap<String, Task> {
        // Numbers are not part of a contract.
        let task = |task: &Task| (task.name.clone(), Task { id: TaskId::default(), ..task.clone() });
        set.on_lane(lane).map(task).collect()
    };
    let lanes = (0..=u16::MAX).map(LaneId::new).take(old.platform().lanes());
    lanes.filter(|lane| contracts(old, *lane) != contracts(new, *lane)).collect()
}
