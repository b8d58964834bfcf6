//! How much accumulated overrun a lane tolerates, and its bounds on the way there.

use aegis_types::Nanos;

use super::claim::{Claim, Failure};
use super::problem::LaneProblem;
use super::{Stop, decide, fits, respond};

/// X_lane: the largest accumulated overrun under which every deadline is still met. Bounds grow with X, so it is
/// found by bisection.
///
/// # Errors
/// [`Failure`] if deadlines are missed without any overrun.
pub fn tolerance(problem: &LaneProblem) -> Result<Nanos, Failure> {
    let mut trial = problem.clone();
    trial.overrun = Nanos::ZERO;
    decide(&trial)?;
    // A job that waits for nothing still takes J + C + X.
    let room = problem.tasks.iter().map(|task| {
        let alone = task.segments.iter().fold(task.jitter, |sum, segment| sum.saturating_add(*segment));
        task.deadline.saturating_sub(alone).get()
    });
    let (mut holds, mut fails) = (0, room.min().unwrap_or(0).saturating_add(1));
    while fails - holds > 1 {
        let middle = holds + (fails - holds) / 2;
        trial.overrun = Nanos::new(middle);
        if fits(&trial) { holds = middle } else { fails = middle }
    }
    Ok(Nanos::new(holds))
}

/// Claims of response times for overruns from zero to the lane's tolerance, in `rungs` equal steps (at least one).
///
/// # Errors
/// [`Failure`] if deadlines are missed without any overrun.
pub fn ladder(problem: &LaneProblem, rungs: u32) -> Result<Vec<Claim>, Failure> {
    let top = tolerance(problem)?.get();
    let steps = u64::from(rungs.max(2) - 1);
    let mut spans: Vec<u64> = (0..=steps)
        .map(|step| u64::try_from(u128::from(top) * u128::from(step) / u128::from(steps)).unwrap_or(top))
        .collect();
    spans.dedup();
    let mut trial = problem.clone();
    spans
        .into_iter()
        .map(|overrun| {
            trial.overrun = Nanos::new(overrun);
            respond(&trial, Stop::AtDeadline)
        })
        .collect()
}
