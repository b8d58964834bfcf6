//! Response times in order of release.
//!
//! ```text
//! L    = least L > 0:                L = X + sum of eta_j(L) C_j
//! R_i  = J_i + max over 0 <= a < L:  X + sum of etac_j(a) C_j - a
//! ```
//!
//! Bedarkar et al., RTSS 2022. Without jitter and with a utilisation of at most one the maximum is at a = 0: the sum
//! of all C_j (each etac_j(a) C_j is at most C_j + a C_j / T_j).

use super::Stop;
use super::claim::{Cause, Claim, Failure, TaskClaim};
use super::demand::{HORIZON, Row, Rows, STEPS_MAX, Work, check_utilisation, closed_jobs, span};
use super::problem::LaneProblem;
use super::tally::Tally;
use crate::referee::certificate::Term;

/// Bounds of every task.
///
/// # Errors
/// [`Failure`] for the lane, or (with [`Stop::AtDeadline`]) for the first task, by number, past its deadline.
pub fn claim(problem: &LaneProblem, stop: Stop) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let mut claim = Claim { overrun: problem.overrun, busy: Vec::new(), tasks: Vec::new() };
    if lane.rows.is_empty() {
        return Ok(claim);
    }
    let mut work = Work::of(STEPS_MAX);
    let lane_at_fault = |cause| Failure { position: None, cause };
    let busy = lane.busy_period(&mut work).map_err(lane_at_fault)?;
    let (delay, offset) = search(&lane, busy, &mut work).map_err(lane_at_fault)?;
    claim.busy.push(span(busy));
    for (position, me) in lane.rows.iter().enumerate() {
        let bound = delay + me.jitter;
        let terms = terms(&lane, position, offset);
        if stop == Stop::AtDeadline && bound > me.deadline {
            let instant = (offset + me.deadline).saturating_sub(me.jitter);
            let cause = Cause::Deadline { bound: span(bound), terms, instant: span(instant) };
            return Err(Failure { position: Some(position), cause });
        }
        claim.tasks.push(TaskClaim { task: me.id, bound: span(bound), terms, starts: Vec::new() });
    }
    Ok(claim)
}

/// The longest response from release and the release offset that has it. Goes from the end of the busy period to its
/// start: where the work up to `a` is v, no offset from v - R to `a` can beat R, because earlier offsets see less
/// work, so these are skipped.
fn search(lane: &Rows, busy: u64, work: &mut Work) -> Result<(u64, u64), Cause> {
    let demand = |a: u64| {
        let sum = lane
            .rows
            .iter()
            .fold(lane.overrun, |sum, row| sum.saturating_add(closed_jobs(row, a).saturating_mul(row.cost)));
        if sum > HORIZON { Err(Cause::Horizon) } else { Ok(sum) }
    };
    let mut worst = (demand(0)?, 0);
    if lane.rows.iter().all(|row| row.jitter == 0) {
        return Ok(worst);
    }
    let mut next = busy.checked_sub(1);
    while let Some(top) = next.filter(|&top| top > 0) {
        work.spend(2 * lane.rows.len())?;
        let a = lane.rows.iter().filter_map(|row| step_at_or_before(row, top)).max().unwrap_or(0);
        let v = demand(a)?;
        let response = v.saturating_sub(a);
        if response > worst.0 {
            worst = (response, a);
        }
        next = a.checked_sub(1).and_then(|below| Some(below.min(v.checked_sub(worst.0 + 1)?)));
    }
    Ok(worst)
}

/// The last instant at or before `top` at which one more job of the task can be released.
fn step_at_or_before(row: &Row, top: u64) -> Option<u64> {
    ((top + row.jitter) / row.period * row.period).checked_sub(row.jitter)
}

fn terms(lane: &Rows, position: usize, offset: u64) -> Vec<Term> {
    let me = &lane.rows[position];
    let others = lane.rows.iter().enumerate().filter(|(other, _)| *other != position);
    let interference = others
        .map(|(_, row)| (row, closed_jobs(row, offset)))
        .map(|(row, jobs)| (row.id, jobs, jobs * row.cost));
    Tally {
        jitter: me.jitter,
        blocking: None,
        carry: (closed_jobs(me, offset) - 1) * me.cost,
        own: me.cost,
        overrun: lane.overrun,
        before: offset,
    }
    .terms(interference)
}
