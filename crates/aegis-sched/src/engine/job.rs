//! One job and the states it passes through.

use aegis_types::records::JobOutcome;
use aegis_types::{JobId, SegmentIndex, Time};

/// Where a job stands.
///
/// ```text
///   Queued --Dispatch--> Running --Advance--> Between --Dispatch--> Running
///     |                   |  ^ Retry            |
///     | Drop, Stop        |  +-----             | Stop
///     v                   v Finish, Fail, Stop  v
///   Ended(Dropped|Stopped|Completed|Failed)
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobState {
    /// Accepted; nothing of it ran.
    Queued,
    /// One of its segments occupies the lane.
    Running,
    /// Some of its segments ran, and another one is to come.
    Between,
    /// It reached its one terminal state.
    Ended(JobOutcome),
}

/// What happens to a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum JobEvent {
    /// A segment is given the lane.
    Dispatch,
    /// The segment ended and is not the last.
    Advance,
    /// The last segment ended.
    Finish,
    /// The segment failed.
    Fail,
    /// The segment did not start and is launched again.
    Retry,
    /// The lane sheds load.
    Drop,
    /// The engine stops.
    Stop,
}

/// A pair of state and event without meaning: a defect of the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IllegalJob {
    state: JobState,
    event: JobEvent,
}

impl JobState {
    /// The one door: the state after `event`.
    pub(super) const fn next(self, event: JobEvent) -> Result<Self, IllegalJob> {
        use JobEvent as E;
        match (self, event) {
            (Self::Queued | Self::Between, E::Dispatch) | (Self::Running, E::Retry) => Ok(Self::Running),
            (Self::Running, E::Advance) => Ok(Self::Between),
            (Self::Running, E::Finish) => Ok(Self::Ended(JobOutcome::Completed)),
            (Self::Running, E::Fail) => Ok(Self::Ended(JobOutcome::Failed)),
            (Self::Queued, E::Drop) => Ok(Self::Ended(JobOutcome::Dropped)),
            // A running segment is never recalled: a running job stops when its segment has ended.
            (Self::Queued | Self::Running | Self::Between, E::Stop) => Ok(Self::Ended(JobOutcome::Stopped)),
            (Self::Queued, E::Advance | E::Finish | E::Fail | E::Retry)
            | (Self::Running, E::Dispatch | E::Drop)
            | (Self::Between, E::Advance | E::Finish | E::Fail | E::Retry | E::Drop)
            | (
                Self::Ended(_),
                E::Dispatch | E::Advance | E::Finish | E::Fail | E::Retry | E::Drop | E::Stop,
            ) => Err(IllegalJob { state: self, event }),
        }
    }
}

/// An accepted job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) id: JobId,
    /// Nominal arrival A'; response and deadline count from it.
    pub(super) arrival: Time,
    pub(super) deadline: Time,
    /// Stamp of the release.
    pub(super) released: Time,
    /// The segment that runs or comes next.
    pub(super) segment: SegmentIndex,
    /// Launches of the segment that failed before anything ran.
    pub(super) attempts: u32,
    /// Its input slot.
    pub(super) slot: u32,
    /// An assumption broke that touches this job alone.
    pub(super) void: bool,
    pub(super) state: JobState,
}

impl Job {
    /// Moves the job through the one door of its state.
    ///
    /// # Panics
    /// If the engine lets something happen to the job that its state excludes.
    pub(super) fn advance(&mut self, event: JobEvent) {
        let next = self.state.next(event);
        assert!(next.is_ok(), "{}: {next:?}", self.id);
        self.state = next.unwrap_or(self.state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pair_is_decided() {
        use JobEvent as E;
        let running = Ok(JobState::Running);
        let ended = |outcome| Ok::<_, ()>(JobState::Ended(outcome));
        let events = [E::Dispatch, E::Advance, E::Finish, E::Fail, E::Retry, E::Drop, E::Stop];
        let stopped = ended(JobOutcome::Stopped);
        let table = [
            (
                JobState::Queued,
                [running, Err(()), Err(()), Err(()), Err(()), ended(JobOutcome::Dropped), stopped],
            ),
            (
                JobState::Running,
                [
                    Err(()),
                    Ok(JobState::Between),
                    ended(JobOutcome::Completed),
                    ended(JobOutcome::Failed),
                    running,
                    Err(()),
                    stopped,
                ],
            ),
            (JobState::Between, [running, Err(()), Err(()), Err(()), Err(()), Err(()), stopped]),
            (JobState::Ended(JobOutcome::Failed), [Err(()); 7]),
        ];
        for (state, row) in table {
            for (event, expected) in events.into_iter().zip(row) {
                assert_eq!(state.next(event).map_err(|_| ()), expected, "{state:?} {event:?}");
            }
        }
    }
}
