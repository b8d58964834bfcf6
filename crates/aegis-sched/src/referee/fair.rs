//! Checks bounds in turns: for each job q that can follow on others of its task without a gap,
//! `X + (q + 1) C_i + sum over j != i of min(r W_j, ceil((L + J_j)/T_j) C_j) + J_i <= R_i + q T_i`.
//!
//! r = ceil((q + 1) n_i / w_i) turns, of at most W_j each. The jobs end where one ends before the next can be released,
//! or with the busy period, whose length L is shown first.

use super::Objection;
use super::count::{Patience, Weight, add, lane_busy, mul};
use crate::analysis::claim::Claim;
use crate::analysis::problem::{LaneProblem, LaneTask};

pub(super) fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    if problem.tasks.iter().any(|task| task.key == 0) {
        return Err(Objection::Range);
    }
    let busy = lane_busy(problem, &claim.busy)?;
    let all = |task| Weight::of(problem, task)?.half_open(busy).ok_or(Objection::Range);
    let most = problem.tasks.iter().map(all).collect::<Result<Vec<u64>, _>>()?;
    let turns = problem.tasks.iter().map(turn).collect::<Result<Vec<u64>, _>>()?;
    let mut patience = Patience::new();
    for (position, (task, claimed)) in problem.tasks.iter().zip(&claim.tasks).enumerate() {
        let me = Weight::of(problem, task)?;
        let jobs = add(busy, me.jitter)?.div_ceil(me.period);
        for q in 0..jobs {
            patience.spend(problem.tasks.len())?;
            let rounds = mul(q + 1, task.segments.len() as u64)?.div_ceil(task.key);
            let mut end = add(add(problem.overrun.get(), mul(q + 1, me.cost)?)?, me.jitter)?;
            for other in (0..problem.tasks.len()).filter(|&other| other != position) {
                let work = rounds.checked_mul(turns[other]).map_or(most[other], |work| work.min(most[other]));
                end = add(end, work)?;
            }
            let arrival = mul(q, me.period)?;
            if end > add(claimed.bound.get(), arrival)? {
                let arrival = i64::try_from(arrival).unwrap_or(i64::MAX);
                return Err(Objection::Bound { task: task.id, claimed: claimed.bound, arrival });
            }
            if end <= add(arrival, me.period)? {
                break;
            }
        }
    }
    Ok(())
}

/// W: the largest sum of as many consecutive segments as the weight says, over jobs that follow each other.
fn turn(task: &LaneTask) -> Result<u64, Objection> {
    let mut sums = vec![0u64];
    for segment in task.segments.iter().chain(&task.segments) {
        sums.push(add(sums[sums.len() - 1], segment.get())?);
    }
    let count = task.segments.len();
    let rest = usize::try_from(task.key % count as u64).map_err(|_| Objection::Range)?;
    let part = (0..count).map(|first| sums[first + rest] - sums[first]).max().unwrap_or(0);
    // A number of turns that leaves 64 bits is more than any busy period holds: the caller takes the lesser.
    Ok((task.key / count as u64)
        .checked_mul(sums[count])
        .and_then(|whole| whole.checked_add(part))
        .unwrap_or(u64::MAX))
}
