//! Checks bounds in order of release: for every release offset `a` in a busy period,
//! `X + sum of (floor((a + J_j)/T_j) + 1) C_j <= a + R_i - J_i`.
//!
//! Offsets are covered from the last to the first: the work v up to `a` is at least the work up to any earlier
//! offset, so all offsets from `v - (R_i - J_i)` to `a` are shown at once. Only the smallest `R_i - J_i` matters.

use super::Objection;
use super::count::{Patience, Weight, add, lane_busy};
use crate::analysis::claim::Claim;
use crate::analysis::problem::LaneProblem;

pub(super) fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    let busy = lane_busy(problem, &claim.busy)?;
    let mut least: Option<(u64, usize)> = None;
    for (position, (task, claimed)) in problem.tasks.iter().zip(&claim.tasks).enumerate() {
        let objection = Objection::Bound { task: task.id, claimed: claimed.bound, arrival: 0 };
        let room = claimed.bound.checked_sub(task.jitter).ok_or(objection)?.get();
        if least.is_none_or(|(known, _)| room < known) {
            least = Some((room, position));
        }
    }
    let Some((room, position)) = least else { return Ok(()) };
    let weights =
        problem.tasks.iter().map(|task| Weight::of(problem, task)).collect::<Result<Vec<_>, _>>()?;
    let mut patience = Patience::new();
    let mut next = busy.checked_sub(1);
    while let Some(offset) = next {
        patience.spend(problem.tasks.len())?;
        let mut work = problem.overrun.get();
        for weight in &weights {
            work = add(work, weight.closed(offset).ok_or(Objection::Range)?)?;
        }
        if work > add(offset, room)? {
            let arrival = i64::try_from(offset).unwrap_or(i64::MAX);
            let claimed = &claim.tasks[position];
            return Err(Objection::Bound { task: claimed.task, claimed: claimed.bound, arrival });
        }
        next = work.checked_sub(room).and_then(|covered| covered.checked_sub(1));
    }
    Ok(())
}
