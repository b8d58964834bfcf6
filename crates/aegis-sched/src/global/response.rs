//! Bounds by the window from the release of a job to its start.
//!
//! While a job waits, every server is busy with other jobs: with less urgent ones that started before its release, at
//! most one for each server, and with more urgent ones. If those cannot fill m servers for a window of length L from
//! the release on, the job has started before the window ends:
//!
//! ```text
//! sum of min(I_i(L), L) over more urgent i + the m largest min(C_l - 1, L) < m L      R = J + L - 1 + C
//! I_i(L) = W_i(L, R_i - C_i), under deadlines at most the work with deadlines until d
//! ```
//!
//! Work in a window is that of Bertogna, Cirinei and Lipari (2009), that a job runs on once it has started is used as
//! by Guan et al. (RTSS 2008) and Lee and Shin (2014). The R_i start as the deadlines and shrink from round to round;
//! all hold together, because the first bound to be broken would be broken by a job before whose start none was.

use aegis_types::Nanos;

use crate::policy::PolicyClass;

use super::report::Outcome;
use super::window::{Items, unfilled, work, work_by_deadline};
use super::{Numbers, SharedQueue, carry_in};

/// Steps that a test may take; what is not decided by then is not certified.
const STEPS_MAX: u64 = 1 << 20;

/// How often bounds are improved by each other.
const ROUNDS_MAX: u32 = 64;

/// Whether every job starts in time, by the window from its release.
pub fn test(queue: &SharedQueue) -> Outcome {
    outcome(bounds(queue))
}

/// Bounds on responses, from arrival to completion, in the order of the tasks.
///
/// # Errors
/// The [`Outcome`] that stands in the way: a deadline that may be missed, or a task that the test does not cover.
pub fn bounds(queue: &SharedQueue) -> Result<Vec<Nanos>, Outcome> {
    rounds(queue, &mut |view, task, steps| view.since_release(task, steps))
}

pub(super) fn outcome(bounds: Result<Vec<Nanos>, Outcome>) -> Outcome {
    match bounds {
        Ok(_) => Outcome::Certified,
        Err(outcome) => outcome,
    }
}

/// Tasks and the bounds on their responses that are known.
pub(super) struct View {
    pub(super) servers: u128,
    class: PolicyClass,
    pub(super) tasks: Vec<Numbers>,
    responses: Vec<u128>,
}

/// A bound on the response of a task, where one is found that meets its deadline.
pub(super) type Bound<'a> = &'a mut dyn FnMut(&View, usize, &mut u64) -> Option<u128>;

pub(super) fn rounds(queue: &SharedQueue, bound: Bound<'_>) -> Result<Vec<Nanos>, Outcome> {
    let mut view = View::of(queue)?;
    let mut steps = STEPS_MAX;
    for _ in 0..ROUNDS_MAX {
        let (mut in_time, mut improved) = (true, false);
        for task in 0..view.tasks.len() {
            // A task without a bound keeps its deadline: the others may shrink until it gets one.
            match bound(&view, task, &mut steps) {
                Some(response) if response < view.responses[task] => {
                    (view.responses[task], improved) = (response, true);
                }
                Some(_) => {}
                None => in_time = false,
            }
        }
        if in_time {
            // Bounds are at most deadlines, which are 64 bits wide.
            let spans = view.responses.iter().map(|&response| u64::try_from(response).unwrap_or(u64::MAX));
            return Ok(spans.map(Nanos::new).collect());
        }
        if !improved || steps == 0 {
            break;
        }
    }
    Err(Outcome::NotCertified)
}

impl View {
    fn of(queue: &SharedQueue) -> Result<Self, Outcome> {
        if !matches!(queue.class, PolicyClass::StaticPriority | PolicyClass::AbsoluteDeadline) {
            return Err(Outcome::NotApplicable {
                why: "the test is for fixed priorities and for jobs in order of their deadlines",
            });
        }
        let tasks = Numbers::of_all(queue)?;
        if tasks.iter().any(|task| task.deadline > task.period) {
            return Err(Outcome::NotApplicable { why: "the test is for deadlines of at most a period" });
        }
        if tasks.iter().any(|task| task.cost == 0 || task.jitter + task.cost > task.deadline) {
            return Err(Outcome::NotCertified);
        }
        let responses = tasks.iter().map(|task| task.deadline).collect();
        Ok(Self { servers: u128::from(queue.servers), class: queue.class, tasks, responses })
    }

    /// Everyone but one task.
    pub(super) fn others(&self, of: usize) -> impl Iterator<Item = (usize, &Numbers)> {
        self.tasks.iter().enumerate().filter(move |&(other, _)| other != of)
    }

    /// Whether a task goes before another under fixed priorities.
    pub(super) fn before(&self, other: usize, of: usize) -> bool {
        (self.tasks[other].key, other) < (self.tasks[of].key, of)
    }

    /// How long after the beginning of its execution a job completes at the latest may have arrived before it.
    pub(super) fn slack(&self, task: usize) -> u128 {
        self.responses[task] - self.tasks[task].cost
    }

    /// The longest window in which a job may wait and still be in time.
    pub(super) fn limit(&self, task: usize) -> u128 {
        let Numbers { cost, deadline, jitter, .. } = self.tasks[task];
        deadline - jitter - cost + 1
    }

    fn since_release(&self, task: usize, steps: &mut u64) -> Option<u128> {
        let mut blocking = Vec::new();
        let fill = |length: u128, items: &mut Items| {
            blocking.clear();
            for (other, numbers) in self.others(task) {
                let (urgent, blocks) = self.interference(task, other, length);
                items.push(urgent);
                blocking.push(if blocks { (numbers.cost - 1).saturating_sub(urgent) } else { 0 });
            }
            carry_in::push_largest(&mut blocking, self.servers, items);
            self.tasks.len() as u64
        };
        let length = unfilled(self.servers, self.limit(task), steps, fill)?;
        Some(self.tasks[task].jitter + length - 1 + self.tasks[task].cost)
    }

    /// Work of another task that goes before a job of this one within a length from its release, and whether a job of
    /// it can be in the way. No task does both to one job: of its jobs that are in the way, later ones come later.
    fn interference(&self, task: usize, other: usize, length: u128) -> (u128, bool) {
        let (own, numbers) = (&self.tasks[task], &self.tasks[other]);
        let window = work(numbers, self.slack(other), length);
        match self.class {
            PolicyClass::AbsoluteDeadline => {
                let spare = numbers.deadline - self.responses[other];
                let by_deadline = work_by_deadline(numbers, spare, own.deadline);
                (window.min(by_deadline), numbers.deadline + own.jitter > own.deadline)
            }
            _ if self.before(other, task) => (window, false),
            _ => (0, true),
        }
    }
}
