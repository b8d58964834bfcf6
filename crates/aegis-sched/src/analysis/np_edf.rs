//! Feasibility and response times under absolute deadlines with limited preemption.
//!
//! k_i is the relative deadline that orders the jobs of task i (its key).
//!
//! ```text
//! L     = least L > 0:  L = X + sum of eta_j(L) C_j
//! h(t)  = sum over t >= k_j - J_j of (floor((t + J_j - k_j) / T_j) + 1) C_j
//! b(t)  = longest segment of a task with k_j - J_j > t
//! feasible (every response <= k_i):   h(t) + b(t) + X <= t   for min(k_j - J_j) <= t < max(L, k_max)
//! ```
//!
//! Jeffay, Stanat, Martel RTSS 1991; George, Rivierre, Spuri RR-2966 (1996). Windows are walked from the longest to
//! the shortest as in QPA (Zhang, Burns, IEEE TC 2009), in pieces on which b is constant, because h + b is not
//! monotone.
//!
//! A blocker needs k_j > t only, because it may arrive just before it starts. But jobs of one task run in order of
//! arrival, and the blocker's deadline lies after the window: while j blocks, j has no job in h. Where
//! `k_j - J_j <= t < k_j`, h counts at least one job of j, which is no shorter than its segment, so the window in
//! which j blocks holds no more than the one in which it does not. Without this step every task would block itself
//! as soon as it has jitter.
//!
//! Response of a job with nominal arrival at `a` in a window that starts at 0, when the last job with a later
//! deadline has begun its segment or the lane was free of jobs with deadlines up to `a + k_i`:
//!
//! ```text
//! w(a) = least w:  w = b(a + k_i) + X + floor((a + J_i) / T_i) C_i + C_i - F_i
//!                      + sum over j of min(etac_j(w), floor((a + k_i + J_j - k_j) / T_j) + 1) C_j
//! R_i  = max over -J_i <= a < max(L, k_max - k_i) of  w(a) + F_i - a
//! ```
//!
//! Spuri RR-2772 (1996) for J = 0, where it is exact. With jitter: a job released inside the window arrived at most
//! J_j before it, which gives both counts, and the same step as above gives b. A window without a blocker is part of
//! a busy period, so `a < L`; one with a blocker needs a task with `k_j > a + k_i`. Feasibility implies R_i <= k_i
//! for this R_i as well, because `w(a) + F_i` is at most `h(t) + b(t) + X` at `t = a + k_i`.

use super::Stop;
use super::claim::{Cause, Claim, Failure, TaskClaim};
use super::demand::{
    HORIZON, RESPONSE_STEPS_MAX, Releases, Row, Rows, STEPS_MAX, Work, check_utilisation, span,
};
use super::problem::LaneProblem;
use super::tally::Tally;

/// Keys as signed numbers: a window's offset may be negative by a jitter. All values lie below 2^60.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The claim that every response is at most its key, where each key is at most its deadline and the lane is
/// feasible. The cheap decision: no response times.
///
/// # Errors
/// [`Failure`] where the lane is not feasible, or where a key exceeds its deadline (then only [`claim`] decides).
pub fn feasible_claim(problem: &LaneProblem) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let mut claim = Claim { overrun: problem.overrun, busy: Vec::new(), tasks: Vec::new() };
    if lane.rows.is_empty() {
        return Ok(claim);
    }
    let mut work = Work::of(STEPS_MAX);
    let busy = busy(&lane, &mut work)?;
    feasible(&lane, busy, &mut work)?;
    claim.busy.push(span(busy));
    for row in &lane.rows {
        let tally = Tally { jitter: row.jitter, own: row.cost, overrun: lane.overrun, ..Tally::default() };
        let terms = tally.terms_with_slackness(row.key);
        claim.tasks.push(TaskClaim { task: row.id, bound: span(row.key), terms, starts: Vec::new() });
    }
    Ok(claim)
}

/// Whether feasibility decides this problem: no key exceeds its deadline.
pub fn keys_within_deadlines(problem: &LaneProblem) -> bool {
    problem.tasks.iter().all(|task| task.key <= task.deadline.get())
}

/// Response times of every task.
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
    let mut work = Work::of(RESPONSE_STEPS_MAX);
    let busy = busy(&lane, &mut work)?;
    claim.busy.push(span(busy));
    let mut search = Search { lane: &lane, position: 0, streams: Vec::new(), work };
    for (position, row) in lane.rows.iter().enumerate() {
        search.position = position;
        let fail = |cause| Failure { position: Some(position), cause };
        let worst = search.worst(busy, stop).map_err(fail)?;
        let terms = search.terms(&worst);
        if stop == Stop::AtDeadline && worst.response > row.deadline {
            let instant = worst.arrival.saturating_add(signed(row.deadline)).max(0).unsigned_abs();
            return Err(fail(Cause::Deadline { bound: span(worst.response), terms, instant: span(instant) }));
        }
        let bound = span(worst.response);
        claim.tasks.push(TaskClaim { task: row.id, bound, terms, starts: Vec::new() });
    }
    Ok(claim)
}

fn busy(lane: &Rows, work: &mut Work) -> Result<u64, Failure> {
    let at = lane.rows.iter().position(|row| row.key > HORIZON);
    if at.is_some() {
        return Err(Failure { position: at, cause: Cause::Horizon });
    }
    lane.busy_period(work).map_err(|cause| Failure { position: None, cause })
}

/// Checks h(t) + b(t) + X <= t for every window, longest first.
fn feasible(lane: &Rows, busy: u64, work: &mut Work) -> Result<(), Failure> {
    let rows = &lane.rows;
    // A key below jitter plus cost cannot be kept by a job that waits for nothing.
    if let Some(position) = rows.iter().position(|row| row.key < row.jitter.saturating_add(row.cost)) {
        let row = &rows[position];
        let (window, demand) = (span(row.key), span(row.jitter.saturating_add(row.cost)));
        return Err(Failure {
            position: Some(position),
            cause: Cause::Demand { window, demand, blocker: None },
        });
    }
    let mut by_bend: Vec<(u64, &Row)> = rows.iter().map(|row| (row.key - row.jitter, row)).collect();
    by_bend.sort_unstable_by_key(|&(bend, row)| std::cmp::Reverse((bend, row.id)));
    let mut top = busy.max(rows.iter().map(|row| row.key).max().unwrap_or(0)) - 1;
    let mut blocker: Option<&Row> = None;
    for (bend, row) in by_bend {
        if bend <= top {
            walk(lane, bend, top, blocker, work)?;
            // Below the least bend no job has its deadline inside the window.
            top = bend.saturating_sub(1);
        }
        blocker = blocker.into_iter().chain(Some(row)).max_by_key(|row| row.blocks);
    }
    Ok(())
}

/// Checks the windows from `top` down to `low`, on which `blocker` blocks. Where the demand of a window is v, all
/// windows from v to it pass, because shorter ones hold no more.
fn walk(lane: &Rows, low: u64, top: u64, blocker: Option<&Row>, work: &mut Work) -> Result<(), Failure> {
    let extra = lane.overrun + blocker.map_or(0, |row| row.blocks);
    let mut t = top;
    while t >= low {
        work.spend(lane.rows.len()).map_err(|cause| Failure { position: None, cause })?;
        let demand = lane.rows.iter().fold(extra, |sum, row| {
            let since = (t + row.jitter).checked_sub(row.key);
            sum.saturating_add(since.map_or(0, |since| (since / row.period + 1).saturating_mul(row.cost)))
        });
        if demand > t {
            return Err(violation(lane, t, demand, blocker));
        }
        match demand.checked_sub(1) {
            Some(below) => t = below,
            None => return Ok(()),
        }
    }
    Ok(())
}

/// The task whose deadline ends the window, and the window cut to that deadline.
fn violation(lane: &Rows, t: u64, demand: u64, blocker: Option<&Row>) -> Failure {
    let last = |row: &Row| {
        let since = (t + row.jitter).checked_sub(row.key)?;
        Some(since / row.period * row.period + row.key - row.jitter)
    };
    let ends = lane.rows.iter().enumerate().filter_map(|(at, row)| Some((last(row)?, at))).max();
    let (window, position) = ends.map_or((t, None), |(end, at)| (end, Some(at)));
    let cause =
        Cause::Demand { window: span(window), demand: span(demand), blocker: blocker.map(|row| row.id) };
    Failure { position, cause }
}

/// The job with the longest response that was found.
struct Worst {
    response: u64,
    /// Its nominal arrival, from the start of its window.
    arrival: i64,
    /// When its last segment starts at the latest.
    start: u64,
}

/// The search for the longest response of one task.
struct Search<'a> {
    lane: &'a Rows,
    position: usize,
    /// Interfering tasks: releases so far, and the work that deadlines up to the job's allow.
    streams: Vec<(Releases, u64)>,
    work: Work,
}

impl Search<'_> {
    /// Walks arrivals from the last to the first. Where a job arriving at `a` starts at `w`, no arrival from
    /// `w + F - R` to `a` can beat R as long as the blocking is the same, so these are skipped.
    fn worst(&mut self, busy: u64, stop: Stop) -> Result<Worst, Cause> {
        let me = self.lane.rows[self.position];
        let first = -signed(me.jitter);
        let key_max = self.lane.rows.iter().map(|row| row.key).max().unwrap_or(0);
        let mut worst = self.response(first, 0)?.unwrap_or(Worst { response: 0, arrival: first, start: 0 });
        let mut top = signed(busy).max(signed(key_max) - signed(me.key)) - 1;
        while top > first {
            if stop == Stop::AtDeadline && worst.response > me.deadline {
                break;
            }
            let arrival = self.step_at_or_before(top);
            let seen = self.response(arrival, worst.response)?;
            let start = seen.as_ref().map_or(self.all(arrival), |seen| seen.start);
            if let Some(better) = seen.filter(|seen| seen.response > worst.response) {
                worst = better;
            }
            let skip = signed(start) + signed(me.last) - signed(worst.response) - 1;
            top = (arrival - 1).min(skip.max(self.piece(arrival) - 1));
        }
        Ok(worst)
    }

    /// The response of a job arriving at `arrival`, or `None` where all work that its deadline allows is not enough
    /// to beat `known`. Leaves the allowed work in `streams`.
    fn response(&mut self, arrival: i64, known: u64) -> Result<Option<Worst>, Cause> {
        let me = self.lane.rows[self.position];
        let deadline = arrival + signed(me.key);
        let base = self.base(arrival);
        self.streams.clear();
        let others = self.lane.rows.iter().enumerate().filter(|(other, _)| *other != self.position);
        self.streams.extend(others.filter_map(|(_, row)| {
            let since = u64::try_from(deadline + signed(row.jitter) - signed(row.key)).ok()?;
            Some((Releases::new(row), (since / row.period + 1).saturating_mul(row.cost)))
        }));
        let response = |start: u64| u64::try_from(signed(start) + signed(me.last) - arrival).unwrap_or(0);
        if self.all(arrival) <= HORIZON && response(self.all(arrival)) <= known {
            return Ok(None);
        }
        let mut start = base;
        loop {
            self.work.spend(self.streams.len())?;
            let mut sum = base;
            for (stream, allowed) in &mut self.streams {
                stream.advance(start);
                sum = sum.saturating_add(stream.demand.min(*allowed));
            }
            if sum > HORIZON {
                return Err(Cause::Horizon);
            }
            if sum <= start {
                return Ok(Some(Worst { response: response(start), arrival, start }));
            }
            start = sum;
        }
    }

    /// Work before the job's last segment that no start time changes: blocking, overrun, its own.
    fn base(&self, arrival: i64) -> u64 {
        let me = &self.lane.rows[self.position];
        let earlier = self.earlier(arrival);
        let blocking = self.blocker(arrival).map_or(0, |row| row.blocks);
        earlier.saturating_mul(me.cost).saturating_add(me.cost - me.last + blocking + self.lane.overrun)
    }

    /// The latest start that the work allowed by deadlines permits; `streams` are those of `arrival`.
    fn all(&self, arrival: i64) -> u64 {
        self.streams.iter().fold(self.base(arrival), |sum, (_, allowed)| sum.saturating_add(*allowed))
    }

    /// Earlier jobs of the task in the window.
    fn earlier(&self, arrival: i64) -> u64 {
        let me = &self.lane.rows[self.position];
        u64::try_from(arrival + signed(me.jitter)).map_or(0, |since| since / me.period)
    }

    fn blocker(&self, arrival: i64) -> Option<&Row> {
        let deadline = arrival + signed(self.lane.rows[self.position].key);
        let others = self.lane.rows.iter().enumerate().filter(|(other, _)| *other != self.position);
        let later = |row: &&Row| signed(row.key) - signed(row.jitter) > deadline;
        others.map(|(_, row)| row).filter(later).max_by_key(|row| row.blocks)
    }

    /// The first arrival that sees the same blocking as `arrival`.
    fn piece(&self, arrival: i64) -> i64 {
        let me = &self.lane.rows[self.position];
        let bends = self.lane.rows.iter().map(|row| signed(row.key) - signed(row.jitter) - signed(me.key));
        bends.filter(|&bend| bend <= arrival).max().unwrap_or(i64::MIN + 1)
    }

    /// The last arrival at or before `top` at which the allowed work grows.
    fn step_at_or_before(&self, top: i64) -> i64 {
        let me = &self.lane.rows[self.position];
        let steps = self.lane.rows.iter().filter_map(|row| {
            let origin = signed(row.key) - signed(me.key) - signed(row.jitter);
            let since = u64::try_from(top - origin).ok()?;
            Some(origin + signed(since / row.period * row.period))
        });
        steps.max().unwrap_or(top).max(-signed(me.jitter))
    }

    fn terms(&self, worst: &Worst) -> Vec<crate::referee::certificate::Term> {
        let me = &self.lane.rows[self.position];
        let deadline = worst.arrival + signed(me.key);
        let others = self.lane.rows.iter().enumerate().filter(|(other, _)| *other != self.position);
        let interference = others.filter_map(|(_, row)| {
            let since = u64::try_from(deadline + signed(row.jitter) - signed(row.key)).ok()?;
            let jobs = (since / row.period + 1).min((worst.start + row.jitter) / row.period + 1);
            Some((row.id, jobs, jobs * row.cost))
        });
        Tally {
            jitter: (-worst.arrival).max(0).unsigned_abs(),
            blocking: self.blocker(worst.arrival).map(|row| (row.id, row.blocks)),
            carry: self.earlier(worst.arrival) * me.cost,
            own: me.cost,
            overrun: self.lane.overrun,
            before: worst.arrival.max(0).unsigned_abs(),
        }
        .terms(interference)
    }
}
