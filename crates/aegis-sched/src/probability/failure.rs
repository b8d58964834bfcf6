//! The probability that a job on a lane is late.
//!
//! A job of task i arrives at 0, is released at r <= J and is late if its last segment, of length f, starts after
//! t = D - f. Then the lane was busy from r to t. Let L be any length up to D - J - f. What can have kept the lane busy
//! for longer than L after r is: one segment that already ran at r (at most B), the job's own earlier segments, and
//! jobs that go before it, which arrived by r + L and after r - D_j, because no older one is left. Hence
//!
//! ```text
//! P(late) <= sum over f of P(F = f) min over L <= D - J - f of P(B + sum over j of N_j(L) jobs > L)
//! N_j(L)  = ceil(l / T_j) with l = L + D_j, which arrival order caps at D_j, and deadlines at k_i - k_j + D_j
//! N_i     = ceil(D_i / T_i) - 1                                   (earlier jobs of the task itself)
//! ```
//!
//! That "no older one is left" is [`LateJobs`]: without it a late job delays the next one, and the synchronous release
//! is no worst case of probabilities either (Chen, Guenzel, von der Brueggen, Chen, RTSS 2022, refuting earlier
//! claims). The rule uses no critical instant: it counts one job more of each task than a synchronous release would.
//! Arrivals must not depend on execution times. The tail is bounded by Chernoff's bound or by convolution
//! (von der Brueggen et al., ECRTS 2018, compare both).

use aegis_types::Nanos;

use super::{Law, LawError, chernoff, convolution, upward};
use crate::analysis::{LaneProblem, LaneTask};
use crate::policy::PolicyClass;

/// Window lengths that are tried for each length of the last segment.
const WINDOWS_MAX: usize = 48;

/// What becomes of late jobs, and with it what the probability is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LateJobs {
    /// A job is dropped at its deadline; a segment that runs then is not cancelled. The probability is that of any job
    /// to be late.
    Dropped,
    /// Late jobs run on. The probability is that of a job to be late although every job of the lane whose deadline had
    /// passed at its release had met it: to be the first, so that the union bound over jobs is one on any being late.
    First,
}

/// How tails of sums are bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// Chernoff's bound: microseconds per window.
    Chernoff,
    /// Convolution in the window that Chernoff's bound likes best; never worse.
    Convolution,
}

/// The laws of a task's segments, in order, every overhead charged; independent of each other. For segments whose
/// times depend on each other, describe the job as one segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskLaws {
    /// One law for each segment.
    pub segments: Vec<Law>,
}

/// An upper bound on a probability of failure, under the assumptions of this module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct FailureBound {
    /// The bound.
    pub probability: f64,
    /// What it is the probability of.
    pub late_jobs: LateJobs,
    /// How it was found.
    pub method: Method,
}

impl FailureBound {
    /// The bound alone.
    pub const fn probability(self) -> f64 {
        self.probability
    }
}

/// Bounds the probability that a job of the task at `position` is late. The problem supplies periods, deadlines,
/// jitters, order and overrun; its budgets are not looked at.
///
/// # Errors
/// [`LawError`] for laws that do not fit the lane, and for sums that leave the range of time.
pub fn failure(
    problem: &LaneProblem,
    laws: &[TaskLaws],
    position: usize,
    late_jobs: LateJobs,
    method: Method,
) -> Result<FailureBound, LawError> {
    let lane = Lane::new(problem, laws, position, late_jobs)?;
    if problem.class.inserts().is_some() {
        // Nothing is known of windows of a lane that stays free while a job is ready.
        return Ok(FailureBound { probability: 1.0, late_jobs, method });
    }
    let Some((last, before)) = lane.laws[position].segments.split_last() else { return Err(LawError::Empty) };
    let mut probability = 0.0;
    for (length, mass) in last.masses() {
        let room = lane.me().deadline.checked_sub(lane.me().jitter);
        let late = match room.and_then(|room| room.checked_sub(Nanos::new(length))) {
            Some(room) => lane.delayed(before, room.get(), method)?,
            None => 1.0,
        };
        probability = upward::add(probability, upward::multiply(mass, late));
    }
    Ok(FailureBound { probability: probability.min(1.0), late_jobs, method })
}

struct Lane<'a> {
    problem: &'a LaneProblem,
    laws: &'a [TaskLaws],
    position: usize,
    /// What may run at the release and is not counted as a job.
    blocking: u64,
}

impl<'a> Lane<'a> {
    fn new(
        problem: &'a LaneProblem,
        laws: &'a [TaskLaws],
        position: usize,
        late_jobs: LateJobs,
    ) -> Result<Self, LawError> {
        let tasks = &problem.tasks;
        if laws.len() != tasks.len() {
            let (place, found, needed) = (problem.lane.to_string(), laws.len(), tasks.len());
            return Err(LawError::Count { place, found, needed });
        }
        let Some(me) = tasks.get(position) else {
            return Err(LawError::Position { position, tasks: tasks.len() });
        };
        for (task, laws) in tasks.iter().zip(laws) {
            let (found, needed) = (laws.segments.len(), task.segments.len());
            if found != needed {
                return Err(LawError::Count { place: task.id.to_string(), found, needed });
            }
            if task.period.is_zero() {
                return Err(LawError::Period { task: task.id });
            }
        }
        let longest = tasks
            .iter()
            .zip(laws)
            .filter(|(task, _)| late_jobs == LateJobs::Dropped || may_block(problem.class, me, task))
            .flat_map(|(_, laws)| &laws.segments)
            .map(Law::max)
            .max()
            .unwrap_or_default();
        let blocking = longest.checked_add(problem.overrun).ok_or(LawError::Range)?.get();
        Ok(Self { problem, laws, position, blocking })
    }

    fn me(&self) -> &LaneTask {
        &self.problem.tasks[self.position]
    }

    /// Bounds the probability that the last segment starts later than `room` after the latest release.
    fn delayed(&self, before: &[Law], room: u64, method: Method) -> Result<f64, LawError> {
        let mut best = (1.0, None);
        for window in self.windows(room) {
            let Some(left) = window.checked_sub(self.blocking) else { continue };
            let tail = chernoff::exceedance(&self.draws(before, window)?, Nanos::new(left))?;
            if tail < best.0 {
                best = (tail, Some((window, left)));
            }
        }
        match (method, best) {
            (Method::Convolution, (tail, Some((window, left)))) => {
                let draws = self.draws(before, window)?;
                Ok(convolution::exceedance(&draws, Nanos::new(left))?.min(tail))
            }
            (_, (tail, _)) => Ok(tail),
        }
    }

    /// The longest window, and the longest ones before a further job is counted, longest first.
    fn windows(&self, room: u64) -> Vec<u64> {
        let mut windows = vec![room];
        for task in self.problem.tasks.iter() {
            let (period, deadline) = (task.period.get(), task.deadline.get());
            let mut jobs = room.saturating_add(deadline) / period;
            for _ in 0..WINDOWS_MAX {
                let end = jobs.saturating_mul(period).checked_sub(deadline).filter(|&end| end <= room);
                let Some(end) = end else { break };
                windows.push(end);
                let Some(fewer) = jobs.checked_sub(1) else { break };
                jobs = fewer;
            }
        }
        windows.sort_unstable_by_key(|&window| std::cmp::Reverse(window));
        windows.dedup();
        windows.truncate(WINDOWS_MAX);
        windows
    }

    /// What can keep the lane busy in a window, besides what already ran.
    fn draws(&self, before: &'a [Law], window: u64) -> Result<Vec<(&'a Law, u64)>, LawError> {
        let mut draws: Vec<(&Law, u64)> = before.iter().map(|law| (law, 1)).collect();
        for (position, (task, laws)) in self.problem.tasks.iter().zip(self.laws).enumerate() {
            let period = u128::from(task.period.get());
            let jobs = if position == self.position {
                u128::from(task.deadline.get()).div_ceil(period).saturating_sub(1)
            } else {
                span_of_arrivals(self.problem.class, self.me(), task, window).div_ceil(period)
            };
            let jobs = u64::try_from(jobs).map_err(|_| LawError::Range)?;
            if jobs > 0 {
                draws.extend(laws.segments.iter().map(|law| (law, jobs)));
            }
        }
        Ok(draws)
    }
}

/// Length of the half-open interval in which jobs of `task` that go before a job of `me` arrive. Wider than a span:
/// a sum that was cut off would count too few jobs.
fn span_of_arrivals(class: PolicyClass, me: &LaneTask, task: &LaneTask, window: u64) -> u128 {
    let deadline = u128::from(task.deadline.get());
    let any = u128::from(window) + deadline;
    match class {
        PolicyClass::StaticPriority if task.key > me.key => 0,
        PolicyClass::ArrivalOrder => deadline,
        PolicyClass::AbsoluteDeadline => {
            any.min((u128::from(me.key) + deadline).saturating_sub(u128::from(task.key)))
        }
        PolicyClass::StaticPriority
        | PolicyClass::WorkConserving
        | PolicyClass::Fair
        | PolicyClass::Precautious
        | PolicyClass::CriticalWindow => any,
    }
}

/// Whether a segment of `task` may run at the release of a job of `me` although its job goes after that.
fn may_block(class: PolicyClass, me: &LaneTask, task: &LaneTask) -> bool {
    match class {
        PolicyClass::StaticPriority => task.key > me.key,
        PolicyClass::AbsoluteDeadline => {
            let latest = u128::from(task.key) + u128::from(me.jitter.get());
            task.id != me.id && latest > u128::from(me.key)
        }
        PolicyClass::ArrivalOrder
        | PolicyClass::WorkConserving
        | PolicyClass::Fair
        | PolicyClass::Precautious
        | PolicyClass::CriticalWindow => false,
    }
}
