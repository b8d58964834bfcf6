//! One queue over several servers: what sufficient tests certify, as analyses only.
//!
//! The runtime gives every lane a queue of its own, because then each lane is a uniprocessor with exact tests. The
//! alternative is one queue from which whichever lane is free takes the first job. This module says what could be
//! certified for that, so that the choice can be looked at; no runtime stands behind it, and nothing here becomes a
//! certificate.
//!
//! The queue that is analysed: identical servers, a job occupies one of them from start to end (its segments follow
//! each other without a new decision), a free server takes the first ready job at once, ties go to the smaller task
//! number, and two jobs of one task may run at the same time.
//!
//! | module | test | source |
//! |---|---|---|
//! | [`density`] | common and own blocking | Baruah 2006; Goossens, Funk, Baruah 2003 |
//! | [`response`] | work in the window from release to start | Guan et al. 2008, Lee and Shin 2014 |
//! | [`carry_in`] | the same from the last instant with a server to spare | Guan et al. 2011 |
//! | [`report`] | all of them beside the lanes' own tests | |
//!
//! All of them are proven in section 10 of `docs/analyses.md`, for release jitter and deadlines that differ from periods, which
//! the sources do not have.

pub mod carry_in;
pub mod density;
pub mod report;
pub mod response;
mod window;

use aegis_types::Nanos;

use crate::analysis::problem::LaneTask;
use crate::policy::PolicyClass;

pub use report::{Outcome, SharedQueueError, SharedQueueReport, SharedTest, TestReport, shared_queue};

/// Tasks that wait in one queue for any of several servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedQueue {
    /// How many jobs run at once; at least one.
    pub servers: u32,
    /// How ready jobs are ordered.
    pub class: PolicyClass,
    /// The tasks, by number, every overhead charged.
    pub tasks: Vec<LaneTask>,
}

/// What a test says of a queue.
pub type Test = fn(&SharedQueue) -> Outcome;

/// A task's numbers, its segments added up. Wide, so that no product of two spans overflows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Numbers {
    cost: u128,
    period: u128,
    /// The deadline that counts: where jobs are ordered by another one, that one.
    deadline: u128,
    jitter: u128,
    key: u64,
}

impl Numbers {
    /// `None` where the order of jobs is by deadlines later than those to be met: no test here covers that.
    fn of(task: &LaneTask, class: PolicyClass) -> Option<Self> {
        let deadline = match class {
            PolicyClass::AbsoluteDeadline if task.key > task.deadline.get() => return None,
            PolicyClass::AbsoluteDeadline => task.key,
            _ => task.deadline.get(),
        };
        let wide = |span: Nanos| u128::from(span.get());
        Some(Self {
            cost: task.segments.iter().map(|&segment| wide(segment)).sum(),
            period: wide(task.period),
            deadline: u128::from(deadline),
            jitter: wide(task.jitter),
            key: task.key,
        })
    }

    /// The numbers of all tasks, or why they are not covered.
    fn of_all(queue: &SharedQueue) -> Result<Vec<Self>, Outcome> {
        let later =
            Outcome::NotApplicable { why: "jobs are ordered by deadlines later than those to be met" };
        let numbers: Option<Vec<_>> = queue.tasks.iter().map(|task| Self::of(task, queue.class)).collect();
        numbers.ok_or(later)
    }
}
