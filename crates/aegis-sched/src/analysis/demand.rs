//! Arithmetic that the solvers share: arrival counts, fixed points, utilisation, and the budget that ends them.
//!
//! Every input lies below [`HORIZON`], every product saturates, and whatever exceeds the horizon is a failure. So
//! sums of a few values never wrap, and an overflow is "not schedulable".

use std::cmp::Ordering;

use aegis_types::{Nanos, TaskId};

use super::claim::{Cause, Failure};
use super::problem::{Blocking, LaneProblem};

/// Bounds and inputs beyond it are refused: 2^60 ns are 36 years, and sums of eight such values fit.
pub(super) const HORIZON: u64 = 1 << 60;

/// Steps after which a decision gives up: some hundredths of a second.
pub const STEPS_MAX: u64 = 1 << 23;

/// Steps after which the response times of an absolute-deadline lane are given up: some tenths of a second.
pub const RESPONSE_STEPS_MAX: u64 = 1 << 26;

/// Counts steps, so that no input makes an analysis run for long.
pub(super) struct Work {
    left: u64,
    all: u64,
}

impl Work {
    pub(super) const fn of(steps: u64) -> Self {
        Self { left: steps, all: steps }
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Cause> {
        match self.left.checked_sub(steps as u64 + 1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Cause::Undecided { steps: self.all }),
        }
    }
}

/// A task as plain numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub id: TaskId,
    /// C: all segments.
    pub cost: u64,
    /// F: the last segment.
    pub last: u64,
    /// What the longest segment blocks others for.
    pub blocks: u64,
    pub period: u64,
    pub deadline: u64,
    pub jitter: u64,
    pub key: u64,
}

/// A lane as plain numbers.
#[derive(Debug)]
pub(super) struct Rows {
    pub rows: Vec<Row>,
    pub overrun: u64,
}

impl Rows {
    /// Flattens a problem.
    pub(super) fn of(problem: &LaneProblem) -> Result<Self, Failure> {
        let less = match problem.blocking {
            Blocking::Attained => 0,
            Blocking::MinusOne => 1,
        };
        let mut rows = Vec::with_capacity(problem.tasks.len());
        for (position, task) in problem.tasks.iter().enumerate() {
            let cost = task.segments.iter().fold(0u64, |sum, segment| sum.saturating_add(segment.get()));
            let last = task.segments.last().map_or(0, |segment| segment.get());
            let longest = task.segments.iter().map(|segment| segment.get()).max().unwrap_or(0);
            let (period, deadline, jitter) = (task.period.get(), task.deadline.get(), task.jitter.get());
            let fits = [cost, period, deadline, jitter].iter().all(|&value| value <= HORIZON);
            if !fits || period == 0 || last == 0 {
                return Err(Failure { position: Some(position), cause: Cause::Horizon });
            }
            let blocks = longest.saturating_sub(less);
            rows.push(Row { id: task.id, cost, last, blocks, period, deadline, jitter, key: task.key });
        }
        if problem.overrun.get() > HORIZON {
            return Err(Failure { position: None, cause: Cause::Horizon });
        }
        Ok(Self { rows, overrun: problem.overrun.get() })
    }

    /// L: the least L > 0 with L = overrun + sum of eta_j(L) C_j.
    pub(super) fn busy_period(&self, work: &mut Work) -> Result<u64, Cause> {
        let mut streams: Vec<Releases> = self.rows.iter().map(Releases::new).collect();
        least(self.overrun, 1, Window::HalfOpen, &mut streams, work)
    }
}

/// How often a task arrives up to an instant that only moves forward: one division per crossing of a release, none
/// otherwise.
#[derive(Clone, Copy, Debug)]
pub(super) struct Releases {
    /// First instant at which one more job is released.
    next: u64,
    /// Jobs released so far.
    pub jobs: u64,
    /// Their work.
    pub demand: u64,
    cost: u64,
    period: u64,
}

impl Releases {
    /// Releases in the closed window [0, 0], as dense as jitter allows.
    pub(super) fn new(row: &Row) -> Self {
        let jobs = row.jitter / row.period + 1;
        let next = jobs * row.period - row.jitter;
        Self { next, jobs, demand: jobs.saturating_mul(row.cost), cost: row.cost, period: row.period }
    }

    /// Moves to the closed window [0, to] and returns the work that is new in it; `to` lies below the horizon.
    pub(super) fn advance(&mut self, to: u64) -> u64 {
        if to < self.next {
            return 0;
        }
        let more = (to - self.next) / self.period + 1;
        let work = more.saturating_mul(self.cost);
        self.next += more * self.period;
        self.jobs += more;
        self.demand = self.demand.saturating_add(work);
        work
    }
}

/// Whether a release at the very end of a window counts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Window {
    /// It does: the window of a start time.
    Closed,
    /// It does not: the window of a busy period.
    HalfOpen,
}

/// The least w >= `from` with w = base + demand released in the window of length w. `from` lies at or below the
/// least fixed point, and the streams at or before `from`.
pub(super) fn least(
    base: u64,
    from: u64,
    window: Window,
    streams: &mut [Releases],
    work: &mut Work,
) -> Result<u64, Cause> {
    let open = u64::from(window == Window::HalfOpen);
    let mut sum = streams.iter().fold(base, |sum, stream| sum.saturating_add(stream.demand));
    let mut w = from.max(sum);
    loop {
        work.spend(streams.len())?;
        if w > HORIZON {
            return Err(Cause::Horizon);
        }
        for stream in &mut *streams {
            sum = sum.saturating_add(stream.advance(w - open));
        }
        if sum <= w {
            return Ok(w);
        }
        w = sum;
    }
}

/// Jobs of a task that can be released in the closed window [0, length].
pub(super) const fn closed_jobs(row: &Row, length: u64) -> u64 {
    (length + row.jitter) / row.period + 1
}

/// Fails if the tasks ask for more than all of the lane's time, or for exactly all of it while there is jitter or
/// overrun: then more than L arrives in every window of length L, as ceil((L + J)/T) C >= (L + J) C/T.
pub(super) fn check_utilisation(lane: &Rows) -> Result<(), Failure> {
    let rows = &lane.rows;
    let cause = match compare_with_one(rows) {
        Ordering::Less => return Ok(()),
        Ordering::Equal if lane.overrun == 0 && rows.iter().all(|row| row.jitter == 0) => return Ok(()),
        Ordering::Equal => Cause::Full,
        Ordering::Greater => {
            let ppm = rows.iter().fold(0u128, |sum, row| {
                sum.saturating_add((u128::from(row.cost) * 1_000_000).div_ceil(u128::from(row.period)))
            });
            Cause::Utilisation { ppm: u64::try_from(ppm).unwrap_or(u64::MAX) }
        }
    };
    Err(Failure { position: None, cause })
}

/// The sum of C/T against one: by fractions of 2^-32, whose divisions are cheap, then by ones of 2^-60, and exactly
/// where these do not tell either.
fn compare_with_one(rows: &[Row]) -> Ordering {
    compare_rounded(rows, 32)
        .or_else(|| compare_rounded(rows, 60))
        .or_else(|| compare_exactly(rows))
        .unwrap_or(Ordering::Greater)
}

/// The comparison by fractions of 2^-`bits` (at most 60), rounded both ways; `None` where these disagree.
fn compare_rounded(rows: &[Row], bits: u32) -> Option<Ordering> {
    let one = 1u128 << bits;
    let (mut low, mut high) = (0u128, 0u128);
    for row in rows {
        let (scaled, period) = (u128::from(row.cost) << bits, u128::from(row.period));
        let floor = scaled / period;
        low += floor;
        high += floor + u128::from(floor * period != scaled);
        if low > one {
            return Some(Ordering::Greater);
        }
    }
    (high < one).then_some(Ordering::Less)
}

/// The exact comparison over the least common multiple of the periods; `None` where that does not fit.
fn compare_exactly(rows: &[Row]) -> Option<Ordering> {
    let (mut sum, mut unit) = (0u128, 1u128);
    for row in rows {
        let period = u128::from(row.period);
        let factor = period / gcd(unit, period);
        let wider = unit.checked_mul(factor)?;
        sum = sum.checked_mul(factor)?.checked_add(u128::from(row.cost).checked_mul(wider / period)?)?;
        unit = wider;
    }
    Some(sum.cmp(&unit))
}

const fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A span out of plain nanoseconds.
pub(super) const fn span(ns: u64) -> Nanos {
    Nanos::new(ns)
}
