//! Certificates: values that only the referee can make.

use aegis_types::{LaneId, Nanos, TaskId};

use crate::model::Basis;
use crate::policy::PolicyClass;

/// A part of a bound, by name. The terms of a bound add up to it exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// What it is.
    pub kind: TermKind,
    /// How long.
    pub span: Nanos,
}

/// What a term of a bound stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TermKind {
    /// Release after the nominal arrival.
    Jitter,
    /// A less urgent segment that was already running.
    Blocking {
        /// The task it belongs to.
        by: TaskId,
    },
    /// More urgent jobs of another task.
    Interference {
        /// The task they belong to.
        by: TaskId,
        /// How many.
        jobs: u64,
    },
    /// Earlier jobs of the same task in the busy period. Time of that period before the job's arrival delays nothing: it
    /// is deducted from what runs first, the blocker, then interference, then these.
    Carry,
    /// The job's own segments.
    Own,
    /// Overrun that is tolerated.
    Overrun,
    /// Waiting in the longest schedule, where every schedule was followed: for other jobs, for the release, and for the
    /// end of idle time that the policy inserts.
    Waiting,
    /// What a bound that is not tight leaves unattributed.
    Slackness,
}

/// A task's contract as certified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertifiedTask {
    /// The task.
    pub task: TaskId,
    /// C' of each segment.
    pub segments: Vec<Nanos>,
    /// T.
    pub period: Nanos,
    /// D.
    pub deadline: Nanos,
    /// J'.
    pub jitter: Nanos,
    /// When the first job arrives, from the engine's start, where the bounds rest on that: under a policy that inserts
    /// idle time.
    pub offset: Option<Nanos>,
    /// The task's number in its policy's class.
    pub key: u64,
    /// R: worst-case response time from the nominal arrival, when no budget is overrun.
    pub wcrt: Nanos,
    /// What R is made of; adds up to R.
    pub terms: Vec<Term>,
    /// Q = ceil(R(X_lane) / T): jobs that may be pending at once.
    pub queue: u32,
    /// The weakest basis among its lane's budgets and those that jobs of the lane may wait for as excluded: what
    /// confidence in R can be at most.
    pub basis: Basis,
}

/// Bounds under an accumulated overrun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rung {
    /// X.
    pub overrun: Nanos,
    /// R(X) of each task of the lane, in the order of [`LaneCertificate::tasks`].
    pub bounds: Vec<Nanos>,
}

/// The certificate of one lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneCertificate {
    pub(super) lane: LaneId,
    pub(super) tasks: Vec<CertifiedTask>,
    pub(super) ladder: Vec<Rung>,
}

impl LaneCertificate {
    /// The lane.
    pub const fn lane(&self) -> LaneId {
        self.lane
    }

    /// Its tasks, by number.
    pub fn tasks(&self) -> &[CertifiedTask] {
        &self.tasks
    }

    /// Bounds by overrun, from X = 0 upwards; each was refereed, and deadlines hold on every rung.
    pub fn ladder(&self) -> &[Rung] {
        &self.ladder
    }

    /// X_lane: the accumulated overrun up to which every deadline of the lane still holds.
    pub fn tolerance(&self) -> Nanos {
        self.ladder.last().map_or(Nanos::ZERO, |rung| rung.overrun)
    }

    /// A refereed bound of the task at `position` of [`tasks`](Self::tasks) under overrun `x`: that of the first rung
    /// at or above `x`; `None` above the tolerance.
    pub fn bound(&self, position: usize, x: Nanos) -> Option<Nanos> {
        let rung = self.ladder.iter().find(|rung| rung.overrun >= x)?;
        rung.bounds.get(position).copied()
    }
}

/// Proof that every task of a set meets its deadline under a policy, as long as the watched assumptions hold.
///
/// Has no public constructor: only the referee makes one, so "dispatch without admission" does not type-check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub(super) policy: &'static str,
    pub(super) class: PolicyClass,
    pub(super) epoch: u64,
    pub(super) lanes: Vec<LaneCertificate>,
    pub(super) assumptions: Vec<String>,
}

impl Certificate {
    /// The policy it was made for.
    pub const fn policy(&self) -> &'static str {
        self.policy
    }

    /// The class whose analysis made it.
    pub const fn class(&self) -> PolicyClass {
        self.class
    }

    /// Distinguishes certificates of one engine.
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The lanes, by [`LaneId`].
    pub fn lanes(&self) -> &[LaneCertificate] {
        &self.lanes
    }

    /// The certified contract of a task, with its lane and its position there.
    pub fn task(&self, id: TaskId) -> Option<(&LaneCertificate, usize)> {
        self.lanes.iter().find_map(|lane| Some((lane, lane.tasks.iter().position(|task| task.task == id)?)))
    }

    /// What must hold for the bounds to hold, for people.
    pub fn assumptions(&self) -> &[String] {
        &self.assumptions
    }
}

#[cfg(test)]
impl Certificate {
    /// A certificate that no one refereed, for tests of what stands on certificates.
    pub(crate) fn for_tests(
        policy: &'static str,
        class: PolicyClass,
        lanes: Vec<(LaneId, Vec<CertifiedTask>, Vec<Rung>)>,
    ) -> Self {
        let lanes =
            lanes.into_iter().map(|(lane, tasks, ladder)| LaneCertificate { lane, tasks, ladder }).collect();
        Self { policy, class, epoch: 1, lanes, assumptions: Vec::new() }
    }
}
