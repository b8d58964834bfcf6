//! Fixed priorities: bounds by a window that begins where a server could be spared.
//!
//! Seen from the release of a job, every more urgent task may have a job left over. Let the window begin earlier, at
//! the first instant from which on, until the release, more urgent jobs wait or occupy all servers (Guan et al.,
//! Journal of Systems Architecture 57, 2011). Just before it none of them waits and at most m - 1 run, and since then
//! no other job can have started. So of all tasks at most m have something left over, at most m - 1 of them more
//! urgent ones:
//!
//! ```text
//! sum of min(W_i(L, J_i), L) over more urgent i
//!     + the m largest of { W_i(L, R_i - C_i) - W_i(L, J_i), at most m - 1 of them; C_l - 1 } < m L
//! ```
//!
//! The job's own predecessor may be among what is left over. It is done before the job arrives: with p of it left
//! over the window begins at least p before the release, and the job waits for at most L - 1 - p.

use aegis_types::Nanos;

use crate::policy::PolicyClass;

use super::SharedQueue;
use super::report::Outcome;
use super::response::{View, outcome, rounds};
use super::window::{Items, unfilled, work};

/// Into how many ranges what is left over of a predecessor is divided. More are tighter and slower.
const RANGES: u128 = 4;

/// Whether every job starts in time; only for fixed priorities.
pub fn test(queue: &SharedQueue) -> Outcome {
    outcome(bounds(queue))
}

/// Bounds on responses, from arrival to completion, in the order of the tasks.
///
/// # Errors
/// The [`Outcome`] that stands in the way: a deadline that may be missed, or a task that the test does not cover.
pub fn bounds(queue: &SharedQueue) -> Result<Vec<Nanos>, Outcome> {
    if queue.class != PolicyClass::StaticPriority {
        return Err(Outcome::NotApplicable { why: "the test is for fixed priorities" });
    }
    rounds(queue, &mut |view, task, steps| wait(view, task, steps))
}

fn wait(view: &View, task: usize, steps: &mut u64) -> Option<u128> {
    let own = view.tasks[task];
    let mut longest = from_spare(view, task, (0, 0), steps)?;
    let mut from = 1;
    while from < own.cost {
        let to = (from + own.cost.div_ceil(RANGES) - 1).min(own.cost - 1);
        longest = longest.max(from_spare(view, task, (from, to), steps)?);
        from = to + 1;
    }
    let response = own.jitter + longest + own.cost;
    (response <= own.deadline).then_some(response)
}

/// How long a job waits at most if so much of its predecessor is left over, at least and at most.
fn from_spare(view: &View, task: usize, (least, most): (u128, u128), steps: &mut u64) -> Option<u128> {
    let (mut urgent, mut blocking) = (Vec::new(), Vec::new());
    let fill = |length: u128, items: &mut Items| {
        urgent.clear();
        blocking.clear();
        blocking.push(most);
        for (other, numbers) in view.others(task) {
            if view.before(other, task) {
                let fresh = work(numbers, numbers.jitter, length);
                items.push(fresh);
                urgent.push(work(numbers, view.slack(other), length) - fresh);
            } else {
                blocking.push(numbers.cost - 1);
            }
        }
        keep_largest(&mut urgent, view.servers - 1);
        blocking.append(&mut urgent);
        push_largest(&mut blocking, view.servers, items);
        view.tasks.len() as u64
    };
    let length = unfilled(view.servers, view.limit(task) + least, steps, fill)?;
    Some((length - 1).saturating_sub(least))
}

fn keep_largest(values: &mut Vec<u128>, count: u128) {
    values.sort_unstable_by(|low, high| high.cmp(low));
    values.truncate(usize::try_from(count).unwrap_or(usize::MAX));
}

/// Adds the largest values, so many of them.
pub(super) fn push_largest(values: &mut Vec<u128>, count: u128, items: &mut Items) {
    keep_largest(values, count);
    values.iter().for_each(|&value| items.push(value));
}
