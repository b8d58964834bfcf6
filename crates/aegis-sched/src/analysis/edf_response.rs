//! The search for the longest response of a task under absolute deadlines; the equations are those of
//! [`np_edf`](super::np_edf).
//!
//! Instants are deadlines d = a + k_i of the job in question, from the last to the first. Per task a cursor knows the
//! work that deadlines up to d allow, and from which start on releases do not limit it further, so a look costs a few
//! comparisons and divisions are rare. A job is not examined where its start cannot be late enough to beat the
//! longest response R that is known:
//!
//! 1. Not if all work that its deadline allows is done by `R - F + a`.
//! 2. Nor if the work v that can come before it by then is done by then: `R - F + a` is a post-fixpoint, so no start is
//!    later than v.
//! 3. Nor if another job with a later deadline and the same blocking starts at v at the latest and `v + F - a <= R`,
//!    because with an earlier deadline less work comes before it.

use super::Stop;
use super::claim::Cause;
use super::demand::{HORIZON, Row, Rows, Work, closed_jobs};
use super::tally::Tally;
use crate::referee::certificate::Term;

/// Numbers with a sign: a window's offset may be negative by a jitter. All values lie below 2^60.
pub(super) fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The job with the longest response that was found.
pub(super) struct Worst {
    pub response: u64,
    /// Its nominal arrival, from the start of its window.
    pub arrival: i64,
    /// When its last segment starts at the latest.
    pub start: u64,
}

/// The work of one task with deadlines up to an instant.
#[derive(Clone, Copy)]
struct Cursor {
    /// Work of these jobs.
    allowed: u64,
    /// From a start at this instant on all of them are released.
    released: u64,
    cost: u64,
    period: u64,
    jitter: u64,
}

impl Cursor {
    /// Moves to `deadline`; the first deadline is `first`. Returns that of the last job.
    fn place(&mut self, first: i64, deadline: i64) -> i64 {
        let Ok(since) = u64::try_from(deadline - first) else {
            (self.allowed, self.released) = (0, 0);
            return NONE;
        };
        let more = if since < self.period { 0 } else { since / self.period };
        let after = more * self.period;
        self.allowed = (more + 1).saturating_mul(self.cost);
        self.released = after.saturating_sub(self.jitter);
        first + signed(after)
    }

    /// Work of these jobs that is released by `start`.
    fn before(&self, start: u64) -> u64 {
        if start >= self.released {
            return self.allowed;
        }
        let reach = start + self.jitter;
        if reach < self.period {
            return self.cost;
        }
        // Less than what is allowed, so this does not overflow where that did not.
        (reach / self.period + 1).saturating_mul(self.cost)
    }
}

/// The work of all tasks with deadlines up to an instant that moves back.
struct Allowed {
    /// By task: deadline of the last of these jobs, as early as jitter allows; [`NONE`] where there is no job.
    newest: Vec<i64>,
    cursors: Vec<Cursor>,
    /// k - J by task: the first such deadline.
    first: Vec<i64>,
    /// Work of all of them.
    total: u64,
}

/// Before every deadline.
const NONE: i64 = i64::MIN;

impl Allowed {
    fn new(rows: &[Row]) -> Self {
        let cursor = |row: &Row| Cursor {
            allowed: 0,
            released: 0,
            cost: row.cost,
            period: row.period,
            jitter: row.jitter,
        };
        Self {
            newest: vec![NONE; rows.len()],
            cursors: rows.iter().map(cursor).collect(),
            first: rows.iter().map(|row| signed(row.key) - signed(row.jitter)).collect(),
            total: 0,
        }
    }

    /// Moves to `deadline`, from anywhere.
    fn place(&mut self, deadline: i64) {
        self.total = 0;
        for ((newest, cursor), &first) in self.newest.iter_mut().zip(&mut self.cursors).zip(&self.first) {
            *newest = cursor.place(first, deadline);
            self.total = self.total.saturating_add(cursor.allowed);
        }
    }

    /// Moves back to the last deadline at or before `top`, and returns it.
    fn step(&mut self, top: i64) -> i64 {
        let mut last = NONE;
        for (at, newest) in self.newest.iter_mut().enumerate() {
            if *newest > top {
                let cursor = &mut self.cursors[at];
                let before = cursor.allowed;
                *newest = cursor.place(self.first[at], top);
                self.total -= before - cursor.allowed;
            }
            last = last.max(*newest);
        }
        last
    }
}

/// The search, one task after the other.
pub(super) struct Search<'a> {
    lane: &'a Rows,
    /// X.
    overrun: u64,
    /// L, or longer.
    busy: u64,
    key_max: u64,
    allowed: Allowed,
    /// Tasks by k - J, latest first: from there on down a task blocks.
    bends: Vec<(i64, usize)>,
    work: Work,
}

/// What blocks the job in question.
struct Blockers {
    /// How many of the bends lie after its deadline.
    passed: usize,
    /// The longest segment of their tasks, without that of the job.
    longest: u64,
}

impl<'a> Search<'a> {
    pub(super) fn new(lane: &'a Rows, busy: u64, work: Work) -> Self {
        let allowed = Allowed::new(&lane.rows);
        let mut bends: Vec<(i64, usize)> = allowed.first.iter().copied().zip(0..).collect();
        bends.sort_unstable_by_key(|&(bend, at)| (std::cmp::Reverse(bend), at));
        let key_max = lane.rows.iter().map(|row| row.key).max().unwrap_or(0);
        Self { lane, overrun: lane.overrun, busy, key_max, allowed, bends, work }
    }

    /// The longest response of the task at `position`.
    pub(super) fn worst(&mut self, position: usize, stop: Stop) -> Result<Worst, Cause> {
        let me = self.lane.rows[position];
        let key = signed(me.key);
        let first = key - signed(me.jitter);
        self.allowed.place(first);
        let mut blockers = Blockers { passed: 0, longest: 0 };
        self.block(position, first, &mut blockers);
        let base = self.base(position, &blockers);
        let start = self.least(position, base)?;
        let response = |start: u64, deadline: i64| {
            u64::try_from(signed(start) + signed(me.last) + key - deadline).unwrap_or(0)
        };
        let mut worst = Worst { response: response(start, first), arrival: first - key, start };

        let mut top = (signed(self.busy) + key).max(signed(self.key_max)) - 1;
        self.allowed.place(top);
        blockers = Blockers { passed: 0, longest: 0 };
        while top > first {
            if stop == Stop::AtDeadline && worst.response > me.deadline {
                break;
            }
            let deadline = self.allowed.step(top);
            let piece = self.block(position, deadline, &mut blockers);
            let base = self.base(position, &blockers);
            let all = self.allowed.total.saturating_add(blockers.longest + self.overrun) - me.last;
            let known = signed(worst.response) - signed(me.last) + deadline - key;
            let mut start = all;
            if signed(all) > known {
                self.work.spend(self.lane.rows.len())?;
                let known = u64::try_from(known).unwrap_or(0);
                start = self.before(position, base, known);
                if start > known {
                    start = self.least(position, base)?;
                    if response(start, deadline) > worst.response {
                        worst = Worst { response: response(start, deadline), arrival: deadline - key, start };
                    }
                }
            }
            let skip = signed(start) + signed(me.last) + key - signed(worst.response) - 1;
            top = (deadline - 1).min(skip.max(piece - 1));
            self.work.spend(self.lane.rows.len())?;
        }
        Ok(worst)
    }

    /// The largest overrun on top of the lane's, at most `most`, under which the task at `position` meets its deadline;
    /// it does without any. The lane's busy period has to be as long as with `most`.
    ///
    /// What is late under an overrun is one job, and the largest overrun under which that job is in time is the next
    /// to be tried: no larger one will do.
    pub(super) fn tolerance(&mut self, position: usize, most: u64) -> Result<u64, Cause> {
        let me = self.lane.rows[position];
        let (mut holds, mut fails) = (0, most.saturating_add(1));
        while fails - holds > 1 {
            let extra = fails - 1;
            self.overrun = self.lane.overrun + extra;
            let worst = self.worst(position, Stop::AtDeadline)?;
            if worst.response <= me.deadline {
                holds = extra;
                break;
            }
            let deadline = worst.arrival + signed(me.key);
            self.allowed.place(deadline);
            let mut blockers = Blockers { passed: 0, longest: 0 };
            self.block(position, deadline, &mut blockers);
            let latest = signed(me.deadline) + worst.arrival - signed(me.last);
            let (mut early, mut late) = (0, extra);
            while late - early > 1 {
                let middle = early + (late - early) / 2;
                self.overrun = self.lane.overrun + middle;
                let base = self.base(position, &blockers);
                if signed(self.least(position, base)?) <= latest { early = middle } else { late = middle }
            }
            fails = late;
        }
        self.overrun = self.lane.overrun;
        Ok(holds)
    }

    /// Adds the tasks that block a job with this deadline, and returns from which deadline on no more do.
    fn block(&self, position: usize, deadline: i64, blockers: &mut Blockers) -> i64 {
        while let Some(&(bend, at)) = self.bends.get(blockers.passed) {
            if bend <= deadline {
                return bend;
            }
            blockers.passed += 1;
            if at != position {
                blockers.longest = blockers.longest.max(self.lane.rows[at].blocks);
            }
        }
        i64::MIN + 1
    }

    /// Work before the job's last segment that no start changes: blocking, overrun, its own task's.
    fn base(&self, position: usize, blockers: &Blockers) -> u64 {
        let own = self.allowed.cursors[position].allowed.saturating_sub(self.lane.rows[position].last);
        own.saturating_add(blockers.longest + self.overrun)
    }

    /// Work that can come before the job's last segment if that starts at `start`.
    fn before(&self, position: usize, base: u64, start: u64) -> u64 {
        let cursors = &self.allowed.cursors;
        let (less, more) = (&cursors[..position], &cursors[position + 1..]);
        less.iter().chain(more).fold(base, |sum, cursor| sum.saturating_add(cursor.before(start)))
    }

    /// w: the latest start of the job's last segment.
    fn least(&mut self, position: usize, base: u64) -> Result<u64, Cause> {
        let mut start = base;
        loop {
            self.work.spend(self.lane.rows.len())?;
            let sum = self.before(position, base, start);
            if sum > HORIZON {
                return Err(Cause::Horizon);
            }
            if sum <= start {
                return Ok(start);
            }
            start = sum;
        }
    }

    /// What the longest response is made of.
    pub(super) fn terms(&self, position: usize, worst: &Worst) -> Vec<Term> {
        let me = &self.lane.rows[position];
        let deadline = worst.arrival + signed(me.key);
        let others =
            || self.lane.rows.iter().enumerate().filter(|(other, _)| *other != position).map(|(_, row)| row);
        let interference = others().filter_map(|row| {
            let since = u64::try_from(deadline + signed(row.jitter) - signed(row.key)).ok()?;
            let jobs = (since / row.period + 1).min(closed_jobs(row, worst.start));
            Some((row.id, jobs, jobs * row.cost))
        });
        let later = |row: &&Row| signed(row.key) - signed(row.jitter) > deadline;
        let blocker = others().filter(later).max_by_key(|row| row.blocks);
        let earlier = u64::try_from(worst.arrival + signed(me.jitter)).map_or(0, |since| since / me.period);
        Tally {
            jitter: (-worst.arrival).max(0).unsigned_abs(),
            blocking: blocker.map(|row| (row.id, row.blocks)),
            carry: earlier * me.cost,
            own: me.cost,
            overrun: self.lane.overrun,
            before: worst.arrival.max(0).unsigned_abs(),
        }
        .terms(interference)
    }
}
