//! Solvers: they search for bounds and are not trusted. What they return is a [`Claim`]; only the
//! [referee](crate::referee) turns claims into a certificate.
//!
//! | module | class | source |
//! |---|---|---|
//! | [`np_fp`] | static priority | Davis et al. 2007, Bril et al. 2009 |
//! | [`np_edf`] | absolute deadline | Jeffay et al. 1991, George et al. 1996, Zhang and Burns 2009 |
//! | [`fifo`] | arrival order | Bedarkar et al. 2022 |
//! | [`policy_free`] | work-conserving | busy period |
//! | [`fair`] | turns | `docs/analyses.md`, section 7 |
//!
//! | module | what it adds to every class |
//! |---|---|
//! | [`ladder`] | tolerated overrun and the bounds on the way there |
//! | [`incremental`] | tasks that come and go on a lane that fits |
//! | [`priority`] | static priorities that fit whenever some do |
//! | [`sensitivity`] | how far each number of a lane can move |
//!
//! The class binds the analysis. Every decision ends within [`STEPS_MAX`] steps and every
//! analysis within [`RESPONSE_STEPS_MAX`], whatever it is given.

pub mod claim;
mod demand;
mod edf_response;
pub mod fair;
pub mod fifo;
mod front;
pub mod incremental;
pub mod ladder;
pub mod np_edf;
pub mod np_fp;
pub mod policy_free;
pub mod priority;
pub mod problem;
mod quad;
pub mod sensitivity;
mod spare;
mod tally;
mod verdict;

pub use claim::{Cause, Claim, Failure, TaskClaim};
pub(crate) use demand::trial_steps;
pub use demand::{RESPONSE_STEPS_MAX, STEPS_MAX};
pub use incremental::AdmittedLane;
pub use problem::{Blocking, LaneProblem, LaneTask};
pub use verdict::fits;
pub(crate) use verdict::fits_soon;

use aegis_types::Nanos;

use crate::policy::PolicyClass;
use demand::{Rows, check_utilisation};

/// How far an analysis looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It fails as soon as a response exceeds its deadline.
    AtDeadline,
    /// It finds every bound, deadlines or not.
    Never,
}

/// Decides whether every deadline of the lane is met, with as little work as that needs. For absolute deadlines the
/// bounds are the ordering deadlines themselves where these hold; elsewhere they are response times.
///
/// # Errors
/// [`Failure`] with the task and the reason.
pub fn decide(problem: &LaneProblem) -> Result<Claim, Failure> {
    decide_within(problem, STEPS_MAX, RESPONSE_STEPS_MAX)
}

/// [`decide`] in at most so many steps, and so many more where it takes the response times of an absolute-deadline
/// lane.
pub(crate) fn decide_within(
    problem: &LaneProblem,
    steps: u64,
    response_steps: u64,
) -> Result<Claim, Failure> {
    match problem.class {
        PolicyClass::AbsoluteDeadline if np_edf::keys_within_deadlines(problem) => {
            let claim = np_edf::feasible_claim_within(problem, steps);
            // A response may exceed a key that is shorter than the deadline.
            let shorter = problem.tasks.iter().any(|task| task.key < task.deadline.get());
            match claim {
                Err(_) if shorter => np_edf::claim_within(problem, Stop::AtDeadline, response_steps),
                claim => claim,
            }
        }
        PolicyClass::AbsoluteDeadline => respond_within(problem, Stop::AtDeadline, response_steps),
        _ => respond_within(problem, Stop::AtDeadline, steps),
    }
}

/// Response times of every task of the lane.
///
/// # Errors
/// [`Failure`] with the task and the reason.
pub fn respond(problem: &LaneProblem, stop: Stop) -> Result<Claim, Failure> {
    let ordered = problem.class == PolicyClass::AbsoluteDeadline;
    respond_within(problem, stop, if ordered { RESPONSE_STEPS_MAX } else { STEPS_MAX })
}

/// [`respond`] in at most so many steps.
pub(crate) fn respond_within(problem: &LaneProblem, stop: Stop, steps: u64) -> Result<Claim, Failure> {
    match problem.class {
        PolicyClass::StaticPriority => np_fp::claim_within(problem, stop, steps),
        PolicyClass::AbsoluteDeadline => np_edf::claim_within(problem, stop, steps),
        PolicyClass::ArrivalOrder => fifo::claim_within(problem, stop, steps),
        PolicyClass::WorkConserving => policy_free::claim_within(problem, stop, steps),
        PolicyClass::Fair => fair::claim_within(problem, stop, steps),
        PolicyClass::Precautious | PolicyClass::CriticalWindow => Err(concrete()),
    }
}

/// R of every task of the lane, in order: the bounds of [`respond`] with [`Stop::Never`] without evidence or terms,
/// for callers that compare many lanes.
///
/// # Errors
/// [`Failure`] where [`respond`] fails, perhaps for another task.
pub fn bounds(problem: &LaneProblem) -> Result<Vec<Nanos>, Failure> {
    let lane = Rows::of(problem)?;
    check_utilisation(&lane)?;
    match problem.class {
        PolicyClass::StaticPriority => np_fp::bounds(&lane),
        PolicyClass::AbsoluteDeadline => np_edf::bounds(&lane),
        PolicyClass::ArrivalOrder => fifo::bounds(&lane),
        PolicyClass::WorkConserving => policy_free::bounds(&lane),
        PolicyClass::Fair => fair::bounds(&lane),
        PolicyClass::Precautious | PolicyClass::CriticalWindow => Err(concrete()),
    }
}

/// A lane that stays free while a job is ready has no critical window: only its releases from a known start are
/// analysed ([`crate::sag::concrete`]).
const fn concrete() -> Failure {
    Failure { position: None, cause: Cause::Concrete }
}
