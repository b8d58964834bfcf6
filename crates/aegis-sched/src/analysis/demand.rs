//! Arithmetic that the solvers share: a lane as plain numbers, arrival counts, utilisation, and the budget of steps
//! that ends every analysis.
//!
//! Every input lies below [`HORIZON`], every product saturates, and whatever exceeds the horizon is a failure. So
//! sums of a few values never wrap, and an overflow is "not schedulable".

use std::cmp::Ordering;

use aegis_types::{Nanos, TaskId};

use super::claim::{Cause, Failure};
use super::front::{Front, Releases, Window};
use super::problem::{Blocking, LaneProblem, LaneTask};
use crate::policy::PolicyClass;

/// Bounds and inputs beyond it are refused: 2^60 ns are 36 years, and sums of eight such values fit.
pub(super) const HORIZON: u64 = 1 << 60;

/// Steps after which a decision gives up: some hundredths of a second.
pub const STEPS_MAX: u64 = 1 << 23;

/// Steps after which the response times of an absolute-deadline lane are given up: some tenths of a second.
pub const RESPONSE_STEPS_MAX: u64 = 1 << 26;

/// Fewest steps of a trial.
const TRIAL_STEPS_MIN: u64 = 1 << 18;

/// Steps of one of the many trials of a search, on a lane of so many tasks: enough to look at every task some
/// thousands of times, and few enough for a search to end soon whatever it is given.
pub(crate) const fn trial_steps(tasks: usize) -> u64 {
    let steps = (tasks as u64).saturating_mul(1 << 13);
    if steps < TRIAL_STEPS_MIN {
        TRIAL_STEPS_MIN
    } else if steps > STEPS_MAX {
        STEPS_MAX
    } else {
        steps
    }
}

/// Why a fixed point was given up: a [`Cause`] that costs nothing to hand on.
#[derive(Clone, Copy, Debug)]
pub(super) enum Halt {
    /// It lies beyond the horizon, or beyond what the caller asked for.
    Horizon,
    /// All steps are spent.
    Undecided { steps: u64 },
}

impl From<Halt> for Cause {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Horizon => Self::Horizon,
            Halt::Undecided { steps } => Self::Undecided { steps },
        }
    }
}

/// Counts steps, so that no input makes an analysis run for long.
pub(super) struct Work {
    left: u64,
    all: u64,
}

impl Work {
    pub(super) const fn of(steps: u64) -> Self {
        Self { left: steps, all: steps }
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Halt> {
        match self.left.checked_sub(steps as u64 + 1) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(Halt::Undecided { steps: self.all }),
        }
    }
}

/// A task as plain numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub id: TaskId,
    /// n: segments of a job.
    pub count: u32,
    /// C: all segments.
    pub cost: u64,
    /// F: the last segment.
    pub last: u64,
    /// What it holds others up for at once: what its longest segment blocks for or, in turns, the longest turn.
    pub blocks: u64,
    pub period: u64,
    pub deadline: u64,
    pub jitter: u64,
    pub key: u64,
}

impl Row {
    /// Flattens a task; `None` where a number is zero that must not be or lies beyond the horizon.
    #[inline]
    pub(super) fn of(task: &LaneTask, problem: &LaneProblem) -> Option<Self> {
        let segments = task.segments.iter().copied();
        let Occupation { count, cost, last, blocks } = Occupation::of(segments, task.key, problem)?;
        let (period, deadline, jitter) = (task.period.get(), task.deadline.get(), task.jitter.get());
        if period == 0 || period.max(deadline).max(jitter) > HORIZON {
            return None;
        }
        Some(Self { id: task.id, count, cost, last, blocks, period, deadline, jitter, key: task.key })
    }

    /// Takes over other segments; whether these are legal, and otherwise the task is as before.
    pub(super) fn set_segments(
        &mut self,
        segments: impl Iterator<Item = Nanos> + Clone,
        problem: &LaneProblem,
    ) -> bool {
        let Some(occupation) = Occupation::of(segments, self.key, problem) else { return false };
        let Occupation { count, cost, last, blocks } = occupation;
        (self.count, self.cost, self.last, self.blocks) = (count, cost, last, blocks);
        true
    }
}

/// What a [`Row`] keeps of the segments of a job.
struct Occupation {
    count: u32,
    cost: u64,
    last: u64,
    blocks: u64,
}

impl Occupation {
    /// `None` where the sum lies beyond the horizon, the last segment is empty or, in turns, the weight is zero.
    #[inline]
    fn of(segments: impl Iterator<Item = Nanos> + Clone, weight: u64, problem: &LaneProblem) -> Option<Self> {
        let (mut cost, mut last, mut longest, mut count) = (0u64, 0, 0, 0u32);
        for segment in segments.clone() {
            last = segment.get();
            longest = last.max(longest);
            cost = cost.saturating_add(last);
            count = count.saturating_add(1);
        }
        if last == 0 || cost > HORIZON {
            return None;
        }
        let less = u64::from(problem.blocking == Blocking::MinusOne);
        let mut blocks = longest - less;
        if problem.class == PolicyClass::Fair {
            let jobs = weight.checked_div(count.into()).filter(|_| weight > 0)?;
            blocks = jobs
                .saturating_mul(cost)
                .saturating_add(Self::part_of_turn(segments, weight % u64::from(count)));
        }
        Some(Self { count, cost, last, blocks })
    }

    /// What a turn holds beyond whole jobs: the largest sum of so many consecutive segments, jobs back to back. A window
    /// moves over the segments of one job.
    fn part_of_turn(segments: impl Iterator<Item = Nanos> + Clone, length: u64) -> u64 {
        let length = usize::try_from(length).unwrap_or(0);
        let lengths = || segments.clone().map(Nanos::get).cycle();
        let mut window: u64 = lengths().take(length).sum();
        let mut longest = window;
        for (enters, leaves) in lengths().skip(length).zip(segments.clone()) {
            window = window + enters - leaves.get();
            longest = longest.max(window);
        }
        longest
    }
}

/// A lane as plain numbers.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub rows: Vec<Row>,
    pub overrun: u64,
}

impl Rows {
    /// Flattens a problem.
    pub(super) fn of(problem: &LaneProblem) -> Result<Self, Failure> {
        let mut rows = Vec::with_capacity(problem.tasks.len());
        for (position, task) in problem.tasks.iter().enumerate() {
            match Row::of(task, problem) {
                Some(row) => rows.push(row),
                None => return Err(Failure { position: Some(position), cause: Cause::Horizon }),
            }
        }
        if problem.overrun.get() > HORIZON {
            return Err(Failure { position: None, cause: Cause::Horizon });
        }
        Ok(Self { rows, overrun: problem.overrun.get() })
    }

    /// L: the least L > 0 with L = overrun + sum of eta_j(L) C_j.
    pub(super) fn busy_period(&self, work: &mut Work) -> Result<u64, Halt> {
        let mut front = Front::with_capacity(self.rows.len());
        self.rows.iter().for_each(|row| front.push(&Releases::new(row)));
        front.least(self.overrun, 1, Window::HalfOpen, work)
    }
}

/// Jobs of a task that can be released in the closed window [0, length].
/// Most windows are shorter than most periods, and a comparison is cheaper than a division.
pub(super) const fn closed_jobs(row: &Row, length: u64) -> u64 {
    let reach = length + row.jitter;
    if reach < row.period { 1 } else { reach / row.period + 1 }
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
        let floor = if row.cost.leading_zeros() >= bits {
            u128::from((row.cost << bits) / row.period)
        } else {
            (u128::from(row.cost) << bits) / u128::from(row.period)
        };
        low += floor;
        // Rounded up by one whether or not there is a remainder: whoever comes this close is compared more finely.
        high += floor + 1;
        if low > one {
            return Some(Ordering::Greater);
        }
    }
    (high < one).then_some(Ordering::Less)
}

/// One, in the unit of [`share_up`].
pub(super) const WHOLE: u128 = 1 << 32;

/// C/T in fractions of 2^-32, rounded up: sums of these below [`WHOLE`] leave the lane some of its time.
pub(super) fn share_up(row: &Row) -> u128 {
    let short = row.cost < 1 << 32;
    let floor = if short {
        u128::from((row.cost << 32) / row.period)
    } else {
        (u128::from(row.cost) << 32) / u128::from(row.period)
    };
    floor + 1
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
