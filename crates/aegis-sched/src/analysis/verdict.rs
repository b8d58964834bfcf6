//! Verdicts without evidence: whether a lane fits, for searches that ask for many lanes that differ in one number.

use super::demand::{
    RESPONSE_STEPS_MAX, Row, Rows, STEPS_MAX, WHOLE, check_utilisation, share_up, trial_steps,
};
use super::np_edf::{Fit, Seen};
use super::np_fp::Ranks;
use super::problem::LaneProblem;
use super::{fair, fifo, np_edf, np_fp, policy_free};
use crate::policy::PolicyClass;

/// Whether [`decide`](super::decide) finds every deadline of the lane met; neither evidence nor reasons.
pub fn fits(problem: &LaneProblem) -> bool {
    Rows::of(problem).is_ok_and(|lane| Judge::new(problem.class).fits(&lane))
}

/// [`fits`] for one of the many lanes of a search, which gives up sooner.
pub(crate) fn fits_soon(problem: &LaneProblem) -> bool {
    let steps = trial_steps(problem.tasks.len());
    Rows::of(problem).is_ok_and(|lane| Judge::hasty(problem.class, steps).fits(&lane))
}

/// What keeps a lane from fitting, for as long as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// Nothing that can be named.
    Lane,
    /// The lane is asked for more than all of its time.
    Utilisation,
    /// Utilisation is so near to one that there are too many windows to look at.
    Endless,
    /// The task at this position is late.
    Task(usize),
    /// A window of this length holds too much work, as does perhaps that in which the task that was moved has as many
    /// jobs: it changes its length with the task's period, jitter or key.
    Window(u64, Option<u64>),
}

/// Judges lanes of one class, one after the other.
pub(super) struct Judge {
    class: PolicyClass,
    /// Steps that a verdict may take; what is not decided by then does not fit.
    steps: u64,
    response_steps: u64,
    /// What the last lanes of a search tell about the windows of the next one.
    seen: Seen,
    /// The priorities of the last lane, kept for the next one.
    ranks: Ranks,
    /// The one task that changes from lane to lane, and what all others use of the lane.
    moving: Option<(usize, u128)>,
}

impl Judge {
    /// A judge who takes as long as [`decide`](super::decide).
    pub(super) fn new(class: PolicyClass) -> Self {
        Self {
            class,
            steps: STEPS_MAX,
            response_steps: RESPONSE_STEPS_MAX,
            seen: Seen::default(),
            ranks: Ranks::default(),
            moving: None,
        }
    }

    /// A judge who gives up after so many steps.
    pub(super) fn hasty(class: PolicyClass, steps: u64) -> Self {
        Self { steps, response_steps: steps, ..Self::new(class) }
    }

    /// Until [`Judge::release`], lanes differ from this one in nothing but the overrun and the task at `at`, whose key
    /// stays where keys are priorities. So nothing else is added up or ranked again.
    pub(super) fn watch(&mut self, lane: &Rows, at: usize) {
        let others = lane.rows.iter().enumerate().filter(|(other, _)| *other != at);
        self.moving = Some((at, others.map(|(_, row)| share_up(row)).sum()));
        if self.class == PolicyClass::StaticPriority {
            self.ranks.refresh(lane);
        }
    }

    /// Lanes may differ in anything again.
    pub(super) const fn release(&mut self) {
        self.moving = None;
    }

    fn is_overloaded(&self, lane: &Rows) -> bool {
        let leaves_room = |(at, others): (usize, u128)| others + share_up(&lane.rows[at]) < WHOLE;
        !self.moving.is_some_and(leaves_room) && check_utilisation(lane).is_err()
    }

    fn rank(&mut self, lane: &Rows) {
        match self.moving {
            Some((at, _)) => self.ranks.renew(lane, at),
            None => self.ranks.refresh(lane),
        }
    }

    /// Whether every deadline of the lane is met.
    pub(super) fn fits(&mut self, lane: &Rows) -> bool {
        self.obstacle(lane, None, false).is_none()
    }

    /// How far the windows of absolute deadlines are walked without a busy period: one lane alone is decided faster with
    /// it, but the trials of a search share the walk.
    fn reach(&self, lane: &Rows) -> u64 {
        if self.steps < STEPS_MAX { np_edf::reach(lane, self.steps) } else { 0 }
    }

    /// A search begins: the next lane may be harder to serve than the ones before.
    pub(super) const fn forget(&mut self) {
        self.seen.proven = None;
    }

    /// What keeps the lane from fitting where the task at `moved` has changed. If the lane `fitted` before, that task
    /// has become harder to serve in one thing. Until the judge has to [`forget`](Self::forget), a lane is easier to
    /// serve than all that did not fit.
    pub(super) fn obstacle(&mut self, lane: &Rows, moved: Option<usize>, fitted: bool) -> Option<Obstacle> {
        if self.is_overloaded(lane) {
            return Some(Obstacle::Utilisation);
        }
        match self.class {
            PolicyClass::StaticPriority => {
                self.rank(lane);
                // More urgent levels see the task only as the segment that blocks them.
                let row = moved.filter(|_| fitted).map(|at| lane.rows[at]);
                let changed = |_, at: usize, blocking: u64| {
                    row.is_none_or(|row| lane.rows[at].key >= row.key || blocking == row.blocks)
                };
                np_fp::first_late(lane, &self.ranks, self.steps, changed).map(Obstacle::Task)
            }
            PolicyClass::AbsoluteDeadline if lane.rows.iter().all(|row| row.key <= row.deadline) => {
                if moved.is_none() {
                    self.forget();
                }
                let fit = np_edf::fit(lane, self.steps, self.reach(lane), &mut self.seen);
                let jobs = |at: usize| {
                    let row = &lane.rows[at];
                    Some((self.seen.overfull + row.jitter).checked_sub(row.key)? / row.period)
                };
                // A response may exceed a key that is shorter than the deadline: then no window is an obstacle.
                let shorter = lane.rows.iter().any(|row| row.key < row.deadline);
                match fit {
                    Fit::Fits => None,
                    _ if shorter => {
                        // It may fit all the same, and the next lane be harder to serve.
                        self.forget();
                        (!np_edf::fits_by_response(lane, self.response_steps)).then_some(Obstacle::Lane)
                    }
                    Fit::Overfull => Some(Obstacle::Window(self.seen.overfull, moved.and_then(jobs))),
                    Fit::Endless => Some(Obstacle::Endless),
                }
            }
            PolicyClass::AbsoluteDeadline => {
                (!np_edf::fits_by_response(lane, self.response_steps)).then_some(Obstacle::Lane)
            }
            PolicyClass::ArrivalOrder | PolicyClass::WorkConserving => {
                let fits = self.delay(lane).is_some_and(|delay| in_time(&lane.rows, delay));
                (!fits).then_some(Obstacle::Lane)
            }
            PolicyClass::Fair => (!fair::fit(lane, 0..lane.rows.len(), self.steps)).then_some(Obstacle::Lane),
            // No windows of these are analysed, only releases from a known start.
            PolicyClass::Precautious | PolicyClass::CriticalWindow => Some(Obstacle::Lane),
        }
    }

    /// Whether the obstacle stands in the way of this lane no more, where the task at `moved` has changed. Others may.
    pub(super) fn passes(&mut self, lane: &Rows, moved: usize, obstacle: Obstacle) -> bool {
        match obstacle {
            Obstacle::Lane => true,
            Obstacle::Utilisation => !self.is_overloaded(lane),
            Obstacle::Endless => np_edf::ends_soon(lane, self.reach(lane)),
            Obstacle::Task(at) => self.task_fits(lane, at),
            Obstacle::Window(length, jobs) => {
                let row = &lane.rows[moved];
                let along = jobs.map(|jobs| {
                    jobs.saturating_mul(row.period).saturating_add(row.key).saturating_sub(row.jitter)
                });
                np_edf::holds(lane, length) && along.is_none_or(|along| np_edf::holds(lane, along))
            }
        }
    }

    /// Whether one task meets its deadline.
    pub(super) fn task_fits(&mut self, lane: &Rows, position: usize) -> bool {
        if self.is_overloaded(lane) {
            return false;
        }
        match self.class {
            PolicyClass::StaticPriority => {
                self.rank(lane);
                np_fp::row_fits(lane, &self.ranks, position, self.steps)
            }
            PolicyClass::AbsoluteDeadline => np_edf::row_fits(lane, position, self.response_steps),
            PolicyClass::ArrivalOrder | PolicyClass::WorkConserving => {
                self.delay(lane).is_some_and(|delay| in_time(&lane.rows[position..=position], delay))
            }
            PolicyClass::Fair => fair::fit(lane, position..=position, self.steps),
            PolicyClass::Precautious | PolicyClass::CriticalWindow => false,
        }
    }

    /// The longest response from release, for classes where that is the same for all tasks.
    fn delay(&self, lane: &Rows) -> Option<u64> {
        match self.class {
            PolicyClass::ArrivalOrder => fifo::delay(lane, self.steps).ok(),
            _ => policy_free::delay(lane, self.steps).ok(),
        }
    }
}

fn in_time(rows: &[Row], delay: u64) -> bool {
    rows.iter().all(|row| delay + row.jitter <= row.deadline)
}
