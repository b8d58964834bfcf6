//! Admission in time: a task set and a policy in, a certificate or a refusal with its reason out.
//!
//! Solvers search, the [referee](crate::referee) checks, and only what it accepts is admitted. A refusal is a verdict,
//! not an error: it names the task, what holds it up, and the smallest single change that would fit.

mod concrete;
pub mod confidence;
pub mod fit;
pub mod refusal;
mod trial;

use aegis_types::{LaneId, Nanos, TaskId};

pub use confidence::Confidence;
pub use fit::fit_periods;
pub use refusal::{Change, Reason, Refusal};

use crate::analysis::claim::{Claim, Failure};
use crate::analysis::ladder::ladder;
use crate::analysis::problem::LaneProblem;
use crate::analysis::{Stop, decide, respond};
use crate::model::TaskSet;
use crate::platform::charge;
use crate::policy::{PolicyClass, SchedulingPolicy};
use crate::referee::certificate::{Certificate, Term};
use crate::referee::certify;

/// How much a certificate should say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Depth {
    /// Only that every deadline is met. Under absolute deadlines a bound is then the deadline itself; no overrun is
    /// tolerated. Microseconds.
    #[default]
    Feasible,
    /// Response times, and bounds up to the largest tolerated overrun in so many rungs (at least two are made).
    /// Milliseconds; meant for off the decision path.
    Tight {
        /// Rungs of the ladder.
        rungs: u32,
    },
}

impl Depth {
    /// Eight rungs.
    pub const TIGHT: Self = Self::Tight { rungs: 8 };
}

/// What admission is asked.
#[derive(Clone, Copy, Debug)]
pub struct AdmissionRequest<'a> {
    /// The tasks, each on its lane, with the platform.
    pub set: &'a TaskSet,
    /// Epoch of the certificate.
    pub epoch: u64,
    /// How much the certificate should say.
    pub depth: Depth,
}

impl<'a> AdmissionRequest<'a> {
    /// Asks whether the set fits, as epoch 1.
    pub const fn new(set: &'a TaskSet) -> Self {
        Self { set, epoch: 1, depth: Depth::Feasible }
    }

    /// The same question with response times and an overrun ladder of eight rungs.
    #[must_use]
    pub const fn tight(mut self) -> Self {
        self.depth = Depth::TIGHT;
        self
    }
}

/// The answer of admission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Every deadline is met as long as the certificate's assumptions hold.
    Admitted(Certificate),
    /// Not every deadline is shown to be met.
    Refused(Box<Refusal>),
}

/// What is known about one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TaskReport {
    /// The task.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// R: bound on its response time from the nominal arrival; `None` where none was found.
    pub wcrt: Option<Nanos>,
    /// D.
    pub deadline: Nanos,
    /// D - R; `None` where R is unknown or exceeds D.
    pub slack: Option<Nanos>,
    /// What R is made of; adds up to it.
    pub terms: Vec<Term>,
    /// How far the bound can be trusted: as far as the weakest budget on its lane, or that its lane may wait for.
    pub confidence: Confidence,
}

/// The verdict, and what is known about every task either way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdmissionReport {
    /// The verdict.
    pub verdict: Verdict,
    /// Every task, by number.
    pub tasks: Vec<TaskReport>,
}

impl AdmissionReport {
    /// Whether the set is admitted.
    pub const fn is_admitted(&self) -> bool {
        matches!(self.verdict, Verdict::Admitted(_))
    }

    /// The certificate, if the set is admitted.
    pub const fn certificate(&self) -> Option<&Certificate> {
        match &self.verdict {
            Verdict::Admitted(certificate) => Some(certificate),
            Verdict::Refused(_) => None,
        }
    }

    /// The refusal, if the set is refused.
    pub fn refusal(&self) -> Option<&Refusal> {
        match &self.verdict {
            Verdict::Admitted(_) => None,
            Verdict::Refused(refusal) => Some(refusal),
        }
    }
}

/// Decides whether task sets fit under one policy.
pub struct AdmissionController {
    policy: Box<dyn SchedulingPolicy>,
}

impl AdmissionController {
    /// Admission under `policy`; its class chooses the analysis.
    pub fn new(policy: Box<dyn SchedulingPolicy>) -> Self {
        Self { policy }
    }

    /// The policy.
    pub fn policy(&self) -> &dyn SchedulingPolicy {
        self.policy.as_ref()
    }

    /// Analyses a task set. Always ends, in bounded time: what cannot be decided within it is refused as such.
    pub fn analyze(&self, request: &AdmissionRequest<'_>) -> AdmissionReport {
        let set = request.set;
        let charged = match set.platform().check().and_then(|()| charge(set)) {
            Ok(charged) => charged,
            Err(error) => {
                let verdict = Verdict::Refused(Box::new(Refusal::no_model(set, &error)));
                return AdmissionReport { verdict, tasks: Vec::new() };
            }
        };
        if let Some(rule) = self.policy.class().inserts() {
            return concrete::analyze(self.policy.as_ref(), rule, request, charged);
        }
        let problems = LaneProblem::of_lanes(set, charged, self.policy.as_ref());
        let mut ladders = Vec::with_capacity(problems.len());
        let mut failed: Option<(LaneProblem, Failure)> = None;
        for problem in problems {
            let answer = match request.depth {
                Depth::Feasible => decide(&problem).map(|claim| vec![claim]),
                Depth::Tight { rungs } => ladder(&problem, rungs),
            };
            match answer {
                Ok(ladder) => ladders.push(ladder),
                Err(failure) => {
                    let known = respond(&problem, Stop::Never).ok();
                    ladders.push(known.into_iter().collect());
                    failed = failed.or(Some((problem, failure)));
                }
            }
        }
        self.conclude(request, ladders, failed)
    }

    fn conclude(
        &self,
        request: &AdmissionRequest<'_>,
        ladders: Vec<Vec<Claim>>,
        failed: Option<(LaneProblem, Failure)>,
    ) -> AdmissionReport {
        let (set, policy) = (request.set, self.policy.as_ref());
        let tasks = reports(set, policy.class(), &ladders);
        let verdict = match failed {
            Some((problem, failure)) => {
                let known = ladders.get(problem.lane.index()).and_then(|ladder| ladder.first());
                Verdict::Refused(Box::new(Refusal::explain(set, policy, &problem, failure, known)))
            }
            None => match certify(set, policy, request.epoch, ladders) {
                Ok(certificate) => Verdict::Admitted(certificate),
                Err(objection) => Verdict::Refused(Box::new(Refusal::refuted(objection))),
            },
        };
        AdmissionReport { verdict, tasks }
    }
}

/// What the first rung of each ladder says about its tasks.
fn reports(set: &TaskSet, class: PolicyClass, ladders: &[Vec<Claim>]) -> Vec<TaskReport> {
    let lanes = u16::try_from(ladders.len()).unwrap_or(u16::MAX);
    let confidence: Vec<Confidence> =
        (0..lanes).map(|lane| Confidence::of_lane(set, class, LaneId::new(lane))).collect();
    let mut positions = vec![0usize; ladders.len()];
    set.tasks()
        .iter()
        .map(|task| {
            let lane = task.lane.index();
            let claimed = ladders[lane].first().and_then(|claim| claim.tasks.get(positions[lane]));
            positions[lane] += 1;
            let wcrt = claimed.map(|claimed| claimed.bound);
            TaskReport {
                task: task.id,
                lane: task.lane,
                wcrt,
                deadline: task.deadline,
                slack: wcrt.and_then(|wcrt| task.deadline.checked_sub(wcrt)),
                terms: claimed.map(|claimed| claimed.terms.clone()).unwrap_or_default(),
                confidence: confidence[lane].clone(),
            }
        })
        .collect()
}
