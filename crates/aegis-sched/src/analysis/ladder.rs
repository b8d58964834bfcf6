//! How much accumulated overrun a lane tolerates, and its bounds on the way there.
//!
//! A ladder asks for many analyses, each of which gives up after its share of the steps. What is not decided by then
//! counts against the lane: a smaller tolerance and fewer rungs say less, and nothing wrong.

use aegis_types::Nanos;

use super::claim::{Cause, Claim, Failure};
use super::demand::{RESPONSE_STEPS_MAX, Rows, trial_steps};
use super::problem::LaneProblem;
use super::verdict::Judge;
use super::{Stop, decide, respond_within};

/// X_lane: the largest accumulated overrun that is shown to leave every deadline met. Bounds grow with X, so it is
/// found by bisection; near full utilisation, where analyses grow without end, it is given up a little below.
///
/// # Errors
/// [`Failure`] if deadlines are missed without any overrun.
pub fn tolerance(problem: &LaneProblem) -> Result<Nanos, Failure> {
    climb(problem).map(|(_, tolerance)| tolerance)
}

/// The claim without overrun, and the tolerance.
fn climb(problem: &LaneProblem) -> Result<(Claim, Nanos), Failure> {
    let mut trial = problem.clone();
    trial.overrun = Nanos::ZERO;
    let claim = decide(&trial)?;
    // A job that waits for nothing still takes J + C + X.
    let room = problem.tasks.iter().map(|task| {
        let alone = task.segments.iter().fold(task.jitter, |sum, segment| sum.saturating_add(*segment));
        task.deadline.saturating_sub(alone).get()
    });
    let mut rows = Rows::of(&trial)?;
    let mut judge = Judge::hasty(problem.class, trial_steps(rows.rows.len()));
    let (mut holds, mut fails) = (0, room.min().unwrap_or(0).saturating_add(1));
    while fails - holds > 1 {
        let middle = holds + (fails - holds) / 2;
        rows.overrun = middle;
        if judge.fits(&rows) { holds = middle } else { fails = middle }
    }
    Ok((claim, Nanos::new(holds)))
}

/// Claims of response times for overruns from zero to the lane's tolerance, in `rungs` equal steps (at least one).
/// Where response times take too long, the ladder ends early: at the rung below, or with what [`decide`] claims.
///
/// # Errors
/// [`Failure`] if deadlines are missed without any overrun.
pub fn ladder(problem: &LaneProblem, rungs: u32) -> Result<Vec<Claim>, Failure> {
    let (decided, top) = climb(problem)?;
    let (top, steps) = (top.get(), u64::from(rungs.max(2) - 1));
    let mut spans: Vec<u64> = (0..=steps)
        .map(|step| u64::try_from(u128::from(top) * u128::from(step) / u128::from(steps)).unwrap_or(top))
        .collect();
    spans.dedup();
    let (mut trial, share) = (problem.clone(), RESPONSE_STEPS_MAX / spans.len() as u64);
    let mut ladder = Vec::with_capacity(spans.len());
    for overrun in spans {
        trial.overrun = Nanos::new(overrun);
        match respond_within(&trial, Stop::AtDeadline, share) {
            Ok(claim) => ladder.push(claim),
            Err(Failure { cause: Cause::Undecided { .. }, .. }) => break,
            Err(failure) => return Err(failure),
        }
    }
    if ladder.is_empty() {
        ladder.push(decided);
    }
    Ok(ladder)
}
