//! Response times whatever is picked, as long as the lane never idles while a job is ready.
//!
//! ```text
//! L = least L > 0:  L = X + sum of eta_j(L) C_j            R_i = L + J_i
//! ```
//!
//! A job is released inside a busy period and done when that ends, and no busy period is longer than L.

use aegis_types::Nanos;

use super::Stop;
use super::claim::{Cause, Claim, Failure, TaskClaim};
use super::demand::{Rows, STEPS_MAX, Work, check_utilisation, closed_jobs, span};
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
    let busy = delay(&lane, steps).map_err(|cause| Failure { position: None, cause })?;
    claim.busy.push(span(busy));
    for (position, me) in lane.rows.iter().enumerate() {
        let bound = busy + me.jitter;
        let terms = terms(&lane, position, busy);
        if stop == Stop::AtDeadline && bound > me.deadline {
            let instant = me.deadline.saturating_sub(me.jitter);
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
    let busy = delay(lane, STEPS_MAX).map_err(|cause| Failure { position: None, cause })?;
    Ok(lane.rows.iter().map(|row| span(busy + row.jitter)).collect())
}

/// The longest response from release: L.
pub(super) fn delay(lane: &Rows, steps: u64) -> Result<u64, Cause> {
    Ok(lane.busy_period(&mut Work::of(steps))?)
}

fn terms(lane: &Rows, position: usize, busy: u64) -> Vec<Term> {
    let me = &lane.rows[position];
    let others = lane.rows.iter().enumerate().filter(|(other, _)| *other != position);
    // Releases of the half-open window [0, L) are those of the closed window [0, L - 1]; L is at least one.
    let interference = others
        .map(|(_, row)| (row, closed_jobs(row, busy - 1)))
        .map(|(row, jobs)| (row.id, jobs, jobs * row.cost));
    Tally {
        jitter: me.jitter,
        carry: (closed_jobs(me, busy - 1) - 1) * me.cost,
        own: me.cost,
        overrun: lane.overrun,
        ..Tally::default()
    }
    .terms(interference)
}
