//! Tests by density: how much of a server each task needs, if it is to be done in the time that blocking leaves.
//!
//! With B_i the longest job that can be in the way of a fresh job of task i:
//!
//! ```text
//! V_i = C_i / min(D_i - J_i - B_i, T_i)        sum of V <= m - (m - 1) max of V
//! ```
//!
//! Baruah (Real-Time Systems 32, 2006) has this for D = T, J = 0 and one common B, the longest job of all; the bound
//! on the sum is that of Goossens, Funk and Baruah (2003). Here a job can only be in the way of another if its
//! deadline is the later one although it was released first, which leaves short tasks a smaller B. The proof, in
//! section 10 of `docs/analyses.md`, compares the work done with a schedule that runs every job at the constant rate V_i and starts it
//! only after its blocking is over.

use crate::policy::PolicyClass;

use super::report::Outcome;
use super::{Numbers, SharedQueue};

/// A rate of one, as rates are counted; rounded up, so against the task.
const ONE: u128 = 1 << 56;

/// The test of Baruah (2006): every job can be blocked by the longest one of all.
pub fn common_blocking(queue: &SharedQueue) -> Outcome {
    test(queue, |tasks, _| tasks.iter().map(|task| task.cost).max().unwrap_or(0))
}

/// The same, with the longest job that can be in the way of this task.
pub fn own_blocking(queue: &SharedQueue) -> Outcome {
    test(queue, |tasks, task| {
        let in_the_way = tasks.iter().filter(|other| other.deadline + task.jitter > task.deadline);
        in_the_way.map(|other| other.cost).max().unwrap_or(0)
    })
}

fn test(queue: &SharedQueue, blocking: impl Fn(&[Numbers], &Numbers) -> u128) -> Outcome {
    if queue.class != PolicyClass::AbsoluteDeadline {
        return Outcome::NotApplicable { why: "the test is for jobs in order of their deadlines" };
    }
    let tasks = match Numbers::of_all(queue) {
        Ok(tasks) => tasks,
        Err(outcome) => return outcome,
    };
    let servers = u128::from(queue.servers);
    let (mut sum, mut largest) = (0u128, 0u128);
    for task in &tasks {
        let lost = task.jitter + blocking(&tasks, task);
        let room = task.deadline.saturating_sub(lost).min(task.period);
        if room == 0 || task.cost > room {
            return Outcome::NotCertified;
        }
        let rate = (task.cost * ONE).div_ceil(room);
        sum += rate;
        largest = largest.max(rate);
    }
    let certified = sum + servers.saturating_sub(1) * largest <= servers * ONE;
    if certified { Outcome::Certified } else { Outcome::NotCertified }
}
