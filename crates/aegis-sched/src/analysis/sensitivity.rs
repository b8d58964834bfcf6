//! How far each number of a lane can move before a deadline is missed, or has to move until none is.
//!
//! Every test of this crate is monotone in budgets, jitter, overrun, periods and deadlines with priorities held fixed
//! (section 1 of `docs/analyses.md`), so the border of each number is found by bisection and is exact for the test: the value that is
//! stated fits, and the next nanosecond is not shown to. Bini, Di Natale, Buttazzo, Real-Time Systems 39 (2008); Punnekkat,
//! Davis, Burns (1997) for the idea.

use aegis_types::{Nanos, TaskId};

use super::bounds;
use super::demand::{HORIZON, Row, Rows};
use super::np_edf::tolerances as edf_delays;
use super::problem::{LaneProblem, LaneTask};
use super::verdict::{Judge, Obstacle};
use crate::policy::PolicyClass;

/// One, in millionths.
const ONE_PPM: u64 = 1_000_000;

/// Steps that one trial may take: a number at whose border busy periods grow without end is given up a hair before it.
const TRIAL_STEPS: u64 = 1 << 13;

/// A search asks for the middle of what is left after so many values that obstacles proposed.
const CUTS: u32 = 4;

/// Longest period that is proposed: about nine years.
const PERIOD_MAX: u64 = 1 << 58;

/// The borders of one task's numbers, each with everything else as it is; `None` where no value fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskMargin {
    /// The task.
    pub task: TaskId,
    /// Largest C' of a job, all of its segments scaled alike and rounded up.
    pub cost: Option<Nanos>,
    /// Smallest T.
    pub period: Option<Nanos>,
    /// Smallest D. Where D orders the jobs of the lane, that order moves along.
    pub deadline: Option<Nanos>,
    /// Largest J'.
    pub jitter: Option<Nanos>,
    /// Longest time for which the lane may be held up, once in a busy period and on top of what is charged, with this
    /// task still in time. For static priorities the tolerable blocking is the charged blocking plus this.
    pub delay: Option<Nanos>,
}

/// The borders of a lane's numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sensitivity {
    /// Largest factor for all budgets of the lane at once, in millionths, rounded down; `None` where none fits. Above
    /// 1,000,000 there is room.
    pub scale_ppm: Option<u64>,
    /// The tasks, in the order of the problem.
    pub tasks: Vec<TaskMargin>,
}

/// The borders of every number of the lane. A number beyond the analysis's horizon leaves nothing that fits.
pub fn sensitivity(problem: &LaneProblem) -> Sensitivity {
    let Ok(rows) = Rows::of(problem) else {
        let none = |task: &LaneTask| TaskMargin {
            task: task.id,
            cost: None,
            period: None,
            deadline: None,
            jitter: None,
            delay: None,
        };
        return Sensitivity { scale_ppm: None, tasks: problem.tasks.iter().map(none).collect() };
    };
    let responses = bounds(problem).ok().map(|bounds| bounds.into_iter().map(Nanos::get).collect());
    let mut judge = Judge::hasty(problem.class, TRIAL_STEPS);
    let fits = judge.fits(&rows);
    let mut trial = Trial { problem, rows, judge, fits, responses };
    let scale_ppm = trial.scale();
    let delays = trial.delays();
    let tasks = delays.into_iter().enumerate().map(|(at, delay)| trial.margin(at, delay)).collect();
    Sensitivity { scale_ppm, tasks }
}

/// A lane whose numbers are moved one at a time and put back.
struct Trial<'a> {
    problem: &'a LaneProblem,
    rows: Rows,
    judge: Judge,
    /// Whether the lane fits as it is.
    fits: bool,
    /// R of every task as the lane is; `None` where one has none.
    responses: Option<Vec<u64>>,
}

impl Trial<'_> {
    fn scale(&mut self) -> Option<u64> {
        let natural = self.rows.rows.clone();
        // Above this factor a job alone misses its deadline.
        let most =
            natural.iter().map(|row| (row.deadline.saturating_add(1)).saturating_mul(ONE_PPM) / row.cost);
        let most = most.min().unwrap_or(ONE_PPM);
        let found = largest(1, most, |ppm| {
            for (row, task) in self.rows.rows.iter_mut().zip(&self.problem.tasks) {
                if !scale(row, task, self.problem, ppm, ONE_PPM) {
                    return false;
                }
            }
            self.judge.fits(&self.rows)
        });
        self.rows.rows = natural;
        found
    }

    /// D - R where the task at `at` is known to be in time.
    fn slack(&self, at: usize) -> Option<u64> {
        self.rows.rows[at].deadline.checked_sub(*self.responses.as_ref()?.get(at)?)
    }

    /// What a lane that fits leaves to the task at `at`: a bound grows by no less than the task's own C, so that cannot
    /// grow by more than the slack.
    fn room(&self, at: usize) -> Option<u64> {
        self.slack(at).filter(|_| self.fits)
    }

    fn margin(&mut self, at: usize, delay: Option<u64>) -> TaskMargin {
        let natural = self.rows.rows[at];
        let (task, problem) = (&self.problem.tasks[at], self.problem);
        let room = self.room(at);
        let alone = natural.deadline.saturating_sub(natural.jitter);
        let most = room.map_or(alone, |room| natural.cost + room);
        let cost = self
            .hardest(at, [1, natural.cost, most], |row, cost| scale(row, task, problem, cost, natural.cost));
        // The harder, the shorter.
        let shortest = PERIOD_MAX - natural.cost.min(natural.period);
        let period =
            self.hardest(at, [0, PERIOD_MAX.saturating_sub(natural.period), shortest], |row, less| {
                row.period = PERIOD_MAX - less;
                true
            });
        // So it does with J, unless an earlier arrival lets the job go before others.
        let ordered = problem.class == PolicyClass::AbsoluteDeadline;
        let most = natural.deadline.saturating_sub(natural.cost);
        let most = room.filter(|_| !ordered).map_or(most, |room| natural.jitter + room);
        let jitter = self.hardest(at, [0, natural.jitter, most], |row, jitter| {
            row.jitter = jitter;
            true
        });
        let period = period.map(|less| PERIOD_MAX - less);
        let deadline = self.deadline(at);
        let [cost, period, deadline, jitter, delay] =
            [cost, period, deadline, jitter, delay].map(|found| found.map(Nanos::new));
        TaskMargin { task: task.id, cost, period, deadline, jitter, delay }
    }

    fn deadline(&mut self, at: usize) -> Option<u64> {
        let natural = self.rows.rows[at];
        if self.problem.class == PolicyClass::AbsoluteDeadline && natural.key == natural.deadline {
            // A job that waits for nothing takes J + C.
            let shortest = natural.jitter.saturating_add(natural.cost).min(natural.deadline);
            let less = self.hardest(at, [0, HORIZON - natural.deadline, HORIZON - shortest], |row, less| {
                (row.deadline, row.key) = (HORIZON - less, HORIZON - less);
                true
            });
            return less.map(|less| HORIZON - less);
        }
        // Nothing but its own test reads it, so all others have to be in time, and it has to cover the response.
        let by_key = self.problem.class == PolicyClass::AbsoluteDeadline;
        if let Some(responses) = self.responses.as_ref().filter(|_| !by_key) {
            let mut others =
                self.rows.rows.iter().zip(responses).enumerate().filter(|(other, _)| *other != at);
            let response = responses[at].max(1);
            return others.all(|(_, (row, response))| *response <= row.deadline).then_some(response);
        }
        self.rows.rows[at].deadline = HORIZON;
        let others_fit = self.judge.fits(&self.rows);
        let found = others_fit.then(|| {
            largest(0, HORIZON - 1, |less| {
                self.rows.rows[at].deadline = HORIZON - less;
                self.judge.task_fits(&self.rows, at)
            })
        });
        self.rows.rows[at] = natural;
        found?.map(|less| HORIZON - less)
    }

    /// By task, the longest time for which the lane may be held up.
    fn delays(&mut self) -> Vec<Option<u64>> {
        let count = self.rows.rows.len();
        if self.problem.class == PolicyClass::AbsoluteDeadline {
            let most: Vec<Option<u64>> = (0..count).map(|at| self.slack(at)).collect();
            if let Some(found) = self.responses.as_ref().and_then(|_| edf_delays(&self.rows, &most)) {
                return found;
            }
        }
        let overrun = self.rows.overrun;
        let mut delay = |at: usize| {
            let row = &self.rows.rows[at];
            let alone = row.deadline.saturating_sub(row.jitter).saturating_sub(row.cost);
            let known = self.responses.is_some();
            let most = if known { self.slack(at)? } else { alone };
            self.judge.watch(&self.rows, at);
            let found = largest(0, most, |delay| {
                self.rows.overrun = overrun.saturating_add(delay).min(HORIZON);
                self.judge.task_fits(&self.rows, at)
            });
            self.judge.release();
            self.rows.overrun = overrun;
            found
        };
        (0..count).map(&mut delay).collect()
    }

    /// The largest value at which the lane fits, from `low` to `high`, where it fits with smaller values whenever it
    /// does with larger ones; `set` puts one into the row at `at`, and fails beyond the horizon. At `now` the lane is
    /// as it is.
    ///
    /// The hardest value comes first. Where an obstacle is named, the search goes on from the largest value that
    /// passes it, so that few values are asked of the whole lane.
    fn hardest(
        &mut self,
        at: usize,
        [low, now, high]: [u64; 3],
        set: impl Fn(&mut Row, u64) -> bool,
    ) -> Option<u64> {
        let natural = self.rows.rows[at];
        self.judge.watch(&self.rows, at);
        let found = self.search(at, [low, now, high], &set);
        self.judge.release();
        self.rows.rows[at] = natural;
        found
    }

    fn search(
        &mut self,
        at: usize,
        [low, now, high]: [u64; 3],
        set: &impl Fn(&mut Row, u64) -> bool,
    ) -> Option<u64> {
        self.judge.forget();
        let known = self.fits && (low..=high).contains(&now);
        let fitted = self.fits;
        let from = if known { now } else { low };
        let judged = |trial: &mut Self, value: u64| match set(&mut trial.rows.rows[at], value) {
            true => trial.judge.obstacle(&trial.rows, Some(at), fitted),
            false => Some(Obstacle::Lane),
        };
        if high < from || !known && judged(self, from).is_some() {
            return None;
        }
        self.judge.forget();
        let (mut holds, mut fails, mut value, mut cuts) = (from, high.saturating_add(1), high, 0);
        while fails - holds > 1 {
            let Some(obstacle) = judged(self, value) else {
                holds = value;
                value = holds + (fails - holds) / 2;
                continue;
            };
            fails = value;
            cuts += 1;
            // Where windows are too many, what fits need not be shown to by utilisation alone.
            let named = obstacle != Obstacle::Lane
                && (obstacle != Obstacle::Endless
                    || set(&mut self.rows.rows[at], holds) && self.judge.passes(&self.rows, at, obstacle));
            if named && cuts % CUTS != 0 {
                let passed = bisect(holds, fails, |value| {
                    set(&mut self.rows.rows[at], value) && self.judge.passes(&self.rows, at, obstacle)
                });
                fails = passed + 1;
            }
            let near = fails < value && fails - holds > 1;
            value = if near { fails - 1 } else { holds + (fails - holds) / 2 };
        }
        Some(holds)
    }
}

/// Gives `row` the segments of `task` times `factor / unit`, rounded up; whether they stay below the horizon.
fn scale(row: &mut Row, task: &LaneTask, problem: &LaneProblem, factor: u64, unit: u64) -> bool {
    let scaled = |segment: &Nanos| {
        let product = u128::from(segment.get()) * u128::from(factor);
        u64::try_from(product.div_ceil(u128::from(unit))).map_or(Nanos::MAX, Nanos::new)
    };
    row.set_segments(task.segments.iter().map(scaled), problem)
}

/// The largest value from `low` to `high` that `fits`, where smaller values fit whenever larger ones do.
fn largest(low: u64, high: u64, mut fits: impl FnMut(u64) -> bool) -> Option<u64> {
    if high < low || !fits(low) {
        return None;
    }
    Some(bisect(low, high.saturating_add(1), fits))
}

/// The largest value below `fails` that `fits`, where `holds` does.
fn bisect(mut holds: u64, mut fails: u64, mut fits: impl FnMut(u64) -> bool) -> u64 {
    while fails - holds > 1 {
        let middle = holds + (fails - holds) / 2;
        if fits(middle) { holds = middle } else { fails = middle }
    }
    holds
}
