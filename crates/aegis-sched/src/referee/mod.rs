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
mod concrete;
mod count;
mod fair;
mod fifo;
mod np_edf;
mod np_fp;
mod policy_free;
pub mod sag;

use aegis_types::TaskId;

pub use crate::objection::Objection;
pub use certify::{certify, certify_concrete};

use crate::analysis::claim::{Claim, TaskClaim};
use crate::analysis::problem::{LaneProblem, LaneTask};
use crate::policy::PolicyClass;
use certificate::TermKind;

/// Checks that every bound of the claim is one and meets its deadline.
///
/// # Errors
/// The first [`Objection`].
pub fn check(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    check_deadlines(problem, claim)?;
    check_bounds(problem, claim)
}

fn check_deadlines(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    for (task, claimed) in problem.tasks.iter().zip(&claim.tasks) {
        if claimed.bound > task.deadline {
            let (claimed, deadline) = (claimed.bound, task.deadline);
            return Err(Objection::Deadline { task: task.id, claimed, deadline });
        }
    }
    Ok(())
}

/// Checks that every bound of the claim is one, deadlines or not.
///
/// # Errors
/// The first [`Objection`].
pub fn check_bounds(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
    check_form(problem, claim)?;
    match problem.class {
        PolicyClass::StaticPriority => np_fp::check(problem, claim),
        PolicyClass::AbsoluteDeadline => np_edf::check(problem, claim),
        PolicyClass::ArrivalOrder => fifo::check(problem, claim),
        PolicyClass::WorkConserving => policy_free::check(problem, claim),
        PolicyClass::Fair => fair::check(problem, claim),
        PolicyClass::Precautious | PolicyClass::CriticalWindow => {
            Err(Objection::Inserts { lane: problem.lane })
        }
    }
}

/// The claim is about this lane's tasks, each with terms that are what they say.
fn check_form(problem: &LaneProblem, claim: &Claim) -> Result<(), Objection> {
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
    Ok(())
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
            TermKind::Carry | TermKind::Waiting | TermKind::Slackness => true,
        };
        if !legal {
            return Err(objection());
        }
    }
    let adds_up = sum == claimed.bound.get() && own == count::cost(task)? && overrun == problem.overrun.get();
    if adds_up { Ok(()) } else { Err(objection()) }
}
