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
use super::demand::{Releases, Row, Rows, STEPS_MAX, Window, Work, check_utilisation, least, span};
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
    /// The tasks, most urgent first, ties by number: those that can delay a task stand in front, or tie with it.
    order: Vec<Row>,
    /// Their releases at the start of a busy period.
    fresh: Vec<Releases>,
    /// Those of the tasks that can delay the one in question, moved forward; kept to allocate once.
    streams: Vec<Releases>,
    /// The same at the start of the job with the longest response.
    worst: Vec<Releases>,
    work: Work,
}

/// The job with the longest response.
#[derive(Clone, Copy)]
struct Worst {
    response: u64,
    q: u64,
}

impl<'a> Levels<'a> {
    fn new(lane: &'a Rows, stop: Stop) -> Self {
        let mut order = lane.rows.clone();
        order.sort_unstable_by_key(|row| (row.key, row.id));
        let fresh: Vec<Releases> = order.iter().map(Releases::new).collect();
        let (streams, worst) = (Vec::with_capacity(fresh.len()), Vec::with_capacity(fresh.len()));
        Self { lane, stop, order, fresh, streams, worst, work: Work::of(STEPS_MAX) }
    }

    fn solve(&mut self, position: usize) -> Result<(Nanos, TaskClaim), Cause> {
        let me = self.lane.rows[position];
        let end = self.order.partition_point(|row| row.key <= me.key);
        let at = self.order.partition_point(|row| (row.key, row.id) < (me.key, me.id));
        let blocker = self.order[end..].iter().max_by_key(|row| row.blocks);
        let blocker = blocker.map(|row| (row.id, row.blocks));
        let base = self.lane.overrun + blocker.map_or(0, |(_, blocks)| blocks);

        self.streams.clear();
        self.streams.extend_from_slice(&self.fresh[..at]);
        self.streams.extend_from_slice(&self.fresh[at + 1..end]);
        let (busy, worst, starts) = self.jobs(&me, base, self.fresh[at])?;

        let urgent = self.order[..at].iter().chain(&self.order[at + 1..end]).zip(&self.worst);
        let interference = urgent.map(|(row, stream)| (row.id, stream.jobs, stream.demand));
        let tally = Tally {
            jitter: me.jitter,
            blocking: blocker,
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

    /// The length of the busy period, the start of each of its jobs, and the worst of them; stops at the first that
    /// misses, where misses matter. `own` are the releases of the task itself.
    fn jobs(&mut self, me: &Row, base: u64, own: Releases) -> Result<(u64, Worst, Vec<Nanos>), Cause> {
        let mut start = self.start(me, base, 0, 0)?;
        let mut worst = Worst { response: start + me.last + me.jitter, q: 0 };
        self.worst.clone_from(&self.streams);

        // The busy period holds the first job: at L - F all work but its last segment is done, so w_0 + F <= L.
        self.streams.push(own);
        let busy = least(base, start + me.last, Window::HalfOpen, &mut self.streams, &mut self.work)?;
        let jobs = self.streams.last().map_or(0, |own| own.jobs);

        let mut starts = Vec::with_capacity(usize::try_from(jobs.min(1 << 10)).unwrap_or(0));
        starts.push(span(start));
        self.streams.clone_from(&self.worst);
        for q in 1..jobs {
            if self.stop == Stop::AtDeadline && worst.response > me.deadline {
                break;
            }
            start = self.start(me, base, q, start)?;
            starts.push(span(start));
            let response = (start + me.last + me.jitter).saturating_sub(q * me.period);
            if response > worst.response {
                worst = Worst { response, q };
                self.worst.clone_from(&self.streams);
            }
        }
        Ok((busy, worst, starts))
    }

    /// w_q, which is no less than `earlier`, the start of an earlier job.
    fn start(&mut self, me: &Row, base: u64, q: u64, earlier: u64) -> Result<u64, Cause> {
        let own = q.saturating_mul(me.cost).saturating_add(me.cost - me.last);
        let base = base.saturating_add(own);
        least(base, earlier.max(base), Window::Closed, &mut self.streams, &mut self.work)
    }
}
