//! Response times in order of release.
//!
//! ```text
//! L    = least L > 0:                L = X + sum of eta_j(L) C_j
//! R_i  = J_i + max over 0 <= a < L:  X + sum of etac_j(a) C_j - a
//! ```
//!
//! Bedarkar et al., RTSS 2022. Without jitter the maximum is at a = 0 (`burst`).

use aegis_types::Nanos;

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
    claim_within(problem, stop, STEPS_MAX)
}

/// [`claim`] in at most so many steps.
pub(super) fn claim_within(problem: &LaneProblem, stop: Stop, steps: u64) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let mut claim = Claim { overrun: problem.overrun, busy: Vec::new(), tasks: Vec::new() };
    if lane.rows.is_empty() {
        return Ok(claim);
    }
    let mut work = Work::of(steps);
    let lane_at_fault = |cause| Failure { position: None, cause };
    let busy = lane.busy_period(&mut work).map_err(|halt| lane_at_fault(halt.into()))?;
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

/// The bounds of [`claim`] without evidence.
///
/// # Errors
/// [`Failure`] for the lane.
pub(super) fn bounds(lane: &Rows) -> Result<Vec<Nanos>, Failure> {
    let delay = delay(lane, STEPS_MAX).map_err(|cause| Failure { position: None, cause })?;
    Ok(lane.rows.iter().map(|row| span(delay + row.jitter)).collect())
}

/// The longest response from release. No busy period is needed where its start is the worst instant.
pub(super) fn delay(lane: &Rows, steps: u64) -> Result<u64, Cause> {
    if let Some(delay) = burst(lane) {
        return delay;
    }
    let mut work = Work::of(steps);
    let busy = lane.busy_period(&mut work)?;
    Ok(search(lane, busy, &mut work)?.0)
}

/// The longest response where no task has jitter: that to a job released together with one of every other task. With
/// a utilisation of at most one, `X + sum of (floor(a / T_j) + 1) C_j - a <= X + sum of C_j + a (U - 1)`, and the
/// right-hand side is that of a = 0 at most.
fn burst(lane: &Rows) -> Option<Result<u64, Cause>> {
    if lane.rows.iter().any(|row| row.jitter > 0) {
        return None;
    }
    let sum = lane.rows.iter().fold(lane.overrun, |sum, row| sum.saturating_add(row.cost));
    Some(if sum > HORIZON { Err(Cause::Horizon) } else { Ok(sum) })
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
    if let Some(delay) = burst(lane) {
        return delay.map(|delay| (delay, 0));
    }
    let mut worst = (demand(0)?, 0);
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
