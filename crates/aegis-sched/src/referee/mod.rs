//! The referee: checks claimed bounds and turns them into certificates. Shares no code with the solvers.
//!
//! A bound is checked, not computed: for every job of a busy period it is enough to show *one* start time at which
//! the work that can come before it is done ("post-fixpoint"): the true start is the least such time. The length of
//! the busy period is shown the same way. Nothing here trusts the solver's search, its arithmetic or its choice of
//! what to examine.
//!
//! All arithmetic is checked `u64` or `i128`; an overflow is an [`Objection`].

pub mod certificate;
pub(crate) mod certify;
mod count;
mod fair;
mod fifo;
mod np_edf;
mod np_fp;
mod policy_free;
pub mod sag;

use aegis_types::{LaneId, Nanos, TaskId};

pub use certify::certify;

use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::policy::PolicyClass;
use certificate::TermKind;

/// Why the referee does not accept a claim.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Objection {
    /// The claim is not about this lane's tasks.
    #[error("the claim is not about this lane's tasks, in ascending order")]
    WrongTasks,
    /// The claim covers another overrun than the problem.
    #[error("the claim covers an overrun of {claimed}, the problem has {asked}")]
    WrongOverrun {
        /// What it covers.
        claimed: Nanos,
        /// What is asked.
        asked: Nanos,
    },
    /// The evidence has not one item for everything that has to be shown.
    #[error("{task}: the claim's evidence is incomplete")]
    Evidence {
        /// The task, or the lane's first.
        task: TaskId,
    },
    /// A claimed length of a busy period is exceeded by the work in it.
    #[error("{task}: more than {claimed} of work arrives within {claimed}")]
    Busy {
        /// The task, or the lane's first.
        task: TaskId,
        /// The claimed length.
        claimed: Nanos,
    },
    /// A job may respond later than claimed.
    #[error(
        "{task}: a job arriving {arrival}ns into its busy period is not shown to respond within {claimed}"
    )]
    Bound {
        /// The task.
        task: TaskId,
        /// The claimed bound.
        claimed: Nanos,
        /// Arrival of the job that was not shown, from the start of its busy period, in nanoseconds.
        arrival: i64,
    },
    /// A window holds more work than time.
    #[error("a window of {window} holds more work than time")]
    Demand {
        /// Length of the window.
        window: Nanos,
    },
    /// The claimed bound exceeds the deadline.
    #[error("{task}: the bound {claimed} exceeds the deadline {deadline}")]
    Deadline {
        /// The task.
        task: TaskId,
        /// The claimed bound.
        claimed: Nanos,
        /// Its deadline.
        deadline: Nanos,
    },
    /// Terms do not add up to the bound, or a term contradicts the task.
    #[error("{task}: the terms do not add up to {claimed}, or contradict the task")]
    Terms {
        /// The task.
        task: TaskId,
        /// The claimed bound.
        claimed: Nanos,
    },
    /// Rungs do not start at no overrun and rise.
    #[error("{lane}: the ladder does not rise from an overrun of zero")]
    Ladder {
        /// The lane.
        lane: LaneId,
    },
    /// Not one ladder per lane.
    #[error("{found} ladders for {lanes} lanes")]
    Lanes {
        /// Ladders found.
        found: usize,
        /// Lanes of the platform.
        lanes: usize,
    },
    /// A number leaves 64 bits.
    #[error("a number leaves the range of time")]
    Range,
    /// The evidence takes too long to check.
    #[error("the claim takes more than {steps} steps to check")]
    TooLong {
        /// Steps that a check may take.
        steps: u64,
    },
}

/// Checks that every bound of the claim is one and meets its deadline.
///
/// # Errors
/// The first [`Objection`].
pub fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    for (task, claimed) in problem.tasks.iter().zip(&claim.tasks) {
        if claimed.bound > task.deadline {
            let (claimed, deadline) = (claimed.bound, task.deadline);
            return Err(Objection::Deadline { task: task.id, claimed, deadline });
        }
    }
    check_bounds(problem, claim)
}

/// Checks that every bound of the claim is one, deadlines or not.
///
/// # Errors
/// The first [`Objection`].
pub fn check_bounds(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    if problem.tasks.len() != claim.tasks.len()
        || !problem.tasks.is_sorted_by(|low, high| low.id < high.id)
        || problem.tasks.iter().zip(&claim.tasks).any(|(task, claimed)| task.id != claimed.task)
    {
        return Err(Objection::WrongTasks);
    }
    if claim.overrun != problem.overrun {
        return Err(Objection::WrongOverrun { claimed: claim.overrun, asked: problem.overrun });
    }
    let mut listed = vec![false; problem.tasks.last().map_or(0, |last| last.id.index() + 1)];
    for task in &problem.tasks {
        listed[task.id.index()] = true;
    }
    for (task, claimed) in problem.tasks.iter().zip(&claim.tasks) {
        if task.period.is_zero() || task.segments.is_empty() {
            return Err(Objection::Range);
        }
        check_terms(problem, &listed, task, claimed)?;
    }
    match problem.class {
        PolicyClass::StaticPriority => np_fp::check(problem, claim),
        PolicyClass::AbsoluteDeadline => np_edf::check(problem, claim),
        PolicyClass::ArrivalOrder => fifo::check(problem, claim),
        PolicyClass::WorkConserving => policy_free::check(problem, claim),
        PolicyClass::Fair => fair::check(problem, claim),
    }
}

/// Terms add up exactly, the job's own time and the overrun are what they are, and whatever is named is `listed`,
/// which tells by number who is on the lane.
fn check_terms(
    problem: &LaneProblem,
    listed: &[bool],
    task: &LaneTask,
    claimed: &TaskClaim,
) -> Result<(), Objection> {
    let objection = || Objection::Terms { task: task.id, claimed: claimed.bound };
    let (mut sum, mut own, mut overrun) = (0u64, 0u64, 0u64);
    for term in &claimed.terms {
        sum = sum.checked_add(term.span.get()).ok_or_else(objection)?;
        let named = |id: TaskId| id != task.id && listed.get(id.index()).is_some_and(|&listed| listed);
        let legal = match term.kind {
            TermKind::Own => {
                own += term.span.get();
                true
            }
            TermKind::Overrun => {
                overrun += term.span.get();
                true
            }
            TermKind::Jitter => term.span <= task.jitter,
            TermKind::Blocking { by } | TermKind::Interference { by, .. } => named(by),
            TermKind::Carry | TermKind::Slackness => true,
        };
        if !legal {
            return Err(objection());
        }
    }
    let adds_up = sum == claimed.bound.get() && own == count::cost(task)? && overrun == problem.overrun.get();
    if adds_up { Ok(()) } else { Err(objection()) }
}
