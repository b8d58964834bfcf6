//! Response times under static priorities with limited preemption (non-preemptive where a job is one segment).
//!
//! ```text
//! B_i    = longest segment of a less urgent task, + X
//! L_i    = least L > 0:  L = B_i + sum over hep(i) and i of eta_j(L) C_j
//! w_q    = least w:      w = B_i + (q+1) C_i - F_i + sum over hep(i) of etac_j(w) C_j        q = 0 .. eta_i(L_i) - 1
//! R_i    = max over q:   w_q + F_i - q T_i + J_i
//! ```
//!
//! Davis, Burns, Bril, Lukkien, Real-Time Systems 35 (2007); Bril, Lukkien, Verhaegh, Real-Time Systems 42 (2009). All
//! jobs of the busy period are examined: a later one can be the worst. Equal keys count as more urgent for each
//! other, which is safe for any tie rule.

use aegis_types::Nanos;

use super::Stop;
use super::claim::{Cause, Claim, Failure, TaskClaim};
use super::demand::{Releases, Row, Rows, STEPS_MAX, Window, Work, check_utilisation, closed_jobs, least, span};
use super::problem::LaneProblem;
use super::tally::Tally;

/// Bounds of every task.
///
/// # Errors
/// [`Failure`] for the first task, by number, without a bound or (with [`Stop::AtDeadline`]) past its deadline.
pub fn claim(problem: &LaneProblem, stop: Stop) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let (mut work, mut streams) = (Work::of(STEPS_MAX), Vec::with_capacity(lane.rows.len()));
    let mut claim = Claim { overrun: problem.overrun, busy: Vec::new(), tasks: Vec::new() };
    for position in 0..lane.rows.len() {
        let (busy, task) = level(&lane, position, stop, &mut streams, &mut work)
            .map_err(|cause| Failure { position: Some(position), cause })?;
        claim.busy.push(busy);
        claim.tasks.push(task);
    }
    Ok(claim)
}

/// The bound of one task, for lanes where others may have none.
///
/// # Errors
/// Why there is none.
pub fn bound(problem: &LaneProblem, position: usize) -> Result<Nanos, Failure> {
    let lane = Rows::of(problem)?;
    level(&lane, position, Stop::Never, &mut Vec::new(), &mut Work::of(STEPS_MAX))
        .map(|(_, task)| task.bound)
        .map_err(|cause| Failure { position: Some(position), cause })
}

fn level(
    lane: &Rows,
    position: usize,
    stop: Stop,
    streams: &mut Vec<Releases>,
    work: &mut Work,
) -> Result<(Nanos, TaskClaim), Cause> {
    let me = lane.rows[position];
    let blocker = lane.rows.iter().filter(|row| row.key > me.key).max_by_key(|row| row.blocks);
    let base = lane.overrun + blocker.map_or(0, |row| row.blocks);
    let urgent = || others(&lane.rows, position);

    streams.clear();
    streams.extend(urgent().map(Releases::new));
    streams.push(Releases::new(&me));
    let busy = least(base, base.max(1), Window::HalfOpen, streams, work)?;

    streams.clear();
    streams.extend(urgent().map(Releases::new));
    let jobs = closed_jobs(&me, busy - 1);
    let mut starts = Vec::with_capacity(usize::try_from(jobs.min(1 << 10)).unwrap_or(0));
    let (mut start, mut worst) = (0u64, (0u64, 0u64, 0u64));
    for q in 0..jobs {
        let own = q.saturating_mul(me.cost).saturating_add(me.cost - me.last);
        start = least(base.saturating_add(own), start, Window::Closed, streams, work)?;
        starts.push(span(start));
        let response = (start + me.last + me.jitter).saturating_sub(q * me.period);
        if response > worst.0 {
            worst = (response, q, start);
        }
        if stop == Stop::AtDeadline && response > me.deadline {
            break;
        }
    }
    let (response, q, start) = worst;
    let terms = Tally {
        jitter: me.jitter,
        blocking: blocker.map(|row| (row.id, row.blocks)),
        interference: urgent()
            .map(|row| (row, closed_jobs(row, start)))
            .map(|(row, jobs)| (row.id, jobs, jobs * row.cost))
            .collect(),
        carry: q * me.cost,
        own: me.cost,
        overrun: lane.overrun,
        before: q * me.period,
    }
    .terms();
    if stop == Stop::AtDeadline && response > me.deadline {
        // The deadline counts from the nominal arrival, which lies up to J before the busy period starts.
        let instant = (q * me.period + me.deadline).saturating_sub(me.jitter);
        return Err(Cause::Deadline { bound: span(response), terms, instant: span(instant) });
    }
    Ok((span(busy), TaskClaim { task: me.id, bound: span(response), terms, starts }))
}

/// Tasks at least as urgent as the one at `position`, without it.
fn others(rows: &[Row], position: usize) -> impl Iterator<Item = &Row> {
    let key = rows[position].key;
    rows.iter()
        .enumerate()
        .filter(move |(other, row)| *other != position && row.key <= key)
        .map(|(_, row)| row)
}
