//! Solvers: they search for bounds and are not trusted. What they return is a [`Claim`]; only the
//! [referee](crate::referee) turns claims into a certificate.
//!
//! | module | class | source |
//! |---|---|---|
//! | [`np_fp`] | static priority | Davis et al. 2007, Bril et al. 2009 |
//! | [`np_edf`] | absolute deadline | Jeffay et al. 1991, George et al. 1996, Zhang and Burns 2009 |
//! | [`fifo`] | arrival order | Bedarkar et al. 2022 |
//! | [`policy_free`] | work-conserving | busy period |
//!
//! The class binds the analysis. Every decision ends within [`STEPS_MAX`] steps and every
//! analysis within [`RESPONSE_STEPS_MAX`], whatever it is given.

pub mod claim;
mod demand;
pub mod fifo;
pub mod ladder;
pub mod np_edf;
pub mod np_fp;
pub mod policy_free;
pub mod problem;
mod tally;

pub use claim::{Cause, Claim, Failure, TaskClaim};
pub use demand::{RESPONSE_STEPS_MAX, STEPS_MAX};
pub use problem::{Blocking, LaneProblem, LaneTask};

use crate::policy::PolicyClass;

/// How far an analysis looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It fails as soon as a response exceeds its deadline.
    AtDeadline,
    /// It finds every bound, deadlines or not.
    Never,
}

/// Decides whether every deadline of the lane is met, with as little work as that needs. For absolute deadlines the
/// bounds are the ordering deadlines themselves; elsewhere they are response times.
///
/// # Errors
/// [`Failure`] with the task and the reason.
pub fn decide(problem: &LaneProblem) -> Result<Claim, Failure> {
    match problem.class {
        PolicyClass::AbsoluteDeadline if np_edf::keys_within_deadlines(problem) => {
            np_edf::feasible_claim(problem)
        }
        _ => respond(problem, Stop::AtDeadline),
    }
}

/// Response times of every task of the lane.
///
/// # Errors
/// [`Failure`] with the task and the reason.
pub fn respond(problem: &LaneProblem, stop: Stop) -> Result<Claim, Failure> {
    match problem.class {
        PolicyClass::StaticPriority => np_fp::claim(problem, stop),
        PolicyClass::AbsoluteDeadline => np_edf::claim(problem, stop),
        PolicyClass::ArrivalOrder => fifo::claim(problem, stop),
        PolicyClass::WorkConserving => policy_free::claim(problem, stop),
    }
}
