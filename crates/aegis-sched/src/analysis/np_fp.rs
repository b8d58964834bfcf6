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
//!
//! Levels are solved from the most urgent down, and both fronts of releases only move forward on the way:
//!
//! - L_i <= L_{i+1} always. What the next level loses is the blocker i + 1, if it was the longest, and what it gains
//!   is at least one job of that task, which is no shorter than its longest segment.
//! - w_0 of the next level is no less as long as its constant part plus the new tasks' first jobs is no less than the
//!   constant part before: then its right-hand side is larger everywhere. Otherwise the front starts over.

use std::ops::Range;

use aegis_types::{Nanos, TaskId};

use super::Stop;
use super::claim::{Cause, Claim, Failure, TaskClaim};
use super::demand::{HORIZON, Row, Rows, STEPS_MAX, Work, check_utilisation, closed_jobs, span};
use super::front::{Front, Releases, Window};
use super::problem::LaneProblem;
use super::tally::Tally;
use crate::referee::certificate::Term;

/// Bounds of every task, with evidence.
///
/// # Errors
/// [`Failure`] for the most urgent task without a bound or (with [`Stop::AtDeadline`]) past its deadline.
pub fn claim(problem: &LaneProblem, stop: Stop) -> Result<Claim, Failure> {
    claim_within(problem, stop, STEPS_MAX)
}

/// [`claim`] in at most so many steps.
pub(super) fn claim_within(problem: &LaneProblem, stop: Stop, steps: u64) -> Result<Claim, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    let mut busy = vec![Nanos::ZERO; lane.rows.len()];
    let mut tasks: Vec<Option<TaskClaim>> = vec![None; lane.rows.len()];
    let ranks = Ranks::of(&lane);
    let mut levels = Levels::new(&lane, &ranks, steps);
    for rank in 0..lane.rows.len() {
        let position = ranks.order[rank].2;
        let fail = |cause| Failure { position: Some(position), cause };
        levels.descend(rank);
        let solved = levels.solve(rank, stop).map_err(fail)?;
        busy[position] = span(solved.busy);
        tasks[position] = Some(levels.task_claim(rank, &solved, stop).map_err(fail)?);
    }
    Ok(Claim { overrun: problem.overrun, busy, tasks: tasks.into_iter().flatten().collect() })
}

/// The bounds of [`claim`] without evidence, in the order of the tasks.
///
/// # Errors
/// As for [`claim`] with [`Stop::Never`].
pub(super) fn bounds(lane: &Rows) -> Result<Vec<Nanos>, Failure> {
    let mut bounds = vec![Nanos::ZERO; lane.rows.len()];
    let ranks = Ranks::of(lane);
    let mut levels = Levels::new(lane, &ranks, STEPS_MAX);
    for rank in 0..lane.rows.len() {
        let position = ranks.order[rank].2;
        levels.descend(rank);
        let bound =
            levels.bound(rank, u64::MAX).map_err(|cause| Failure { position: Some(position), cause })?;
        bounds[position] = span(bound);
    }
    Ok(bounds)
}

/// The bound of one task, for lanes where others may have none.
///
/// # Errors
/// Why there is none.
pub fn bound(problem: &LaneProblem, position: usize) -> Result<Nanos, Failure> {
    let lane = Rows::of(problem)?;
    let ranks = Ranks::of(&lane);
    let bound = Levels::new(&lane, &ranks, STEPS_MAX).bound_at(position, u64::MAX);
    bound.map(span).map_err(|cause| Failure { position: Some(position), cause })
}

/// Whether one task meets its deadline.
pub(super) fn row_fits(lane: &Rows, ranks: &Ranks, position: usize, steps: u64) -> bool {
    let mut levels = Levels::new(lane, ranks, steps);
    let deadline = lane.rows[position].deadline;
    levels.urgent.limit(deadline);
    levels.bound_at(position, deadline).is_ok_and(|bound| bound <= deadline)
}

/// The position of the most urgent task that is not shown to meet its deadline, where those of the levels that are not
/// `changed` are known to do: told by rank, key and longest segment of a less urgent task.
pub(super) fn first_late(
    lane: &Rows,
    ranks: &Ranks,
    steps: u64,
    changed: impl Fn(usize, u64, u64) -> bool,
) -> Option<usize> {
    let mut levels = Levels::new(lane, ranks, steps);
    let late = (0..lane.rows.len()).find(|&rank| {
        levels.descend(rank);
        let row = levels.row(rank);
        let (key, deadline) = (row.key, row.deadline);
        levels.urgent.limit(deadline);
        let as_before = !changed(rank, key, levels.blocking - lane.overrun);
        !as_before && levels.bound(rank, deadline).map_or(true, |bound| bound > deadline)
    });
    late.map(|rank| ranks.order[rank].2)
}

/// The tasks of a lane by priority.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    /// By rank, most urgent first and ties by number: key, number and position of the task.
    order: Vec<(u64, TaskId, usize)>,
    /// Their releases at the start of a busy period.
    fresh: Vec<Releases>,
    /// By rank: the longest segment from there on down; one more than there are tasks.
    longest: Vec<Option<(TaskId, u64)>>,
}

impl Ranks {
    pub(super) fn of(lane: &Rows) -> Self {
        let rows = &lane.rows;
        let mut order: Vec<_> = rows.iter().zip(0..).map(|(row, at)| (row.key, row.id, at)).collect();
        order.sort_unstable();
        let fresh = order.iter().map(|&(_, _, at)| Releases::new(&rows[at])).collect();
        let mut ranks = Self { longest: vec![None; order.len() + 1], order, fresh };
        ranks.find_longest(lane);
        ranks
    }

    /// Takes over the lane's numbers; ranks anew only where keys have changed.
    pub(super) fn refresh(&mut self, lane: &Rows) {
        // Fresh ranks have no place for the level below all others yet, not even those of a lane without tasks.
        let same = self.longest.len() == lane.rows.len() + 1
            && self.order.iter().all(|&(key, id, at)| (key, id) == (lane.rows[at].key, lane.rows[at].id));
        if !same {
            *self = Self::of(lane);
            return;
        }
        for (fresh, &(.., at)) in self.fresh.iter_mut().zip(&self.order) {
            *fresh = Releases::new(&lane.rows[at]);
        }
        self.find_longest(lane);
    }

    /// Ranks a task that now stands at `position` of the lane; returns its rank.
    pub(super) fn insert(&mut self, lane: &Rows, position: usize) -> usize {
        let row = &lane.rows[position];
        self.order.iter_mut().filter(|(.., at)| *at >= position).for_each(|(.., at)| *at += 1);
        let rank = self.order.partition_point(|&(key, id, _)| (key, id) < (row.key, row.id));
        self.order.insert(rank, (row.key, row.id, position));
        self.fresh.insert(rank, Releases::new(row));
        self.longest.push(None);
        self.find_longest(lane);
        rank
    }

    /// Forgets the task that stood at `position` of the lane.
    pub(super) fn remove(&mut self, lane: &Rows, position: usize) {
        if let Some(rank) = self.order.iter().position(|&(.., at)| at == position) {
            self.order.remove(rank);
            self.fresh.remove(rank);
            self.longest.pop();
        }
        self.order.iter_mut().filter(|(.., at)| *at > position).for_each(|(.., at)| *at -= 1);
        self.find_longest(lane);
    }

    fn find_longest(&mut self, lane: &Rows) {
        let mut below: Option<(TaskId, u64)> = None;
        self.longest[self.order.len()] = None;
        for (rank, &(_, id, at)) in self.order.iter().enumerate().rev() {
            let blocks = lane.rows[at].blocks;
            below = below.filter(|&(_, below)| below >= blocks).or(Some((id, blocks)));
            self.longest[rank] = below;
        }
    }
}

/// The priority levels of a lane, from the most urgent down.
struct Levels<'a> {
    lane: &'a Rows,
    ranks: &'a Ranks,
    /// Ranks of the level in question: tasks of one key.
    level: Range<usize>,
    /// B of it.
    blocking: u64,
    /// Releases of more urgent levels.
    urgent: Front,
    /// What the constant part of a start must be at least for `urgent` to stand before that start.
    owed: u64,
    /// Releases of those and of the level itself as far down as a busy period was asked for, and its length.
    all: Front,
    busy: u64,
    /// Those that can delay a later job, or one of several tasks of the level; kept to allocate once.
    scratch: Front,
    /// Starts of the jobs of the task that was solved last.
    starts: Vec<Nanos>,
    work: Work,
}

/// What was found out about one task.
struct Solved {
    busy: u64,
    worst: Worst,
}

/// The job with the longest response.
#[derive(Clone, Copy)]
struct Worst {
    response: u64,
    start: u64,
    q: u64,
}

impl<'a> Levels<'a> {
    fn new(lane: &'a Rows, ranks: &'a Ranks, steps: u64) -> Self {
        let count = lane.rows.len();
        Self {
            lane,
            ranks,
            level: 0..0,
            blocking: 0,
            urgent: Front::with_capacity(count),
            owed: 0,
            all: Front::with_capacity(0),
            busy: 1,
            scratch: Front::with_capacity(0),
            starts: Vec::new(),
            work: Work::of(steps),
        }
    }

    fn row(&self, rank: usize) -> &Row {
        &self.lane.rows[self.ranks.order[rank].2]
    }

    /// Moves to the task at `rank`, the one after the task that was solved last.
    fn descend(&mut self, rank: usize) {
        if rank >= self.level.end {
            let Ranks { order, fresh, .. } = self.ranks;
            for &releases in &fresh[self.level.clone()] {
                self.urgent.push(releases);
                self.owed = self.owed.saturating_sub(releases.burst);
            }
            let same = order[rank..].iter().take_while(|(key, ..)| *key == order[rank].0).count();
            self.enter(rank..rank + same);
        }
    }

    /// The bound of the task at `position`, for levels that nothing was asked of before.
    fn bound_at(&mut self, position: usize, enough: u64) -> Result<u64, Cause> {
        let rank = self.ranks.order.iter().position(|&(.., at)| at == position).unwrap_or(0);
        let key = self.ranks.order[rank].0;
        let level = self.ranks.order.partition_point(|&(other, ..)| other < key)
            ..self.ranks.order.partition_point(|&(other, ..)| other <= key);
        for &releases in &self.ranks.fresh[..level.start] {
            self.urgent.push(releases);
        }
        self.enter(level);
        self.bound(rank, enough)
    }

    fn enter(&mut self, level: Range<usize>) {
        self.blocking = self.lane.overrun + self.ranks.longest[level.end].map_or(0, |(_, blocks)| blocks);
        self.level = level;
    }

    /// The bound of the task at `rank`; once it exceeds `enough`, some number that does.
    fn bound(&mut self, rank: usize, enough: u64) -> Result<u64, Cause> {
        let me = *self.row(rank);
        let start = self.first_start(rank, &me)?;
        let response = start + me.last + me.jitter;
        if response > enough || response <= me.period && self.first_is_worst(&me, start) {
            return Ok(response);
        }
        let mut worst = Worst { response, start, q: 0 };
        let jobs = self.jobs(&me, start)?;
        for q in 1..jobs {
            // No job ends after the busy period, so where that is not worse, later jobs are not either.
            let rest = (self.busy + me.jitter).saturating_sub(q * me.period);
            if rest <= worst.response || worst.response > enough {
                break;
            }
            self.later_start(&me, q, &mut worst, start)?;
        }
        Ok(worst.response)
    }

    /// Whether R(0) <= T makes the first job the worst.
    ///
    /// Let s = w_(q-1) and R(q-1) <= T, so that s + F + J <= q T. With `n_j(x) = ceil(x / T_j)`, any x with
    /// `C + sum of n_j(x) C_j <= x` makes s + x a post-fixpoint of the equation for w_q, because
    /// `etac_j(s + x) <= etac_j(s) + n_j(x)`. Hence R(q) <= x, and x <= w_0 + F <= R(0) carries on the induction. Such an
    /// x solves the equation for w_0 with F in the place of B: where F <= B, w_0 itself is one, and otherwise the front
    /// of w_0 moves on by the little that F is longer. The next level's start lies behind it even so (`owed`).
    fn first_is_worst(&mut self, me: &Row, start: u64) -> bool {
        let Some(longer) = me.last.checked_sub(self.blocking).filter(|&longer| longer > 0) else {
            return true;
        };
        let alone = self.level.len() == 1;
        let front = if alone { &mut self.urgent } else { &mut self.scratch };
        let base = self.blocking + (me.cost - me.last) + longer;
        if alone {
            self.owed = base;
        }
        front.reaches(base, start, start + me.last, &mut self.work)
    }

    /// The length of the busy period, the start of each of its jobs, and the worst of them; stops at the first that
    /// misses, where misses matter.
    fn solve(&mut self, rank: usize, stop: Stop) -> Result<Solved, Cause> {
        let me = *self.row(rank);
        let mut start = self.first_start(rank, &me)?;
        let mut worst = Worst { response: start + me.last + me.jitter, start, q: 0 };
        let jobs = self.jobs(&me, start)?;
        self.starts.clear();
        self.starts.push(span(start));
        for q in 1..jobs {
            if stop == Stop::AtDeadline && worst.response > me.deadline {
                break;
            }
            start = self.later_start(&me, q, &mut worst, start)?;
            self.starts.push(span(start));
        }
        Ok(Solved { busy: self.busy, worst })
    }

    /// Jobs of the busy period, which becomes known, where the first one starts at `start`.
    fn jobs(&mut self, me: &Row, start: u64) -> Result<u64, Cause> {
        // The busy period holds the first job: at L - F all work but its last segment is done, so w_0 + F <= L.
        let from = self.busy.max(start + me.last);
        for &releases in &self.ranks.fresh[self.all.len()..self.level.end] {
            self.all.push(releases);
        }
        self.busy = self.all.least(self.blocking, from, Window::HalfOpen, &mut self.work)?;
        let jobs = closed_jobs(me, self.busy - 1);
        if jobs > 1 && self.level.len() == 1 {
            self.scratch.copy(&self.urgent);
        }
        // Later jobs start later: what limits the first start does not limit theirs.
        self.scratch.limit(HORIZON);
        Ok(jobs)
    }

    /// w_q, where an earlier job starts at `earlier`; keeps the worst job.
    fn later_start(&mut self, me: &Row, q: u64, worst: &mut Worst, earlier: u64) -> Result<u64, Cause> {
        // A start that no release moves costs the front nothing, and there may be very many of them.
        self.work.spend(0)?;
        let base = self.blocking.saturating_add(q.saturating_mul(me.cost) + me.cost - me.last);
        let start = self.scratch.least(base, earlier, Window::Closed, &mut self.work)?;
        let response = (start + me.last + me.jitter).saturating_sub(q * me.period);
        if response > worst.response {
            *worst = Worst { response, start, q };
        }
        Ok(start)
    }

    /// w_0. Leaves what can delay later jobs in `urgent`, or in `scratch` where others share the level.
    fn first_start(&mut self, rank: usize, me: &Row) -> Result<u64, Cause> {
        let base = self.blocking + (me.cost - me.last);
        if base < self.owed {
            self.urgent.clear();
            self.ranks.fresh[..self.level.start].iter().for_each(|&releases| self.urgent.push(releases));
            self.owed = 0;
        }
        if self.level.len() == 1 {
            let start = self.urgent.least(base, base, Window::Closed, &mut self.work)?;
            self.owed = base;
            return Ok(start);
        }
        self.scratch.copy(&self.urgent);
        let equal = self.level.clone().filter(|&other| other != rank);
        equal.for_each(|other| self.scratch.push(self.ranks.fresh[other]));
        self.scratch.least(base, base, Window::Closed, &mut self.work)
    }

    /// The claim for the task that was solved last.
    fn task_claim(&self, rank: usize, solved: &Solved, stop: Stop) -> Result<TaskClaim, Cause> {
        let (me, Worst { response, q, .. }) = (self.row(rank), solved.worst);
        let (bound, terms) = (span(response), self.terms(rank, &solved.worst));
        if stop == Stop::AtDeadline && response > me.deadline {
            // The deadline counts from the nominal arrival, which lies up to J before the busy period starts.
            let instant = span((q * me.period + me.deadline).saturating_sub(me.jitter));
            return Err(Cause::Deadline { bound, terms, instant });
        }
        Ok(TaskClaim { task: me.id, bound, terms, starts: self.starts.clone() })
    }

    fn terms(&self, rank: usize, worst: &Worst) -> Vec<Term> {
        let me = self.row(rank);
        let interference = (0..rank).chain(rank + 1..self.level.end).map(|rank| {
            let row = self.row(rank);
            let jobs = closed_jobs(row, worst.start);
            (row.id, jobs, jobs * row.cost)
        });
        let tally = Tally {
            jitter: me.jitter,
            blocking: self.ranks.longest[self.level.end],
            carry: worst.q * me.cost,
            own: me.cost,
            overrun: self.lane.overrun,
            before: worst.q * me.period,
        };
        tally.terms(interference)
    }
}
