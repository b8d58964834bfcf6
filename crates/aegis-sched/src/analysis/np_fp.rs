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
use super::demand::{
    Releases, Row, Rows, STEPS_MAX, Window, Work, check_utilisation, closed_jobs, least, span,
};
use super::problem::LaneProblem;
use super::tally::Tally;

/// Bounds of every task.
///
/// # Errors
/// [`Failure`] for the first task, by number, without a bound or (with [`Stop::AtDeadline`]) past its deadline.
pub fn claim(problem: &LaneProblem, stop: Stop) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let count = lane.rows.len();
    let mut claim =
        Claim { overrun: problem.overrun, busy: Vec::with_capacity(count), tasks: Vec::with_capacity(count) };
    let mut levels = Levels::new(&lane, stop);
    for position in 0..count {
        let (busy, task) =
            levels.solve(position).map_err(|cause| Failure { position: Some(position), cause })?;
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
    let solved = Levels::new(&lane, Stop::Never).solve(position);
    solved.map(|(_, task)| task.bound).map_err(|cause| Failure { position: Some(position), cause })
}

/// The priority levels of a lane.
struct Levels<'a> {
    lane: &'a Rows,
    stop: Stop,
    /// Every task's releases at the start of a busy period.
    fresh: Vec<Releases>,
    /// Those of the tasks in question, moved forward; kept to allocate once.
    streams: Vec<Releases>,
    work: Work,
}

/// The job with the longest response.
#[derive(Clone, Copy, Default)]
struct Worst {
    response: u64,
    q: u64,
    start: u64,
}

impl<'a> Levels<'a> {
    fn new(lane: &'a Rows, stop: Stop) -> Self {
        let fresh = lane.rows.iter().map(Releases::new).collect();
        Self { lane, stop, fresh, streams: Vec::with_capacity(lane.rows.len()), work: Work::of(STEPS_MAX) }
    }

    fn solve(&mut self, position: usize) -> Result<(Nanos, TaskClaim), Cause> {
        let me = self.lane.rows[position];
        let blocker = self.lane.rows.iter().filter(|row| row.key > me.key).max_by_key(|row| row.blocks);
        let base = self.lane.overrun + blocker.map_or(0, |row| row.blocks);

        self.rewind(position);
        self.streams.push(self.fresh[position]);
        let busy = least(base, base.max(1), Window::HalfOpen, &mut self.streams, &mut self.work)?;
        self.rewind(position);
        let (worst, starts) = self.jobs(&me, base, closed_jobs(&me, busy - 1))?;

        // The releases stand at the last start that was looked at, which most often is the worst.
        let settled = starts.last().is_some_and(|start| start.get() == worst.start);
        let urgent = others(&self.lane.rows, position).zip(&self.streams);
        let interference = urgent.map(|(row, stream)| {
            let jobs = if settled { stream.jobs } else { closed_jobs(row, worst.start) };
            (row.id, jobs, jobs * row.cost)
        });
        let tally = Tally {
            jitter: me.jitter,
            blocking: blocker.map(|row| (row.id, row.blocks)),
            carry: worst.q * me.cost,
            own: me.cost,
            overrun: self.lane.overrun,
            before: worst.q * me.period,
        };
        let (bound, terms) = (span(worst.response), tally.terms(interference));
        if self.stop == Stop::AtDeadline && worst.response > me.deadline {
            // The deadline counts from the nominal arrival, which lies up to J before the busy period starts.
            let instant = span((worst.q * me.period + me.deadline).saturating_sub(me.jitter));
            return Err(Cause::Deadline { bound, terms, instant });
        }
        Ok((span(busy), TaskClaim { task: me.id, bound, terms, starts }))
    }

    /// The start of each of the first `jobs` jobs of a busy period, and the worst of them; stops at the first that
    /// misses, where misses matter.
    fn jobs(&mut self, me: &Row, base: u64, jobs: u64) -> Result<(Worst, Vec<Nanos>), Cause> {
        let mut starts = Vec::with_capacity(usize::try_from(jobs.min(1 << 10)).unwrap_or(0));
        let (mut start, mut worst) = (0u64, Worst::default());
        for q in 0..jobs {
            let own = q.saturating_mul(me.cost).saturating_add(me.cost - me.last);
            let base = base.saturating_add(own);
            start = least(base, start.max(base), Window::Closed, &mut self.streams, &mut self.work)?;
            starts.push(span(start));
            let response = (start + me.last + me.jitter).saturating_sub(q * me.period);
            if response > worst.response {
                worst = Worst { response, q, start };
            }
            if self.stop == Stop::AtDeadline && response > me.deadline {
                break;
            }
        }
        Ok((worst, starts))
    }

    /// Puts the tasks at least as urgent as the one at `position` back to the start of a busy period.
    fn rewind(&mut self, position: usize) {
        let key = self.lane.rows[position].key;
        let tasks = self.lane.rows.iter().zip(&self.fresh).enumerate();
        let urgent = tasks.filter(|(other, (row, _))| *other != position && row.key <= key);
        self.streams.clear();
        self.streams.extend(urgent.map(|(_, (_, fresh))| *fresh));
    }
}

/// Tasks at least as urgent as the one at `position`, without it.
fn others(rows: &[Row], position: usize) -> impl Iterator<Item = &Row> {
    let key = rows[position].key;
    rows.iter()
        .enumerate()
        .filter(move |(other, row)| *other != position && row.key <= key)
        .map(|(_, row)| row)
}
