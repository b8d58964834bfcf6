//! Checks bounds under static priorities.
//!
//! For task i with base B (longest segment of a less urgent task, plus X):
//! 1. L is long enough: `B + sum over hep(i) and i of ceil((L + J_j)/T_j) C_j <= L`;
//! 2. for each of the `ceil((L + J_i)/T_i)` jobs q the claimed start w of its last segment is late enough:
//!    `B + (q+1) C_i - F_i + sum over hep(i) of (floor((w + J_j)/T_j) + 1) C_j <= w`;
//! 3. and early enough for the bound: `w + F_i + J_i <= R_i + q T_i`.

use aegis_types::Nanos;

use super::Objection;
use super::count::{Patience, add, blocks, closed, cost, half_open, last, mul};
use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::{LaneProblem, LaneTask};

pub(super) fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    let mut patience = Patience::new();
    if claim.busy.len() != problem.tasks.len() {
        return Err(problem
            .tasks
            .first()
            .map_or(Objection::WrongTasks, |task| Objection::Evidence { task: task.id }));
    }
    for ((task, claimed), busy) in problem.tasks.iter().zip(&claim.tasks).zip(&claim.busy) {
        check_task(problem, task, claimed, *busy, &mut patience)?;
    }
    Ok(())
}

fn check_task(
    problem: &LaneProblem,
    task: &LaneTask,
    claimed: &TaskClaim,
    busy: Nanos,
    patience: &mut Patience,
) -> Result<(), Objection> {
    let urgent = || problem.tasks.iter().filter(|other| other.id != task.id && other.key <= task.key);
    let less = problem.tasks.iter().filter(|other| other.key > task.key);
    let base = add(less.map(|other| blocks(problem, other)).max().unwrap_or(0), problem.overrun.get())?;

    let mut work = add(base, half_open(task, busy.get())?)?;
    for other in urgent() {
        work = add(work, half_open(other, busy.get())?)?;
    }
    if busy.is_zero() || work > busy.get() {
        return Err(Objection::Busy { task: task.id, claimed: busy });
    }

    let (own, last, period) = (cost(task)?, last(task), task.period.get());
    let jobs = add(busy.get(), task.jitter.get())?.div_ceil(period);
    if claimed.starts.len() as u64 != jobs {
        return Err(Objection::Evidence { task: task.id });
    }
    for (q, start) in (0u64..).zip(&claimed.starts) {
        patience.spend(problem.tasks.len())?;
        let start = start.get();
        let mut before = add(base, add(mul(q, own)?, own - last)?)?;
        for other in urgent() {
            before = add(before, closed(other, start)?)?;
        }
        let arrival = mul(q, period)?;
        let done = add(add(start, last)?, task.jitter.get())?;
        if before > start || done > add(claimed.bound.get(), arrival)? {
            let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
            return Err(Objection::Bound { task: task.id, claimed: claimed.bound, arrival });
        }
    }
    Ok(())
}
