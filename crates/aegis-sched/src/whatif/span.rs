//! A longer period, a later deadline, smaller budgets, shorter segments: by search on the lane test.

use aegis_types::Nanos;

use super::WhatIf;
use super::trial::Trial;
use crate::error::ModelError;
use crate::model::{OccupancyBudget, Task, TaskSet};
use crate::policy::SchedulingPolicy;

/// Longest span that is proposed: about nine years.
const SPAN_MAX: u64 = 1 << 58;

/// A factor of one, in millionths.
const WHOLE: u64 = 1_000_000;

/// Pieces that the longest segment is cut into at most.
const PIECES_MAX: u64 = 64;

/// A longer period for one task; a deadline that equals it moves along.
///
/// # Errors
/// [`ModelError`] where overheads overflow.
pub fn what_if_period(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<WhatIf>, ModelError> {
    each(set, policy, |trial, task| {
        let period = least(task.period.get(), |period| {
            let mut changed = task.clone();
            if changed.deadline == changed.period {
                changed.deadline = Nanos::new(period);
            }
            changed.period = Nanos::new(period);
            trial.fits(changed)
        })?;
        let change = WhatIf::Period { task: task.id, period: Nanos::new(period) };
        Some((stretch(period, task.period), change))
    })
}

/// A later deadline for one task; it may exceed the period.
///
/// # Errors
/// [`ModelError`] where overheads overflow.
pub fn what_if_deadline(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<WhatIf>, ModelError> {
    each(set, policy, |trial, task| {
        let deadline = least(task.deadline.get(), |deadline| {
            let mut changed = task.clone();
            changed.deadline = Nanos::new(deadline);
            trial.fits(changed)
        })?;
        let change = WhatIf::Deadline { task: task.id, deadline: Nanos::new(deadline) };
        Some((stretch(deadline, task.deadline), change))
    })
}

/// Smaller budgets for one task, all of its segments by one factor.
///
/// # Errors
/// [`ModelError`] where overheads overflow.
pub fn what_if_budget(set: &TaskSet, policy: &dyn SchedulingPolicy) -> Result<Vec<WhatIf>, ModelError> {
    each(set, policy, |trial, task| {
        let (mut holds, mut fails) = (1, WHOLE);
        if !trial.fits(shrunk(task, holds))? {
            return None;
        }
        while fails - holds > 1 {
            let middle = holds + (fails - holds) / 2;
            if trial.fits(shrunk(task, middle))? { holds = middle } else { fails = middle }
        }
        Some((u128::from(WHOLE - holds), WhatIf::Budget { task: task.id, ppm: holds }))
    })
}

/// Shorter segments for one task: its longest ones are cut into equal pieces, rounded up, of which each costs `cut`
/// more than its part. Overheads are charged for every piece.
///
/// # Errors
/// [`ModelError`] where overheads overflow.
pub fn what_if_segment(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    cut: Nanos,
) -> Result<Vec<WhatIf>, ModelError> {
    each(set, policy, |trial, task| {
        let longest = task.segments.iter().map(|segment| segment.bound.get()).max()?;
        // More pieces cost more overhead, so fitting is not monotone in their number.
        for parts in 2..=PIECES_MAX {
            let Some(changed) = in_pieces(task, longest.div_ceil(parts), cut) else { break };
            let (pieces, bounds) =
                (changed.segments.len(), changed.segments.iter().map(|segment| segment.bound));
            let longest = bounds.max().unwrap_or(Nanos::ZERO);
            if trial.fits(changed)? {
                return Some((pieces as u128, WhatIf::Segments { task: task.id, pieces, longest }));
            }
        }
        None
    })
}

/// Asks for every task of the broken lane; what is found is ordered by its size.
fn each(
    set: &TaskSet,
    policy: &dyn SchedulingPolicy,
    mut ask: impl FnMut(&mut Trial<'_>, &Task) -> Option<(u128, WhatIf)>,
) -> Result<Vec<WhatIf>, ModelError> {
    let Some(mut trial) = Trial::new(set, policy)? else { return Ok(Vec::new()) };
    let mut found: Vec<(u128, WhatIf)> =
        trial.candidates().filter_map(|task| ask(&mut trial, task)).collect();
    found.sort_by_key(|(size, change)| (*size, change.task()));
    Ok(found.into_iter().map(|(_, change)| change).collect())
}

/// The least value above `low`, which does not fit, that fits where larger values do; `None` where none does, or the
/// search ended. What is returned was tested.
fn least(low: u64, mut fits: impl FnMut(u64) -> Option<bool>) -> Option<u64> {
    let (mut fails, mut step) = (low, 1u64);
    let mut holds = loop {
        let value = low.checked_add(step).filter(|&value| value <= SPAN_MAX)?;
        if fits(value)? {
            break value;
        }
        fails = value;
        step = step.checked_mul(2)?;
    };
    while holds - fails > 1 {
        let middle = fails + (holds - fails) / 2;
        if fits(middle)? { holds = middle } else { fails = middle }
    }
    Some(holds)
}

/// `now / before` in fractions of 2^-32: it orders and decides nothing.
fn stretch(now: u64, before: Nanos) -> u128 {
    (u128::from(now) << 32) / u128::from(before.get().max(1))
}

fn shrunk(task: &Task, ppm: u64) -> Task {
    let mut changed = task.clone();
    for segment in &mut changed.segments {
        let part = u128::from(segment.bound.get()) * u128::from(ppm) / u128::from(WHOLE);
        segment.bound = Nanos::new(u64::try_from(part).unwrap_or(u64::MAX).max(1));
    }
    changed
}

/// The task with no segment above `longest`, the price of the cut aside; `None` where a piece leaves the range of
/// time, there are more pieces than a task may have, or nothing is left to cut.
fn in_pieces(task: &Task, longest: u64, cut: Nanos) -> Option<Task> {
    let mut changed = task.clone();
    changed.segments.clear();
    for segment in &task.segments {
        let parts = segment.bound.get().div_ceil(longest.max(1));
        if changed.segments.len() as u64 + parts > u64::from(u16::MAX) {
            return None;
        }
        let mut bound = segment.bound;
        if parts > 1 {
            bound = Nanos::new(segment.bound.get().div_ceil(parts)).checked_add(cut)?;
        }
        for _ in 0..parts {
            changed.segments.push(OccupancyBudget { bound, basis: segment.basis.clone() });
        }
    }
    (changed.segments.len() > task.segments.len()).then_some(changed)
}
