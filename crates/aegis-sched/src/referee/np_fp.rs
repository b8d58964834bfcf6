//! Checks bounds under static priorities.
//!
//! For task i with base B (longest segment of a less urgent task, plus X):
//! 1. L is long enough: `B + sum over hep(i) and i of ceil((L + J_j)/T_j) C_j <= L`;
//! 2. for each of the `ceil((L + J_i)/T_i)` jobs q the claimed start w of its last segment is late enough:
//!    `B + (q+1) C_i - F_i + sum over hep(i) of (floor((w + J_j)/T_j) + 1) C_j <= w`;
//! 3. and early enough for the bound: `w + F_i + J_i <= R_i + q T_i`.

use aegis_types::Nanos;

use super::Objection;
use super::count::{Patience, Weight, add, mul};
use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::LaneProblem;

pub(super) fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    let mut patience = Patience::new();
    if claim.busy.len() != problem.tasks.len() {
        let first = problem.tasks.first();
        return Err(first.map_or(Objection::WrongTasks, |task| Objection::Evidence { task: task.id }));
    }
    let mut order: Vec<usize> = (0..problem.tasks.len()).collect();
    order.sort_unstable_by_key(|&position| (problem.tasks[position].key, position));
    let weights = order.iter().map(|&position| Weight::of(problem, &problem.tasks[position]));
    let weights = weights.collect::<Result<Vec<_>, _>>()?;
    for (at, (task, position)) in weights.iter().zip(order).enumerate() {
        let end = at + weights[at..].partition_point(|other| other.key == task.key);
        let less = weights[end..].iter().map(|weight| weight.blocks).max().unwrap_or(0);
        let base = add(less, problem.overrun.get())?;
        let level = Level { task, urgent: &weights[..at], equal: &weights[at + 1..end], base };
        level.check(&claim.tasks[position], claim.busy[position], &mut patience)?;
    }
    Ok(())
}

/// A task with what can delay it: what is more urgent, and what is as urgent and stands after it.
struct Level<'a> {
    task: &'a Weight,
    urgent: &'a [Weight],
    equal: &'a [Weight],
    base: u64,
}

impl Level<'_> {
    fn check(&self, claimed: &TaskClaim, busy: Nanos, patience: &mut Patience) -> Result<(), Objection> {
        let task = self.task;
        let mut all = self.others().chain([task]);
        let work = all.try_fold(self.base, |sum, other| sum.checked_add(other.half_open(busy.get())?));
        if busy.is_zero() || work.ok_or(Objection::Range)? > busy.get() {
            return Err(Objection::Busy { task: claimed.task, claimed: busy });
        }
        let jobs = add(busy.get(), task.jitter)?.div_ceil(task.period);
        if claimed.starts.len() as u64 != jobs {
            return Err(Objection::Evidence { task: claimed.task });
        }
        for (q, start) in (0u64..).zip(&claimed.starts) {
            patience.spend(self.urgent.len() + self.equal.len())?;
            let start = start.get();
            let own = add(mul(q, task.cost)?, task.cost - task.last)?;
            let before = self
                .others()
                .try_fold(add(self.base, own)?, |sum, other| sum.checked_add(other.closed(start)?))
                .ok_or(Objection::Range)?;
            let arrival = mul(q, task.period)?;
            let done = add(add(start, task.last)?, task.jitter)?;
            if before > start || done > add(claimed.bound.get(), arrival)? {
                let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
                return Err(Objection::Bound { task: claimed.task, claimed: claimed.bound, arrival });
            }
        }
        Ok(())
    }

    fn others(&self) -> impl Iterator<Item = &Weight> {
        self.urgent.iter().chain(self.equal)
    }
}
