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
    let weights =
        problem.tasks.iter().map(|task| Weight::of(problem, task)).collect::<Result<Vec<_>, _>>()?;
    let mut urgent = Vec::with_capacity(weights.len());
    for (position, (claimed, busy)) in claim.tasks.iter().zip(&claim.busy).enumerate() {
        let task = &weights[position];
        let others =
            weights.iter().enumerate().filter(|(other, weight)| *other != position && weight.key <= task.key);
        urgent.clear();
        urgent.extend(others.map(|(_, weight)| *weight));
        let less = weights.iter().filter(|weight| weight.key > task.key);
        let base = add(less.map(|weight| weight.blocks).max().unwrap_or(0), problem.overrun.get())?;
        let level = Level { task, urgent: &urgent, base };
        level.check(claimed, *busy, &mut patience)?;
    }
    Ok(())
}

/// A task with what can delay it.
struct Level<'a> {
    task: &'a Weight,
    urgent: &'a [Weight],
    base: u64,
}

impl Level<'_> {
    fn check(&self, claimed: &TaskClaim, busy: Nanos, patience: &mut Patience) -> Result<(), Objection> {
        let task = self.task;
        let mut work = add(self.base, task.half_open(busy.get())?)?;
        for other in self.urgent {
            work = add(work, other.half_open(busy.get())?)?;
        }
        if busy.is_zero() || work > busy.get() {
            return Err(Objection::Busy { task: claimed.task, claimed: busy });
        }
        let jobs = add(busy.get(), task.jitter)?.div_ceil(task.period);
        if claimed.starts.len() as u64 != jobs {
            return Err(Objection::Evidence { task: claimed.task });
        }
        for (q, start) in (0u64..).zip(&claimed.starts) {
            patience.spend(self.urgent.len())?;
            let start = start.get();
            let mut before = add(self.base, add(mul(q, task.cost)?, task.cost - task.last)?)?;
            for other in self.urgent {
                before = add(before, other.closed(start)?)?;
            }
            let arrival = mul(q, task.period)?;
            let done = add(add(start, task.last)?, task.jitter)?;
            if before > start || done > add(claimed.bound.get(), arrival)? {
                let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
                return Err(Objection::Bound { task: claimed.task, claimed: claimed.bound, arrival });
            }
        }
        Ok(())
    }
}
