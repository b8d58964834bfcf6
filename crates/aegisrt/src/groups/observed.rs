//! What became of the jobs of each group, beside the rate of misses that was agreed. Observed, and no part of any
//! certificate: a group in overload breaks its agreement although every job that was let in met its deadline.
//!
//! What counts is what a client sees: a job that was asked for and whose output did not come in time was missed, whether
//! it ended late, failed, was dropped, or was refused because it came earlier than the period lets in, found the queue full
//! or the lane without a certificate. Not counted are submissions after the end of the run, submissions to tasks that have
//! no clients, and jobs that the operator stopped.

use aegis_types::records::{JobOutcome, Refusal};
use serde::Serialize;

use crate::config::{Fleet, GroupConfig, Share};
use crate::tally::{Tally, TaskTally};

/// Counts of one group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Served {
    /// Jobs that were asked for.
    pub jobs: u64,
    /// Jobs that ended after their deadlines.
    pub missed: u64,
    /// Jobs that were let in and have no output: failed, dropped, or not ended.
    pub lost: u64,
    /// Arrivals that were refused.
    pub refused: u64,
}

/// What a group agreed on, and whether it was so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// Nothing was agreed, or no job was asked for.
    None,
    /// No more than the agreed share was missed.
    Kept,
    /// More was.
    Broken,
}

impl Served {
    /// The counts of one task.
    pub fn of_task(task: &TaskTally) -> Self {
        let outcome = |outcome: JobOutcome| task.outcomes[outcome as usize];
        let refused = |reason: Refusal| task.refusals[reason as usize];
        let ended: u64 = task.outcomes.iter().sum();
        let refused = refused(Refusal::TooEarly) + refused(Refusal::QueueFull) + refused(Refusal::LaneVoid);
        let unfinished = task.released.saturating_sub(ended);
        let stopped = outcome(JobOutcome::Stopped);
        Self {
            jobs: task.released.saturating_sub(stopped) + refused,
            missed: task.misses,
            lost: outcome(JobOutcome::Failed) + outcome(JobOutcome::Dropped) + unfinished,
            refused,
        }
    }

    /// The sum of both.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            jobs: self.jobs + other.jobs,
            missed: self.missed + other.missed,
            lost: self.lost + other.lost,
            refused: self.refused + other.refused,
        }
    }

    /// Jobs whose output did not come in time.
    pub const fn unserved(self) -> u64 {
        self.missed + self.lost + self.refused
    }

    /// Whether the agreed rate was kept.
    pub fn keeps(self, agreed: Option<Share>) -> Agreement {
        match agreed {
            Some(agreed) if self.jobs > 0 => {
                let (unserved, jobs) = (u128::from(self.unserved()), u128::from(self.jobs));
                let kept = unserved * 1_000_000 <= jobs * u128::from(agreed.ppm());
                if kept { Agreement::Kept } else { Agreement::Broken }
            }
            _ => Agreement::None,
        }
    }
}

/// The counts of each group of a fleet, in the order of the groups.
pub fn served<'a>(fleet: &'a Fleet, tally: &Tally) -> Vec<(&'a GroupConfig, Served)> {
    let mut sums = vec![Served::default(); fleet.groups().len()];
    for task in tally.tasks() {
        let group = fleet.task(&task.name).and_then(|(_, config)| fleet.group_of(config));
        if let Some(sum) = group.and_then(|group| sums.get_mut(group)) {
            *sum = sum.and(Served::of_task(task));
        }
    }
    fleet.groups().iter().zip(sums).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_agreement_is_broken_by_one_job_too_many() {
        let of = |jobs, missed| Served { jobs, missed, ..Served::default() };
        let check =
            |served: Served, ppm, says| assert_eq!(served.keeps(Some(Share::new(ppm))), says, "{served:?}");
        check(of(100, 1), 10_000, Agreement::Kept);
        check(of(100, 2), 10_000, Agreement::Broken);
        check(of(99, 1), 10_000, Agreement::Broken);
        check(of(5, 0), 0, Agreement::Kept);
        check(of(u64::MAX, 1), 0, Agreement::Broken);
        check(of(7, 7), 1_000_000, Agreement::Kept);
        check(of(0, 0), 0, Agreement::None);
        assert_eq!(of(7, 7).keeps(None), Agreement::None);
        let mixed = Served { jobs: 10, missed: 1, lost: 1, refused: 1 };
        check(mixed, 300_000, Agreement::Kept);
        check(mixed, 299_999, Agreement::Broken);
    }
}
