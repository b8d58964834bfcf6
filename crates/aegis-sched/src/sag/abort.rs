//! Jobs that are ended from outside: when a trigger fires, and how long cleaning up takes.
//!
//! A trigger t fires once, and k is the time that cleaning up takes then; s is the instant at which the job is chosen
//! to run, c its cost:
//!
//! ```text
//! s <  t    it runs, and completes at min(s + c, t + k)
//! s >= t    it is skipped, and completes at s
//! ```
//!
//! These are the abort actions of the tool nptest, with one difference: where a job may be chosen before its trigger as
//! well as after it, the tool takes both as one and forgets those that are skipped, so that its latest completion can be
//! too early, and its earliest too late. Here each of the two counts. A job that is ended or skipped by its deadline
//! has met it.

use std::collections::BTreeMap;

use aegis_types::{Nanos, Time};

use super::job::{HORIZON_MAX, JobKey, SagError};
use super::search::Dispatch;

/// What ends a job, whether or not it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Abort {
    /// The job.
    pub job: JobKey,
    /// The earliest instant at which the trigger fires.
    pub trigger_min: Time,
    /// The latest instant at which the trigger fires.
    pub trigger_max: Time,
    /// The shortest time that cleaning up takes.
    pub cleanup_min: Nanos,
    /// The longest time that cleaning up takes.
    pub cleanup_max: Nanos,
}

/// The instants of an [`Abort`], checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ending {
    trigger: (u64, u64),
    cleanup: (u64, u64),
}

impl Ending {
    /// The earliest and the latest completion of a job that is chosen as in `dispatch` and costs so much.
    pub(super) fn completions(self, dispatch: &Dispatch, cost: (u64, u64)) -> (u64, u64) {
        let (first, last) = (dispatch.start_min, dispatch.start_max);
        let mut ends = (u64::MAX, 0);
        if first < self.trigger.1 {
            // The sooner it starts, and the sooner a trigger after its start fires, the sooner it ends.
            let fires = self.trigger.0.max(first + 1);
            let begun = last.min(self.trigger.1 - 1);
            ends = (
                (first + cost.0).min(fires + self.cleanup.0),
                (begun + cost.1).min(self.trigger.1 + self.cleanup.1),
            );
        }
        if last >= self.trigger.0 {
            ends = (ends.0.min(first.max(self.trigger.0)), ends.1.max(last));
        }
        ends
    }
}

/// The aborts by positions in the set.
pub(super) fn endings(
    aborts: &[Abort],
    places: &BTreeMap<JobKey, usize>,
) -> Result<BTreeMap<usize, Ending>, SagError> {
    let mut endings = BTreeMap::new();
    for abort in aborts {
        let ending = ending(abort)?;
        let bad = |reason: String| SagError::BadAbort { job: abort.job, reason };
        let place = places.get(&abort.job).ok_or_else(|| bad("there is no such job".to_owned()))?;
        if endings.insert(*place, ending).is_some() {
            return Err(bad("it is given twice; legal is one for a job".to_owned()));
        }
    }
    Ok(endings)
}

fn ending(abort: &Abort) -> Result<Ending, SagError> {
    let trigger = (abort.trigger_min.get(), abort.trigger_max.get());
    let cleanup = (abort.cleanup_min.get(), abort.cleanup_max.get());
    let bad = |reason: String| Err(SagError::BadAbort { job: abort.job, reason });
    if trigger.1 < trigger.0 {
        return bad(format!(
            "latest trigger is {}; legal is at least the earliest, {}",
            trigger.1, trigger.0
        ));
    }
    if cleanup.1 < cleanup.0 {
        return bad(format!(
            "longest cleanup is {}; legal is at least the shortest, {}",
            cleanup.1, cleanup.0
        ));
    }
    let most = HORIZON_MAX.get();
    if trigger.1.checked_add(cleanup.1).is_none_or(|end| end > most) {
        return bad(format!("latest trigger and longest cleanup together pass {most}"));
    }
    Ok(Ending { trigger, cleanup })
}
