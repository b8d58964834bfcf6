//! Checks bounds that hold whatever is picked: `X + sum of ceil((L + J_j)/T_j) C_j <= L` and `L + J_i <= R_i`.

use super::Objection;
use super::count::{add, lane_busy};
use crate::analysis::claim::Claim;
use crate::analysis::problem::LaneProblem;

pub(super) fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    let busy = lane_busy(problem, &claim.busy)?;
    for (task, claimed) in problem.tasks.iter().zip(&claim.tasks) {
        if add(busy, task.jitter.get())? > claimed.bound.get() {
            return Err(Objection::Bound { task: task.id, claimed: claimed.bound, arrival: 0 });
        }
    }
    Ok(())
}
