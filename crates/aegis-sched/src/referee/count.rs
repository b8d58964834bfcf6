//! Arithmetic of the referee: checked, plain, and its own.

use crate::analysis::problem::{Blocking, LaneProblem, LaneTask};

use super::Objection;

/// Steps that the check of one claim may take.
const STEPS_MAX: u64 = 1 << 25;

/// Counts steps, so that no claim makes the referee run for long.
pub(super) struct Patience(u64);

impl Patience {
    pub(super) const fn new() -> Self {
        Self(0)
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<(), Objection> {
        self.0 = self.0.saturating_add(steps as u64 + 1);
        if self.0 > STEPS_MAX { Err(Objection::TooLong { steps: STEPS_MAX }) } else { Ok(()) }
    }
}

pub(super) fn add(a: u64, b: u64) -> Result<u64, Objection> {
    a.checked_add(b).ok_or(Objection::Range)
}

pub(super) fn mul(a: u64, b: u64) -> Result<u64, Objection> {
    a.checked_mul(b).ok_or(Objection::Range)
}

/// C: the sum of the segments.
pub(super) fn cost(task: &LaneTask) -> Result<u64, Objection> {
    task.segments.iter().try_fold(0, |sum, segment| add(sum, segment.get()))
}

/// F: the last segment.
pub(super) fn last(task: &LaneTask) -> u64 {
    task.segments.last().map_or(0, |segment| segment.get())
}

/// What the longest segment blocks others for, under the problem's convention.
pub(super) fn blocks(problem: &LaneProblem, task: &LaneTask) -> u64 {
    let longest = task.segments.iter().map(|segment| segment.get()).max().unwrap_or(0);
    match problem.blocking {
        Blocking::Attained => longest,
        Blocking::MinusOne => longest.saturating_sub(1),
    }
}

/// A task's numbers, its segments added up.
#[derive(Clone, Copy)]
pub(super) struct Weight {
    pub cost: u64,
    pub last: u64,
    pub blocks: u64,
    pub period: u64,
    pub jitter: u64,
    pub key: u64,
}

impl Weight {
    pub(super) fn of(problem: &LaneProblem, task: &LaneTask) -> Result<Self, Objection> {
        let (period, jitter) = (task.period.get(), task.jitter.get());
        let (cost, last, blocks) = (cost(task)?, last(task), blocks(problem, task));
        Ok(Self { cost, last, blocks, period, jitter, key: task.key })
    }

    /// Work released in any half-open window of `length` > 0: ceil((length + J) / T) jobs; `None` on overflow.
    pub(super) fn half_open(&self, length: u64) -> Option<u64> {
        let reach = length.checked_add(self.jitter)?;
        if reach <= self.period {
            Some(self.cost)
        } else {
            reach.div_ceil(self.period).checked_mul(self.cost)
        }
    }

    /// Work released in any closed window of `length`: floor((length + J) / T) + 1 jobs; `None` on overflow. Most
    /// windows are shorter than most periods, and a comparison is cheaper than a division.
    pub(super) fn closed(&self, length: u64) -> Option<u64> {
        let reach = length.checked_add(self.jitter)?;
        let more = if reach < self.period { 0 } else { reach / self.period };
        more.checked_add(1)?.checked_mul(self.cost)
    }
}

/// Shows that no busy period of the lane, with its overrun, is longer than `length`.
pub(super) fn check_busy(problem: &LaneProblem, length: u64) -> Result<(), Objection> {
    let mut work = problem.overrun.get();
    for task in &problem.tasks {
        let released = Weight::of(problem, task)?.half_open(length).ok_or(Objection::Range)?;
        work = add(work, released)?;
    }
    match problem.tasks.first() {
        Some(first) if length == 0 || work > length => {
            Err(Objection::Busy { task: first.id, claimed: aegis_types::Nanos::new(length) })
        }
        _ => Ok(()),
    }
}

/// The one length of a busy period that claims carry where the lane has one; shown to be one.
pub(super) fn lane_busy(problem: &LaneProblem, claimed: &[aegis_types::Nanos]) -> Result<u64, Objection> {
    match (problem.tasks.first(), claimed) {
        (None, _) => Ok(0),
        (Some(_), [busy]) => check_busy(problem, busy.get()).map(|()| busy.get()),
        (Some(first), _) => Err(Objection::Evidence { task: first.id }),
    }
}
