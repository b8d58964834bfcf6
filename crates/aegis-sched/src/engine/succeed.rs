//! A change of mode at an idle instant: the engine of another certified set takes over.
//!
//! An idle instant of the whole device ends every busy period, and bounds speak of one busy period at a time: of what
//! ran before, nothing is left that a job of the new set could wait for. So the new engine starts like any other, but
//! for what the lanes themselves remember. It opens with a record of its own start, where a trace of several certificates
//! falls apart; fed again in order, each engine made from the one before, its inputs give the same records. Which changes need not wait, and what then has to be
//! certified together, says [`crate::mode`].

use aegis_types::{LaneId, TaskId, Time};

use super::Engine;
use super::control::Mode;
use super::phase::Trust;
use crate::error::ModelError;
use crate::model::TaskSet;
use crate::policy::SchedulingPolicy;
use crate::referee::certificate::Certificate;

/// Why an engine cannot take over.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// A lane still has jobs: their bounds were never analysed beside the new tasks.
    #[error("{lane} has {pending} pending jobs; a change waits until every lane is idle")]
    Busy {
        /// The first such lane.
        lane: LaneId,
        /// How many.
        pending: usize,
    },
    /// The engine drains or has stopped.
    #[error("the engine accepts no more jobs; only one that serves can be followed by another")]
    Stopping,
    /// Stamps must not decrease across the change either.
    #[error("the change is stamped {now}, before the last input at {last}; stamps must not decrease")]
    TimeRunsBackwards {
        /// The stamp given.
        now: Time,
        /// The last stamp.
        last: Time,
    },
    /// Jobs of two sets could not be told apart.
    #[error("the certificate has epoch {given}; legal is one above {last}")]
    Epoch {
        /// The new certificate's epoch.
        given: u64,
        /// That of the certificate in force.
        last: u64,
    },
    /// The device is not the same.
    #[error("the new set has {given} lanes, the device {lanes}")]
    Lanes {
        /// Lanes of the new set.
        given: usize,
        /// Lanes of the device.
        lanes: usize,
    },
    /// While jobs are pending the order of jobs cannot change.
    #[error("policy `{given}` cannot follow `{serving}` while jobs are pending; legal is the same policy")]
    Policy {
        /// The policy given.
        given: &'static str,
        /// The policy that serves.
        serving: &'static str,
    },
    /// What is certified begins with the start of the engine.
    #[error(
        "policy `{policy}` inserts idle time and is certified from its start on; a change waits until every lane is idle"
    )]
    Inserts {
        /// The policy.
        policy: &'static str,
    },
    /// A task is not the same before and after, beyond budgets and jitter that move the way of the change.
    #[error("{task} changes its {field}; legal while jobs are pending are contracts that stay")]
    Contract {
        /// The task, by its number in the new set.
        task: TaskId,
        /// What differs.
        field: &'static str,
    },
    /// No such task.
    #[error("{task} is named; there are {tasks} tasks")]
    Unknown {
        /// The number given.
        task: TaskId,
        /// How many tasks there are.
        tasks: usize,
    },
    /// Each task of the new set needs its number in the engine.
    #[error("{given} numbers are given for {tasks} tasks; legal is one for each")]
    Numbers {
        /// How many numbers are given.
        given: usize,
        /// How many tasks the new set has.
        tasks: usize,
    },
    /// A task leaves or changes its number while it has jobs.
    #[error(
        "{task} has {pending} pending jobs and does not keep its number; a change waits until it has none"
    )]
    Pending {
        /// The task.
        task: TaskId,
        /// How many.
        pending: usize,
    },
    /// A lane is in a busy period of which not all is under the certificate in force.
    #[error(
        "{lane} has to idle first (it is {trust:?}): an assumption broke, or its jobs have the bounds of the \
         certificate before the one in force"
    )]
    Unsettled {
        /// The lane.
        lane: LaneId,
        /// How far its certificate holds.
        trust: Trust,
    },
    /// Set, certificate and policy make no engine.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Engine {
    /// The engine of `set` that takes over from this one at `now`, when no lane has a pending job. Lanes go on counting
    /// their dispatches, so that no late flag is taken for that of a new segment, and remember their last breach.
    /// Arrivals count from the change: the first job of a task may come at once.
    ///
    /// It allocates, and it needs an [`outbox`](Engine::outbox) of its own.
    ///
    /// # Errors
    /// [`ChangeError`]; this engine goes on as if nothing had been asked.
    pub fn successor(
        &self,
        set: &TaskSet,
        certificate: Certificate,
        policy: Box<dyn SchedulingPolicy>,
        now: Time,
    ) -> Result<Self, ChangeError> {
        if let Some(busy) = self.lanes.iter().find(|lane| lane.pending > 0) {
            return Err(ChangeError::Busy { lane: busy.id, pending: busy.pending });
        }
        self.may_be_followed(set, &certificate, now)?;
        let mut next = Self::new(set, certificate, policy, now)?;
        for (lane, old) in next.lanes.iter_mut().zip(&self.lanes) {
            lane.last_dispatch = old.last_dispatch;
            lane.last_breach = old.last_breach;
        }
        Ok(next)
    }

    /// What holds wherever another engine takes over.
    pub(super) fn may_be_followed(
        &self,
        set: &TaskSet,
        certificate: &Certificate,
        now: Time,
    ) -> Result<(), ChangeError> {
        if self.mode != Mode::Serving {
            return Err(ChangeError::Stopping);
        }
        if now < self.now {
            return Err(ChangeError::TimeRunsBackwards { now, last: self.now });
        }
        let (given, last) = (certificate.epoch(), self.certificate.epoch());
        if given <= last {
            return Err(ChangeError::Epoch { given, last });
        }
        let (given, lanes) = (set.platform().lanes(), self.lanes.len());
        if given != lanes {
            return Err(ChangeError::Lanes { given, lanes });
        }
        Ok(())
    }
}
