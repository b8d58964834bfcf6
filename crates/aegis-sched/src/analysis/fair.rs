//! Response times in turns: weighted round robin over the tasks of a lane, with segments as the unit.
//!
//! n_i is the number of segments of a job of task i, w_i its weight, and W_j the most that a turn of task j takes: the
//! largest sum of w_j consecutive segments, jobs back to back.
//!
//! ```text
//! L    = least L > 0:  L = X + sum of eta_j(L) C_j
//! r(q) = ceil((q + 1) n_i / w_i)                                                      turns that q + 1 jobs take
//! F(q) = X + (q + 1) C_i + sum over j != i of min(r(q) W_j, eta_j(L) C_j)
//! R_i  = J_i + max over q of F(q) - q T_i        q = 0, 1, .. up to the first with F(q) <= (q + 1) T_i - J_i,
//!                                                and below eta_i(L)
//! ```
//!
//! Let jobs 0 to q of the task follow each other without a gap, the first of them released at t0 when all earlier ones
//! have ended. Until job q ends the task has a ready job at every decision, so each of its turns but the first and the
//! last runs w_i segments, and between two of them every other task has one turn at most. A turn of its own that goes
//! on at t0 saves a round of the others, because they all come after it. That makes r(q) turns of each other task. All
//! of it lies in one busy period, in which task j has no more work than eta_j(L) C_j. There is no term for blocking:
//! the turn in progress at t0 is one of those counted. The proof stands in section 7 of `docs/analyses.md`.

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
    let mut rounds = Rounds::new(&lane, steps).map_err(|cause| Failure { position: None, cause })?;
    claim.busy.push(span(rounds.busy));
    for (position, me) in lane.rows.iter().enumerate() {
        let fail = |cause| Failure { position: Some(position), cause };
        let worst = rounds.worst(position).map_err(fail)?;
        let terms = rounds.terms(position, worst.q);
        let bound = span(worst.response);
        if stop == Stop::AtDeadline && worst.response > me.deadline {
            let instant = span((worst.q * me.period + me.deadline).saturating_sub(me.jitter));
            return Err(fail(Cause::Deadline { bound, terms, instant }));
        }
        claim.tasks.push(TaskClaim { task: me.id, bound, terms, starts: Vec::new() });
    }
    Ok(claim)
}

/// The bounds of [`claim`] without evidence.
///
/// # Errors
/// As for [`claim`] with [`Stop::Never`].
pub(super) fn bounds(lane: &Rows) -> Result<Vec<Nanos>, Failure> {
    let mut rounds = Rounds::new(lane, STEPS_MAX).map_err(|cause| Failure { position: None, cause })?;
    let bound = |position| match rounds.worst(position) {
        Ok(worst) => Ok(span(worst.response)),
        Err(cause) => Err(Failure { position: Some(position), cause }),
    };
    (0..lane.rows.len()).map(bound).collect()
}

/// Whether the tasks at these positions meet their deadlines.
pub(super) fn fit(lane: &Rows, mut positions: impl Iterator<Item = usize>, steps: u64) -> bool {
    let Ok(mut rounds) = Rounds::new(lane, steps) else { return false };
    positions.all(|position| {
        rounds.worst(position).is_ok_and(|worst| worst.response <= lane.rows[position].deadline)
    })
}

/// The job with the longest response.
#[derive(Clone, Copy)]
struct Worst {
    response: u64,
    q: u64,
}

/// A lane with its busy period.
struct Rounds<'a> {
    lane: &'a Rows,
    /// L.
    busy: u64,
    work: Work,
}

impl<'a> Rounds<'a> {
    fn new(lane: &'a Rows, steps: u64) -> Result<Self, Cause> {
        let mut work = Work::of(steps);
        let busy = lane.busy_period(&mut work)?;
        Ok(Self { lane, busy, work })
    }

    /// Jobs of a task in a busy period; the half-open window [0, L) has the releases of the closed one [0, L - 1].
    const fn jobs(&self, row: &Row) -> u64 {
        closed_jobs(row, self.busy.saturating_sub(1))
    }

    fn worst(&mut self, position: usize) -> Result<Worst, Cause> {
        let me = self.lane.rows[position];
        let jobs = self.jobs(&me);
        let mut worst = Worst { response: 0, q: 0 };
        for q in 0..jobs {
            self.work.spend(self.lane.rows.len())?;
            let others = self.others(position, q).map(|(_, work)| work);
            let own = self.lane.overrun.saturating_add((q + 1).saturating_mul(me.cost));
            let end = others.fold(own, u64::saturating_add);
            if end > HORIZON {
                return Err(Cause::Horizon);
            }
            let response = (end + me.jitter).saturating_sub(q * me.period);
            if response > worst.response {
                worst = Worst { response, q };
            }
            if end + me.jitter <= (q + 1).saturating_mul(me.period) {
                break;
            }
        }
        Ok(worst)
    }

    /// The other tasks, each with its work until job `q` ends.
    fn others(&self, position: usize, q: u64) -> impl Iterator<Item = (&'a Row, u64)> {
        let (lane, me) = (self.lane, &self.lane.rows[position]);
        let turns = (q + 1).saturating_mul(u64::from(me.count)).div_ceil(me.key);
        let busy = self.busy.saturating_sub(1);
        let others = lane.rows.iter().enumerate().filter(move |(other, _)| *other != position);
        others.map(move |(_, row)| {
            let all = closed_jobs(row, busy).saturating_mul(row.cost);
            (row, turns.saturating_mul(row.blocks).min(all))
        })
    }

    fn terms(&self, position: usize, q: u64) -> Vec<Term> {
        let me = &self.lane.rows[position];
        let interference =
            self.others(position, q).map(|(row, work)| (row.id, work.div_ceil(row.cost), work));
        Tally {
            jitter: me.jitter,
            carry: q * me.cost,
            own: me.cost,
            overrun: self.lane.overrun,
            before: q * me.period,
            ..Tally::default()
        }
        .terms(interference)
    }
}
