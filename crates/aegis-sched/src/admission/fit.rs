//! Periods at which a set is certified: natural ones where possible, longer ones where not.

use aegis_types::Nanos;

use super::trial::{Trial, least_fitting};
use crate::analysis::problem::LaneProblem;
use crate::model::TaskSet;
use crate::platform::charge;
use crate::policy::SchedulingPolicy;

/// Periods, by task, at which every lane meets its deadlines: the larger of the natural period and the shortest at
/// which the lane is certified, rounded up to a multiple of `granularity`. Deadlines that equal their period move
/// along.
///
/// Per lane the least common floor under all periods is found first, then each task in turn, shortest natural period
/// first and ties by number, goes back towards its natural period as far as the lane allows. `None` if no periods
/// up to nine years fit.
pub fn fit_periods(set: &TaskSet, policy: &dyn SchedulingPolicy, granularity: Nanos) -> Option<Vec<Nanos>> {
    let charged = charge(set).ok()?;
    let step = granularity.get().max(1);
    let mut periods = vec![Nanos::ZERO; set.tasks().len()];
    for problem in LaneProblem::of_lanes(set, charged, policy) {
        let mut trial = Trial::new(set, policy, problem);
        fit_lane(&mut trial, step)?;
        for (position, task) in trial.natural().iter().enumerate() {
            periods[task.id.index()] = trial.period(position);
        }
    }
    Some(periods)
}

fn fit_lane(trial: &mut Trial<'_>, step: u64) -> Option<()> {
    let natural = trial
        .natural()
        .iter()
        .map(|task| task.period.get().checked_next_multiple_of(step))
        .collect::<Option<Vec<u64>>>()?;
    let Some(&shortest) = natural.iter().min() else { return Some(()) };
    let raise = |trial: &mut Trial<'_>, floor: u64| {
        for (position, &period) in natural.iter().enumerate() {
            trial.set_period(position, Nanos::new(period.max(floor)));
        }
    };
    let floor = least_fitting(shortest, step, |floor| {
        raise(trial, floor);
        trial.fits()
    })?;
    raise(trial, floor);

    let mut order: Vec<usize> = (0..natural.len()).filter(|&position| natural[position] < floor).collect();
    order.sort_by_key(|&position| (natural[position], position));
    for position in order {
        let fitted = least_fitting(natural[position], step, |period| {
            trial.set_period(position, Nanos::new(period.min(floor)));
            trial.fits()
        });
        trial.set_period(position, Nanos::new(fitted.unwrap_or(floor).min(floor)));
    }
    Some(())
}
