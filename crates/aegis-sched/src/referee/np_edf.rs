//! Checks bounds under absolute deadlines, ordered by the keys k.
//!
//! 1. L is long enough: `X + sum of ceil((L + J_j)/T_j) C_j <= L`.
//! 2. Bounds that are at least their keys are shown by feasibility, once for all of them: every window t from the
//!    least `k_j - J_j` up to `max(L, k_max)` has `h(t) + b(t) + X <= t`.
//! 3. Any other bound R is shown for each arrival a from `-J` up to `max(L, k_max - k_i)`: some start
//!    `w <= R - F + a` has all the work that can come before it done.
//!
//! b(t) is the longest segment of a task with `k_j - J_j > t`. A task with `k_j > t >= k_j - J_j` may block too, but
//! then none of its jobs is in h(t), which counts at least one: that window is lighter.
//!
//! Both walk from the last to the first. Where the work of a window is v, shorter windows with the same blocking hold
//! no more, so everything down to v is shown at once.

use aegis_types::Nanos;

use super::Objection;
use super::count::{Patience, blocks, cost, lane_busy, last};
use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::{LaneProblem, LaneTask};

pub(super) fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    let busy = i128::from(lane_busy(problem, &claim.busy)?);
    let mut patience = Patience::new();
    let by_key = |(task, claimed): (&LaneTask, &TaskClaim)| claimed.bound.get() >= task.key;
    let any = problem.tasks.iter().zip(&claim.tasks).any(by_key);
    let infeasible = if any { check_feasible(problem, busy, &mut patience).err() } else { None };
    for (position, (task, claimed)) in problem.tasks.iter().zip(&claim.tasks).enumerate() {
        match &infeasible {
            None if by_key((task, claimed)) => {}
            Some(objection @ (Objection::Range | Objection::TooLong { .. })) => return Err(objection.clone()),
            // Where bounds are the keys themselves, the overfull window says more than the first late job.
            Some(objection) if claimed.bound.get() == task.key => {
                let shown = Arrivals::new(problem, position).check(claimed, busy, &mut patience);
                shown.map_err(|_| objection.clone())?;
            }
            _ => Arrivals::new(problem, position).check(claimed, busy, &mut patience)?,
        }
    }
    Ok(())
}

/// Work of `task` with both arrival and deadline inside a window that is `room` longer than its key less its jitter.
fn work(task: &LaneTask, room: i128) -> Result<i128, Objection> {
    if room < 0 {
        return Ok(0);
    }
    let room = u64::try_from(room).map_err(|_| Objection::Range)?;
    let jobs = i128::from(room / task.period.get()) + 1;
    jobs.checked_mul(i128::from(cost(task)?)).ok_or(Objection::Range)
}

/// From windows of this length on a task has a job in them, and blocks none.
fn bend(task: &LaneTask) -> i128 {
    i128::from(task.key) - i128::from(task.jitter.get())
}

/// Longest segment of a task that can block `window`, without the task `except`.
fn blocking(problem: &LaneProblem, window: i128, except: Option<usize>) -> i128 {
    let others = problem.tasks.iter().enumerate().filter(|(position, _)| Some(*position) != except);
    let longest = others.filter(|(_, task)| bend(task) > window).map(|(_, task)| blocks(problem, task));
    i128::from(longest.max().unwrap_or(0))
}

/// The shortest window that is blocked like `window`.
fn piece(problem: &LaneProblem, window: i128) -> i128 {
    problem.tasks.iter().map(bend).filter(|&bend| bend <= window).max().unwrap_or(i128::from(i64::MIN))
}

fn check_feasible(problem: &LaneProblem, busy: i128, patience: &mut Patience) -> Result<(), Objection> {
    let keys = problem.tasks.iter().map(|task| i128::from(task.key));
    let first = problem.tasks.iter().map(bend).min();
    let (Some(first), Some(key_max)) = (first, keys.max()) else { return Ok(()) };
    let mut window = busy.max(key_max) - 1;
    while window >= first {
        patience.spend(problem.tasks.len())?;
        let mut demand = blocking(problem, window, None) + i128::from(problem.overrun.get());
        for task in &problem.tasks {
            demand += work(task, window + i128::from(task.jitter.get()) - i128::from(task.key))?;
        }
        if demand > window {
            let window = Nanos::new(u64::try_from(window).unwrap_or(0));
            return Err(Objection::Demand { window });
        }
        window = demand.max(piece(problem, window)) - 1;
    }
    Ok(())
}

/// The jobs of one task in a window that starts at 0.
struct Arrivals<'a> {
    problem: &'a LaneProblem,
    position: usize,
    task: &'a LaneTask,
    last: i128,
    jitter: i128,
    key: i128,
}

impl<'a> Arrivals<'a> {
    fn new(problem: &'a LaneProblem, position: usize) -> Self {
        let task = &problem.tasks[position];
        let last = i128::from(last(task));
        let (jitter, key) = (i128::from(task.jitter.get()), i128::from(task.key));
        Self { problem, position, task, last, jitter, key }
    }

    fn check(&self, claimed: &TaskClaim, busy: i128, patience: &mut Patience) -> Result<(), Objection> {
        let bound = i128::from(claimed.bound.get());
        let key_max = self.problem.tasks.iter().map(|task| i128::from(task.key)).max().unwrap_or(0);
        let mut arrival = busy.max(key_max - self.key) - 1;
        while arrival >= -self.jitter {
            let latest = bound - self.last + arrival;
            let shown = self.start(arrival, latest, patience)?.ok_or_else(|| Objection::Bound {
                task: self.task.id,
                claimed: claimed.bound,
                arrival: i64::try_from(arrival).unwrap_or(i64::MAX),
            })?;
            let bend = piece(self.problem, arrival + self.key) - self.key;
            arrival = (shown - bound + self.last).max(bend) - 1;
        }
        Ok(())
    }

    /// A time, at most `latest`, by which all that can come before the last segment is done; `None` if there is none.
    /// The work at such a time is such a time as well, and an earlier one.
    fn start(&self, arrival: i128, latest: i128, patience: &mut Patience) -> Result<Option<i128>, Objection> {
        if latest < 0 {
            return Ok(None);
        }
        patience.spend(self.problem.tasks.len())?;
        let at_latest = self.before(arrival, latest)?;
        if at_latest <= latest {
            return Ok(Some(at_latest));
        }
        let mut start = 0;
        while start <= latest {
            patience.spend(self.problem.tasks.len())?;
            let before = self.before(arrival, start)?;
            if before <= start {
                return Ok(Some(start));
            }
            start = before;
        }
        Ok(None)
    }

    /// Work that can come before the last segment of the job arriving at `arrival`, released up to `start`.
    fn before(&self, arrival: i128, start: i128) -> Result<i128, Objection> {
        let deadline = arrival + self.key;
        let own = work(self.task, arrival + self.jitter)? - self.last;
        let mut sum = own + blocking(self.problem, deadline, Some(self.position));
        sum += i128::from(self.problem.overrun.get());
        for (position, other) in self.problem.tasks.iter().enumerate() {
            if position != self.position {
                let jitter = i128::from(other.jitter.get());
                sum += work(other, (deadline + jitter - i128::from(other.key)).min(start + jitter))?;
            }
        }
        Ok(sum)
    }
}
