//! Periodic tasks on one core that stays free although a job is ready: bounds for an unlimited run, and every state that
//! they rest on.
//!
//! What is explored is what an engine does that keeps a lane free by the rule of a policy: it sees releases, so that a job
//! is awaited until it is released. Releases lie anywhere between an arrival and the latest release after it, and jobs take
//! anything from nothing to their longest cost. The jobs are those of periodic tasks from a known start, and nothing else:
//! a rule looks at what is still to come.

use aegis_types::{Bytes, Nanos, Time};

use super::cover::{Cover, CoverState};
use super::job::SagError;
use super::periodic::{JobPolicy, Kept, PeriodicReport, PeriodicTask, Written, explore_stream};
use super::report::{IdleRule, Limits};
use super::table::WORD;
use crate::analysis::problem::{LaneProblem, LaneTask};

/// What an exploration for a certificate may cost: seconds.
pub const LIMITS: Limits = Limits { states: 1 << 18, bytes: Bytes::new(1 << 28) };

/// The most tasks of a lane for a certificate: a rule looks at all others at every instant at which anything changes.
pub const TASKS_MAX: usize = 128;

/// States that contain every schedule of an unlimited run: level by level until one repeats an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeriodicCover {
    /// States by the number of jobs dispatched, over the jobs that arrive before [`before`](Self::before).
    pub cover: Cover,
    /// The jobs that arrive before this instant are enough to know what happens in every state.
    pub before: Time,
    /// The level that the last one repeats, one hyperperiod later.
    pub level: usize,
}

/// The tasks of a lane as periodic ones, in order: anything from nothing to all of C' long. `None` where one has several
/// segments, between which the rule would have to say something, or a jitter of a period, which leaves its releases no
/// order; and where there is not one offset for each.
pub fn tasks_of(problem: &LaneProblem, offsets: &[Nanos]) -> Option<Vec<PeriodicTask>> {
    let periodic = |(task, offset): (&LaneTask, &Nanos)| {
        let (&[cost_max], true) = (&task.segments[..], task.jitter < task.period) else { return None };
        Some(PeriodicTask {
            task: task.id.get().into(),
            offset: *offset,
            period: task.period,
            jitter: task.jitter,
            cost_min: Nanos::ZERO,
            cost_max,
            deadline: task.deadline,
            priority: task.key,
        })
    };
    if offsets.len() != problem.tasks.len() {
        return None;
    }
    problem.tasks.iter().zip(offsets).map(periodic).collect()
}

/// How a rule orders jobs.
pub const fn order(rule: IdleRule) -> JobPolicy {
    match rule {
        IdleRule::PrecautiousRm => JobPolicy::FixedPriority,
        IdleRule::CriticalWindowEdf => JobPolicy::EarliestDeadline,
    }
}

/// Explores periodic tasks under a rule for an unlimited run. There is a cover where the report is complete.
///
/// # Errors
/// [`SagError`] if a task has no meaning or one hyperperiod cannot be represented.
pub fn explore_inserting(
    tasks: &[PeriodicTask],
    rule: IdleRule,
    limits: Limits,
    keep_going: &mut dyn FnMut() -> bool,
) -> Result<(PeriodicReport, Option<PeriodicCover>), SagError> {
    let (report, written) = explore_stream(tasks, order(rule), Some(rule), limits, keep_going)?;
    Ok((report, written.map(covered)))
}

fn covered(written: Written) -> PeriodicCover {
    let Written { levels, level, before, jobs } = written;
    let state = |kept: &Kept| state(kept, jobs);
    let levels = levels.iter().map(|level| level.iter().map(state).collect()).collect();
    PeriodicCover { cover: Cover { levels }, before, level }
}

fn state((positions, free): &Kept, jobs: usize) -> CoverState {
    let mut dispatched = vec![0; jobs.div_ceil(WORD)];
    let (missing, ahead) =
        positions.split_first().map_or((0, &positions[..]), |(first, ahead)| (*first, ahead));
    for position in (0..missing).chain(ahead.iter().copied()) {
        dispatched[position / WORD] |= 1 << (position % WORD);
    }
    CoverState { dispatched, free_min: Time::new(free.0), free_max: Time::new(free.1) }
}
