//! Response times under static priorities with limited preemption (non-preemptive where a job is one segment).
//!
//! ```text
//! B_i    = longest segment of a less urgent task, + X
//! L_i    = least L > 0:  L = B_i + sum over hep(i) and i of eta_j(L) C_j
//! w_q    = least w:      w = B_i + (q+1) C_i - F_i + sum over hep(i) of etac_j(w) C_j        q = 0 .. eta_i(L_i) - 1
//! R_i    = max over q:   w_q + F_i - q T_i + J_i
//! ```
//!
//! Davis, Burns, Bril, Lukkien, Real-Time Systems 35 (2007); Bril, Lukkien, Verhaegh, Real-Time Systems 42 (2009). A
//! later job of the busy period can be the worst: a claim has the start of every one, and a bound alone looks at jobs
//! until no later one can be worse (`Levels::is_settled`). Equal keys count as more urgent for each other, which is safe
//! for any tie rule.
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
use super::demand::{HORIZON, Halt, Row, Rows, STEPS_MAX, Work, check_utilisation, closed_jobs, span};
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
        let position = ranks.order[rank].at;
        let fail = |cause| Failure { position: Some(position), cause };
        levels.descend(rank);
        let solved = levels.solve(rank, stop).map_err(|halt| fail(halt.into()))?;
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
        let position = ranks.order[rank].at;
        levels.descend(rank);
        let failure = |halt: Halt| Failure { position: Some(position), cause: halt.into() };
        bounds[position] = span(levels.bound(rank, u64::MAX).map_err(failure)?);
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
    bound.map(span).map_err(|halt| Failure { position: Some(position), cause: halt.into() })
}

/// Whether one task meets its deadline.
pub(super) fn row_fits(lane: &Rows, ranks: &Ranks, position: usize, steps: u64) -> bool {
    let mut levels = Levels::new(lane, ranks, steps);
    let deadline = lane.rows[position].deadline;
    levels.urgent.limit(deadline);
    levels.bound_at(position, deadline).is_ok_and(|bound| bound <= deadline)
}

/// The position of the most urgent task that is not shown to meet its deadline, where those of the levels that are not
/// `changed` are known to do: told by rank, position and longest segment of a less urgent task.
pub(super) fn first_late(
    lane: &Rows,
    ranks: &Ranks,
    steps: u64,
    changed: impl Fn(usize, usize, u64) -> bool,
) -> Option<usize> {
    let mut levels = Levels::new(lane, ranks, steps);
    let late = (0..lane.rows.len()).find(|&rank| {
        levels.descend(rank);
        let row = levels.row(rank);
        let deadline = row.deadline;
        levels.urgent.limit(deadline);
        let as_before = !changed(rank, ranks.order[rank].at, levels.blocking - lane.overrun);
        !as_before && levels.bound(rank, deadline).map_or(true, |bound| bound > deadline)
    });
    late.map(|rank| ranks.order[rank].at)
}

/// The tasks of a lane by priority: most urgent first, ties by number.
#[derive(Clone, Debug, Default)]
pub(super) struct Ranks {
    order: Vec<Rank>,
}

/// What the walk down the levels reads of a task.
#[derive(Clone, Copy, Debug)]
struct Rank {
    key: u64,
    id: TaskId,
    /// Its position on the lane.
    at: usize,
    /// Its releases at the start of a busy period.
    fresh: Releases,
    /// What its longest segment blocks for.
    blocks: u64,
    /// The longest of those from here on down, and whose it is.
    longest: (TaskId, u64),
}

impl Rank {
    fn of(row: &Row, at: usize) -> Self {
        let Row { key, id, blocks, .. } = *row;
        Self { key, id, at, fresh: Releases::new(row), blocks, longest: (id, blocks) }
    }
}

/// Where a task belongs: one wide number, because that is compared without a branch.
fn place(key: u64, id: TaskId) -> u128 {
    u128::from(key) << 16 | u128::from(id.get())
}

impl Ranks {
    pub(super) fn of(lane: &Rows) -> Self {
        let mut ranks = Self { order: Vec::with_capacity(lane.rows.len()) };
        ranks.sort(lane);
        ranks
    }

    fn sort(&mut self, lane: &Rows) {
        // A position goes along in the bits below: no memory holds lanes of so many tasks.
        let placed = |(at, row): (usize, &Row)| place(row.key, row.id) << 48 | at as u128;
        let mut places: Vec<_> = lane.rows.iter().enumerate().map(placed).collect();
        places.sort_unstable();
        self.order.clear();
        let positions = places.iter().map(|place| (place & ((1 << 48) - 1)) as usize);
        self.order.extend(positions.map(|at| Rank::of(&lane.rows[at], at)));
        self.find_longest();
    }

    /// Takes over the lane's numbers; ranks anew only where keys have changed.
    pub(super) fn refresh(&mut self, lane: &Rows) {
        let same = self.order.len() == lane.rows.len()
            && self
                .order
                .iter()
                .all(|rank| (rank.key, rank.id) == (lane.rows[rank.at].key, lane.rows[rank.at].id));
        if !same {
            self.sort(lane);
            return;
        }
        for rank in &mut self.order {
            *rank = Rank::of(&lane.rows[rank.at], rank.at);
        }
        self.find_longest();
    }

    /// Takes over the numbers of the task at `position`, whose key is as before.
    pub(super) fn renew(&mut self, lane: &Rows, position: usize) {
        let Some(rank) = self.order.iter_mut().find(|rank| rank.at == position) else { return };
        let before = std::mem::replace(rank, Rank::of(&lane.rows[position], position));
        if before.blocks != rank.blocks {
            self.find_longest();
        } else {
            rank.longest = before.longest;
        }
    }

    /// Ranks a task that now stands at `position` of the lane; returns its rank.
    pub(super) fn insert(&mut self, lane: &Rows, position: usize) -> usize {
        let new = Rank::of(&lane.rows[position], position);
        for rank in &mut self.order {
            rank.at += usize::from(rank.at >= position);
        }
        let rank = self.order.partition_point(|rank| place(rank.key, rank.id) < place(new.key, new.id));
        self.order.insert(rank, new);
        self.find_longest();
        rank
    }

    /// Forgets the task that stood at `position` of the lane.
    pub(super) fn remove(&mut self, position: usize) {
        self.order.retain(|rank| rank.at != position);
        for rank in &mut self.order {
            rank.at -= usize::from(rank.at > position);
        }
        self.find_longest();
    }

    fn find_longest(&mut self) {
        let mut below = None;
        for rank in self.order.iter_mut().rev() {
            rank.longest = match below {
                Some((by, blocks)) if blocks >= rank.blocks => (by, blocks),
                _ => (rank.id, rank.blocks),
            };
            below = Some(rank.longest);
        }
    }

    /// The releases of the tasks of these ranks.
    fn fresh(&self, ranks: Range<usize>) -> impl Iterator<Item = &Releases> {
        self.order[ranks].iter().map(|rank| &rank.fresh)
    }

    /// The longest segment from `rank` on down, and whose it is.
    fn longest(&self, rank: usize) -> Option<(TaskId, u64)> {
        self.order.get(rank).map(|rank| rank.longest)
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

    #[inline]
    fn row(&self, rank: usize) -> &'a Row {
        &self.lane.rows[self.ranks.order[rank].at]
    }

    /// Moves to the task at `rank`, which lies behind all that were solved.
    #[inline]
    fn descend(&mut self, rank: usize) {
        if rank >= self.level.end {
            let order = &self.ranks.order;
            let same = order[rank + 1..].iter().take_while(|other| other.key == order[rank].key).count();
            self.enter(rank..rank + 1 + same);
        }
    }

    /// The bound of the task at `position`, for levels that nothing was asked of before.
    fn bound_at(&mut self, position: usize, enough: u64) -> Result<u64, Halt> {
        let order = &self.ranks.order;
        let rank = order.iter().position(|rank| rank.at == position).unwrap_or(0);
        let key = order[rank].key;
        let level =
            order.partition_point(|other| other.key < key)..order.partition_point(|other| other.key <= key);
        self.enter(level);
        self.bound(rank, enough)
    }

    #[inline]
    fn enter(&mut self, level: Range<usize>) {
        self.blocking = self.lane.overrun + self.ranks.longest(level.end).map_or(0, |(_, blocks)| blocks);
        self.level = level;
    }

    /// The bound of the task at `rank`; once it exceeds `enough`, some number that does.
    #[inline]
    fn bound(&mut self, rank: usize, enough: u64) -> Result<u64, Halt> {
        let me = self.row(rank);
        let mut start = self.first_start(rank, me)?;
        let mut worst = Worst { response: start + me.last + me.jitter, start, q: 0 };
        let alone = self.level.len() == 1;
        if worst.response > enough || self.is_settled(me, 0, start, alone) {
            return Ok(worst.response);
        }
        if alone {
            self.scratch.copy(&self.urgent);
        }
        // Later jobs start later: what limits the first start does not limit theirs.
        self.scratch.limit(HORIZON);
        for q in 1.. {
            start = self.later_start(me, q, &mut worst, start)?;
            if worst.response > enough || self.is_settled(me, q, start, false) {
                break;
            }
        }
        Ok(worst.response)
    }

    /// Whether no job after job `q`, which starts at `start`, is worse than all up to that one.
    ///
    /// With m = q + 1 and `n_j(y) = ceil(y / T_j)`, let `m C + sum of n_j(y) C_j <= y` for some y <= m T. Then w_p + y is
    /// a post-fixpoint of the equation for w_(p+m), whatever p, because `etac_j(w_p + y) <= etac_j(w_p) + n_j(y)`. Hence
    /// R(p + m) <= R(p) + y - m T <= R(p). Such a y solves the equation for w_q with F in the place of B: where F <= B,
    /// w_q itself is one, and otherwise the front of w_q moves on by the little that F is longer. The next level's first
    /// start lies behind it even so (`owed`). If the busy period ends with job q, there is such a y.
    #[inline]
    fn is_settled(&mut self, me: &Row, q: u64, start: u64, first_alone: bool) -> bool {
        let most = (q + 1).saturating_mul(me.period);
        if start > most || me.last <= self.blocking {
            return start <= most;
        }
        let base = (q + 1).saturating_mul(me.cost);
        if !first_alone {
            return self.scratch.reaches(base, start, most, &mut self.work);
        }
        self.owed = base;
        self.urgent.reaches(base, start, most, &mut self.work)
    }

    /// The length of the busy period, the start of each of its jobs, and the worst of them; stops at the first that
    /// misses, where misses matter.
    fn solve(&mut self, rank: usize, stop: Stop) -> Result<Solved, Halt> {
        let me = self.row(rank);
        let mut start = self.first_start(rank, me)?;
        let mut worst = Worst { response: start + me.last + me.jitter, start, q: 0 };
        let jobs = self.jobs(me, start)?;
        self.starts.clear();
        self.starts.push(span(start));
        for q in 1..jobs {
            if stop == Stop::AtDeadline && worst.response > me.deadline {
                break;
            }
            start = self.later_start(me, q, &mut worst, start)?;
            self.starts.push(span(start));
        }
        Ok(Solved { busy: self.busy, worst })
    }

    /// Jobs of the busy period, which becomes known, where the first one starts at `start`.
    fn jobs(&mut self, me: &Row, start: u64) -> Result<u64, Halt> {
        // The busy period holds the first job: at L - F all work but its last segment is done, so w_0 + F <= L.
        let from = self.busy.max(start + me.last);
        if self.all.len() == 0 {
            self.all = Front::with_capacity(self.lane.rows.len());
        }
        self.ranks.fresh(self.all.len()..self.level.end).for_each(|fresh| self.all.push(fresh));
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
    fn later_start(&mut self, me: &Row, q: u64, worst: &mut Worst, earlier: u64) -> Result<u64, Halt> {
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
    #[inline]
    fn first_start(&mut self, rank: usize, me: &Row) -> Result<u64, Halt> {
        let base = self.blocking + (me.cost - me.last);
        self.pass_levels(base);
        if self.level.len() == 1 {
            let start = self.urgent.least(base, base, Window::Closed, &mut self.work)?;
            self.owed = base;
            return Ok(start);
        }
        self.scratch.copy(&self.urgent);
        let equal =
            self.ranks.fresh(self.level.start..rank).chain(self.ranks.fresh(rank + 1..self.level.end));
        equal.for_each(|fresh| self.scratch.push(fresh));
        self.scratch.least(base, base, Window::Closed, &mut self.work)
    }

    /// Brings `urgent` down to the level, and back to the beginning where it may stand behind a start with this base.
    #[inline]
    fn pass_levels(&mut self, base: u64) {
        for passed in self.ranks.fresh(self.urgent.len()..self.level.start) {
            self.urgent.push(passed);
            self.owed = self.owed.saturating_sub(passed.burst);
        }
        if base < self.owed {
            self.owed = 0;
            self.urgent.clear();
            self.ranks.fresh(0..self.level.start).for_each(|fresh| self.urgent.push(fresh));
        }
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
            blocking: self.ranks.longest(self.level.end),
            carry: worst.q * me.cost,
            own: me.cost,
            overrun: self.lane.overrun,
            before: worst.q * me.period,
        };
        tally.terms(interference)
    }
}
