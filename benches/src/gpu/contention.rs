//! Who hurts whom: a table of pairwise slowdowns, what it predicts for an assignment, and a search that uses it.
//!
//! The table only guides the search. Pairs do not add up to a bound, so every assignment that is found is measured
//! again before its budgets enter a certificate.

use aegis_types::{LaneId, Nanos};

use super::case::{Case, Fitted};
use crate::sets::SplitMix;

/// Slowdown of a task beside another, in millionths: 1,000,000 is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pairs {
    /// By victim, then by co-runner.
    pub ppm: Vec<Vec<u64>>,
}

/// No slowdown.
pub const NONE: u64 = 1_000_000;

impl Pairs {
    /// A table in which nobody hurts anybody.
    pub fn harmless(tasks: usize) -> Self {
        Self { ppm: vec![vec![NONE; tasks]; tasks] }
    }

    /// What is added to a task's execution, in millionths of it: from every other lane the worst of its tasks.
    fn added(&self, victim: usize, lanes: &[LaneId], count: usize) -> u64 {
        let mut worst = vec![0u64; count];
        for (other, lane) in lanes.iter().enumerate() {
            if *lane != lanes[victim]
                && let Some(worst) = worst.get_mut(lane.index())
            {
                *worst = (*worst).max(self.ppm[victim][other].saturating_sub(NONE));
            }
        }
        worst.iter().fold(0, |sum, part| sum.saturating_add(*part))
    }
}

/// What is expected of an assignment, from pairs and one measurement of all lanes busy.
#[derive(Clone, Debug)]
pub struct Forecast {
    pairs: Pairs,
    /// By task: measured addition over predicted addition, in millionths.
    scale: Vec<u64>,
}

impl Forecast {
    /// A forecast that meets `measured` (slowdowns in millionths, by task) on the assignment they were measured on.
    pub fn new(pairs: Pairs, measured: &[u64], lanes: &[LaneId], count: usize) -> Self {
        let scale = measured
            .iter()
            .enumerate()
            .map(|(victim, &slowdown)| {
                // A pair table without any addition says nothing; 1 % stands for it, so that the scale stays finite.
                let added = pairs.added(victim, lanes, count).max(NONE / 100);
                let seen = slowdown.saturating_sub(NONE);
                u64::try_from(u128::from(seen) * u128::from(NONE) / u128::from(added)).unwrap_or(u64::MAX)
            })
            .collect();
        Self { pairs, scale }
    }

    /// Expected slowdown of a task, in millionths.
    pub fn slowdown(&self, victim: usize, lanes: &[LaneId], count: usize) -> u64 {
        let added = self.pairs.added(victim, lanes, count).max(NONE / 100);
        let scaled = u128::from(added) * u128::from(self.scale[victim]) / u128::from(NONE);
        NONE.saturating_add(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// Expected budgets of every task under an assignment.
    pub fn budgets(&self, case: &Case, lanes: &[LaneId], count: usize) -> Vec<Vec<Nanos>> {
        let budget = |(victim, task): (usize, &super::case::Open)| {
            let whole = task.alone.scale_ppm_up(self.slowdown(victim, lanes, count)).unwrap_or(Nanos::MAX);
            share(whole, &task.budgets)
        };
        case.tasks.iter().enumerate().map(budget).collect()
    }
}

/// A job's budget shared out over its segments as `like` is, rounded up.
fn share(whole: Nanos, like: &[Nanos]) -> Vec<Nanos> {
    let sum: u128 = like.iter().map(|part| u128::from(part.get())).sum::<u128>().max(1);
    let part = |part: &Nanos| {
        let share = (u128::from(whole.get()) * u128::from(part.get())).div_ceil(sum);
        Nanos::new(u64::try_from(share).unwrap_or(u64::MAX))
    };
    like.iter().map(part).collect()
}

/// Searches lanes near `start` that are expected to carry more: one task is moved, or two change places, and what is
/// no worse is kept. Deterministic for a seed.
pub fn improve(
    case: &Case,
    forecast: &Forecast,
    start: &[LaneId],
    tries: u32,
    seed: u64,
    most: u64,
) -> Fitted {
    let most = most.min(case.platform.lanes() as u64 * 1_000);
    let worth = |case: &Case, lanes: &[LaneId]| case.quick_capacity(lanes, most);
    let (load, lanes) = climb(case, forecast, start, tries, seed, worth);
    Fitted { load, lanes }
}

/// Searches lanes near `start` on which bounds at a load are expected to be farther below deadlines, and says how far: see
/// [`Case::quick_slack`]. Otherwise as [`improve`].
pub fn relax(
    case: &Case,
    forecast: &Forecast,
    start: &[LaneId],
    tries: u32,
    seed: u64,
    load: u64,
) -> (u64, Vec<LaneId>) {
    climb(case, forecast, start, tries, seed, |case, lanes| case.quick_slack(lanes, load))
}

/// Walks from `start` to lanes that are worth more, with the budgets that are expected on them.
fn climb(
    case: &Case,
    forecast: &Forecast,
    start: &[LaneId],
    tries: u32,
    seed: u64,
    worth: impl Fn(&Case, &[LaneId]) -> u64,
) -> (u64, Vec<LaneId>) {
    let count = case.platform.lanes();
    let worth = |lanes: &[LaneId]| worth(&case.with_budgets(&forecast.budgets(case, lanes, count)), lanes);
    let mut draw = SplitMix(seed);
    let mut best = (worth(start), start.to_vec());
    for _ in 0..tries {
        let mut lanes = best.1.clone();
        disturb(case, &mut lanes, &mut draw);
        if lanes == best.1 {
            continue;
        }
        let found = worth(&lanes);
        // Equal ones are taken too: a plateau is left only by walking on it.
        if found >= best.0 {
            best = (found, lanes);
        }
    }
    best
}

fn disturb(case: &Case, lanes: &mut [LaneId], draw: &mut SplitMix) {
    let Some(last) = lanes.len().checked_sub(1) else { return };
    let pick = |draw: &mut SplitMix| draw.between(0, last as u64) as usize;
    let one = pick(draw);
    if draw.between(0, 1) == 0 {
        let allowed = &case.tasks[one].lanes;
        let lane = draw.between(0, allowed.len().saturating_sub(1) as u64) as usize;
        lanes[one] = allowed.get(lane).copied().unwrap_or(lanes[one]);
        return;
    }
    let other = pick(draw);
    let may = |task: usize, lane: LaneId| case.tasks[task].lanes.contains(&lane);
    if may(one, lanes[other]) && may(other, lanes[one]) {
        lanes.swap(one, other);
    }
}

#[cfg(test)]
mod tests {
    use super::super::case::Fit;
    use super::super::case::tests::case;
    use super::*;

    /// Tasks `a` and `b` with the same parity double each other; others do no harm.
    fn planted(tasks: usize) -> Pairs {
        let mut pairs = Pairs::harmless(tasks);
        for victim in 0..tasks {
            for other in 0..tasks {
                if victim % 2 == other % 2 {
                    pairs.ppm[victim][other] = 2 * NONE;
                }
            }
        }
        pairs
    }

    #[test]
    fn a_forecast_meets_the_measurement_it_was_made_from() {
        let lanes: Vec<LaneId> = (0..8).map(|n| LaneId::new(n / 2)).collect();
        let measured: Vec<u64> = (0..8).map(|n| NONE + n * 300_000).collect();
        let forecast = Forecast::new(planted(8), &measured, &lanes, 4);
        for (victim, expected) in measured.iter().enumerate() {
            let slowdown = forecast.slowdown(victim, &lanes, 4);
            assert!(slowdown.abs_diff(*expected) < 10, "{victim}: {slowdown} and {expected}");
        }
    }

    #[test]
    fn only_the_worst_of_a_lane_counts_and_the_own_lane_does_not() {
        let mut pairs = Pairs::harmless(4);
        pairs.ppm[0] = vec![NONE, 1_500_000, 1_300_000, 1_200_000];
        let lane = |n: u16| LaneId::new(n);
        assert_eq!(pairs.added(0, &[lane(0), lane(1), lane(1), lane(2)], 3), 700_000);
        assert_eq!(pairs.added(0, &[lane(0), lane(0), lane(1), lane(1)], 3), 300_000);
    }

    #[test]
    fn the_search_puts_tasks_that_hurt_each_other_on_one_lane() {
        let case = case(8, 2);
        let start: Vec<LaneId> = (0..8).map(|n| LaneId::new(n / 4)).collect();
        // Beside a busy lane of the other kind nobody is slowed down.
        let measured = vec![2 * NONE; 8];
        let forecast = Forecast::new(planted(8), &measured, &start, 2);
        let found = improve(&case, &forecast, &start, 3_000, 7, 4_000);
        let before = case
            .with_budgets(&forecast.budgets(&case, &start, 2))
            .capacity(&Fit::Fixed(start), 10, 4_000)
            .map_or(0, |fitted| fitted.load);
        assert!(found.load * 2 > before * 3, "{} is not far above {before}", found.load);
        for task in 0..8 {
            assert_eq!(found.lanes[task] == found.lanes[0], task % 2 == 0, "{:?}", found.lanes);
        }
    }

    #[test]
    fn lanes_are_found_on_which_bounds_are_farther_below_deadlines() {
        let case = case(8, 2);
        let start: Vec<LaneId> = (0..8).map(|n| LaneId::new(n / 4)).collect();
        let forecast = Forecast::new(planted(8), &[2 * NONE; 8], &start, 2);
        let slack =
            |lanes: &[LaneId]| case.with_budgets(&forecast.budgets(&case, lanes, 2)).quick_slack(lanes, 200);
        let (found, lanes) = relax(&case, &forecast, &start, 2_000, 7, 200);
        assert_eq!(found, slack(&lanes));
        assert!(found > slack(&start), "{found} and {}", slack(&start));
    }

    #[test]
    fn budgets_are_shared_out_and_never_rounded_down() {
        let parts = share(Nanos::new(10), &[Nanos::new(1), Nanos::new(2)]);
        assert_eq!(parts, [Nanos::new(4), Nanos::new(7)]);
    }
}
