//! Another lane, another partition, another priority: by enumeration.

use aegis_types::{LaneId, Nanos, PartitionId, TaskId};

use super::WhatIf;
use super::trial::Trial;
use crate::error::ModelError;
use crate::model::{Task, TaskSet};
use crate::policy::SchedulingPolicy;

/// C^B of each segment of a task in another partition; `None` where they are not known.
pub type BudgetsThere<'a> = dyn Fn(TaskId, PartitionId) -> Option<Vec<Nanos>> + 'a;

/// One task on another lane of its partition, with the budgets of the set.
///
/// # Errors
/// [`ModelError`] where overheads overflow.
pub fn what_if_lane(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<WhatIf>, ModelError> {
    let home = |task: &Task| set.platform().partition_of(task.lane);
    elsewhere(
        set,
        policy,
        |task, partition| (home(task) == Some(partition)).then(|| task.clone()),
        |task, _, lane| WhatIf::Lane { task, lane },
    )
}

/// One task on a lane of another partition, with what `budgets` says it takes there.
///
/// # Errors
/// [`ModelError`] where overheads overflow.
pub fn what_if_partition(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    budgets: &BudgetsThere<'_>,
) -> Result<Vec<WhatIf>, ModelError> {
    let there = |task: &Task, partition: PartitionId| {
        let away = set.platform().partition_of(task.lane) != Some(partition);
        let budgets = away.then(|| budgets(task.id, partition)).flatten()?;
        let mut moved = task.clone();
        moved.segments.iter_mut().zip(&budgets).for_each(|(segment, bound)| segment.bound = *bound);
        (budgets.len() == task.segments.len()).then_some(moved)
    };
    elsewhere(set, policy, there, |task, partition, lane| WhatIf::Partition { task, partition, lane })
}

/// Another explicit priority for one task, for policies that order by it.
///
/// # Errors
/// [`ModelError`] where overheads overflow.
pub fn what_if_priority(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<WhatIf>, ModelError> {
    let Some(mut trial) = Trial::new(set, policy)? else { return Ok(Vec::new()) };
    let mut found: Vec<(usize, WhatIf)> = Vec::new();
    'tasks: for task in trial.candidates() {
        for (passed, priority) in priorities(&trial, task) {
            let mut changed = task.clone();
            changed.priority = Some(priority);
            match trial.fits(changed) {
                Some(true) => {
                    found.push((passed, WhatIf::Priority { task: task.id, priority }));
                    break;
                }
                Some(false) => {}
                None => break 'tasks,
            }
        }
    }
    found.sort_by_key(|(passed, change)| (*passed, change.task()));
    Ok(found.into_iter().map(|(_, change)| change).collect())
}

/// Priorities beside and at those of the lane's other tasks, with how many of these the task would pass; fewest
/// first, then the nearest to what it has, then the most urgent. Those that pass nobody are left out.
fn priorities(trial: &Trial<'_>, task: &Task) -> Vec<(usize, u32)> {
    let others: Vec<u64> =
        trial.candidates().filter(|other| other.id != task.id).map(|other| trial.policy.key(other)).collect();
    let key = |priority: u32| {
        let mut changed = task.clone();
        changed.priority = Some(priority);
        trial.policy.key(&changed)
    };
    let before = trial.policy.key(task);
    let named = trial.candidates().filter_map(|other| other.priority);
    let mut choices: Vec<u32> = named
        .flat_map(|priority| [priority.saturating_sub(1), priority, priority.saturating_add(1)])
        .collect();
    choices.sort_unstable();
    choices.dedup();
    let now = u64::from(task.priority.unwrap_or(u32::MAX));
    let mut ranked: Vec<(usize, u64, u32)> = choices
        .into_iter()
        .map(|priority| {
            let after = key(priority);
            let passed = others.iter().filter(|other| other.cmp(&&before) != other.cmp(&&after)).count();
            (passed, now.abs_diff(u64::from(priority)), priority)
        })
        .filter(|(passed, ..)| *passed > 0)
        .collect();
    ranked.sort_unstable();
    ranked.into_iter().map(|(passed, _, priority)| (passed, priority)).collect()
}

/// The emptiest lane elsewhere that takes each task of the broken one; `there` is the task as it would be in a
/// partition, or `None` where it may not go.
fn elsewhere(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    there: impl Fn(&Task, PartitionId) -> Option<Task>,
    answer: impl Fn(TaskId, PartitionId, LaneId) -> WhatIf,
) -> Result<Vec<WhatIf>, ModelError> {
    let Some(mut trial) = Trial::new(set, policy)? else { return Ok(Vec::new()) };
    let targets = emptiest_first(set, trial.broken);
    let mut found: Vec<(u128, WhatIf)> = Vec::new();
    'tasks: for task in trial.candidates() {
        for &(lane, partition) in &targets {
            let Some(mut moved) = there(task, partition) else { continue };
            moved.lane = lane;
            match trial.fits(moved) {
                Some(true) => {
                    found.push((load(task), answer(task.id, partition, lane)));
                    break;
                }
                Some(false) => {}
                None => break 'tasks,
            }
        }
    }
    found.sort_by_key(|(load, change)| (*load, change.task()));
    Ok(found.into_iter().map(|(_, change)| change).collect())
}

/// Every other lane with its partition, by load, ties by number.
fn emptiest_first(set: &TaskSet, broken: LaneId) -> Vec<(LaneId, PartitionId)> {
    let mut loads = vec![0u128; set.platform().lanes()];
    for task in set.tasks() {
        if let Some(sum) = loads.get_mut(task.lane.index()) {
            *sum = sum.saturating_add(load(task));
        }
    }
    let lanes = (0..=u16::MAX).map(LaneId::new).zip(loads).filter(|(lane, _)| *lane != broken);
    let mut lanes: Vec<(u128, LaneId)> = lanes.map(|(lane, load)| (load, lane)).collect();
    lanes.sort_unstable();
    lanes.into_iter().filter_map(|(_, lane)| Some((lane, set.platform().partition_of(lane)?))).collect()
}

/// Budgets over period in fractions of 2^-32, rounded up.
fn load(task: &Task) -> u128 {
    let cost: u128 = task.segments.iter().map(|segment| u128::from(segment.bound.get())).sum();
    (cost << 32).div_ceil(u128::from(task.period.get().max(1)))
}
