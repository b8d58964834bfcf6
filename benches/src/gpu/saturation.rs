//! Lanes kept busy back to back: execution alone, pairwise slowdowns, and occupancies beside every other lane.
//!
//! A group is a lane in the analysis's sense: at most one of its tasks is in flight. Groups may be smaller or larger
//! than the device's own lanes as long as their tasks stand on different ones, so that assignments are tried without
//! loading anything again.

use aegis_types::{Nanos, Time};

use super::circuit::{Circuit, Lanes};
use super::contention::{NONE, Pairs};
use super::error::ExperimentError;
use super::spread::Spread;
use crate::sets::SplitMix;

/// When a measurement is over: at this many jobs of its victim or after this time, whichever is first.
#[derive(Clone, Copy, Debug)]
pub struct Enough {
    /// Jobs of the victim.
    pub jobs: u64,
    /// Time.
    pub time: Nanos,
}

/// Jobs of a victim that are run before any is counted.
const WARM_UP: u64 = 3;

/// Keeps every group busy with its tasks in random order for so long. Returns the occupancies, by task.
///
/// # Errors
/// As [`Circuit::look`].
pub fn saturate<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    groups: &[Vec<usize>],
    time: Nanos,
    draw: &mut SplitMix,
) -> Result<Vec<Spread>, ExperimentError> {
    let mut spreads = vec![Spread::new(); circuit.tasks().len()];
    let end = circuit.now().saturating_add(time);
    let mut busy = vec![false; groups.len()];
    let group_of = group_of(circuit.tasks().len(), groups);
    while circuit.now() < end {
        for (group, tasks) in groups.iter().enumerate() {
            if !busy[group]
                && let Some(task) = any(tasks, draw)
            {
                circuit.start(task);
                busy[group] = true;
            }
        }
        circuit.look(|ended| {
            spreads[ended.task].add(ended.occupancy());
            if let Some(group) = group_of[ended.task] {
                busy[group] = false;
            }
        })?;
        circuit.rest();
    }
    circuit.settle()?;
    Ok(spreads)
}

/// Runs a victim again and again, each time after one of its `mates`, while every one of `others` runs back to back.
/// All stand on different lanes, but for victim and mates, which take turns.
///
/// # Errors
/// As [`Circuit::look`].
pub fn beside<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    victim: usize,
    mates: &[usize],
    others: &[usize],
    enough: Enough,
    draw: &mut SplitMix,
) -> Result<Spread, ExperimentError> {
    let mut spread = Spread::new();
    let end = circuit.now().saturating_add(enough.time);
    // What takes its turn on the victim's side; the victim begins.
    let mut turn = Some(victim);
    let mut runs = 0;
    while spread.count() < enough.jobs && (circuit.now() < end || spread.count() == 0) {
        if let Some(task) = turn.take() {
            circuit.start(task);
        }
        for &other in others {
            if circuit.is_free(other) {
                circuit.start(other);
            }
        }
        let mut landed = None;
        circuit.look(|ended| {
            if ended.task == victim {
                runs += 1;
                if runs > WARM_UP {
                    spread.add(ended.occupancy());
                }
            }
            if ended.task == victim || mates.contains(&ended.task) {
                landed = Some(ended.task);
            }
        })?;
        turn = landed.map(|task| if task == victim { any(mates, draw).unwrap_or(victim) } else { victim });
        if turn.is_none() {
            circuit.rest();
        }
    }
    circuit.settle()?;
    Ok(spread)
}

/// Every task with the device to itself, back to back.
///
/// # Errors
/// As [`Circuit::look`].
pub fn alone<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    enough: Enough,
    draw: &mut SplitMix,
) -> Result<Vec<Spread>, ExperimentError> {
    (0..circuit.tasks().len()).map(|task| beside(circuit, task, &[], &[], enough, draw)).collect()
}

/// The slowdown of every task beside every other one: median beside it over median alone. The tasks of a pair stand on
/// different lanes; a pair that does not is left at no slowdown.
///
/// # Errors
/// As [`Circuit::look`].
pub fn pairs<L: Lanes>(
    circuit: &mut Circuit<'_, L>,
    alone: &[Nanos],
    time: Nanos,
    draw: &mut SplitMix,
) -> Result<Pairs, ExperimentError> {
    let count = circuit.tasks().len();
    let mut table = Pairs::harmless(count);
    for one in 0..count {
        for other in one + 1..count {
            if circuit.tasks()[one].lane == circuit.tasks()[other].lane {
                continue;
            }
            let spreads = saturate(circuit, &[vec![one], vec![other]], time, draw)?;
            for (victim, beside) in [(one, other), (other, one)] {
                table.ppm[victim][beside] = slowdown(spreads[victim].quantile(0.5), alone[victim]);
            }
        }
    }
    Ok(table)
}

/// `contended` over `alone` in millionths, at least one.
pub fn slowdown(contended: Nanos, alone: Nanos) -> u64 {
    let ppm = u128::from(contended.get()) * u128::from(NONE) / u128::from(alone.get().max(1));
    u64::try_from(ppm).unwrap_or(u64::MAX).max(NONE)
}

/// The harshest pair of each group but the victim's, which is what the search for a worst mix begins with.
pub fn worst_others(victim: usize, groups: &[Vec<usize>], pairs: &Pairs) -> Vec<usize> {
    let others = groups.iter().filter(|group| !group.contains(&victim));
    others
        .filter_map(|group| group.iter().copied().max_by_key(|&task| (pairs.ppm[victim][task], task)))
        .collect()
}

fn any(tasks: &[usize], draw: &mut SplitMix) -> Option<usize> {
    let last = tasks.len().checked_sub(1)?;
    tasks.get(draw.between(0, last as u64) as usize).copied()
}

fn group_of(tasks: usize, groups: &[Vec<usize>]) -> Vec<Option<usize>> {
    (0..tasks).map(|task| groups.iter().position(|group| group.contains(&task))).collect()
}

/// The end of a span from here, for loops that are cut into parts.
pub fn until(now: Time, seconds: f64) -> Time {
    now.saturating_add(Nanos::new((seconds.max(0.0) * 1e9) as u64))
}

#[cfg(test)]
mod tests {
    use super::super::circuit::tests::{VirtualLanes, carried};
    use super::*;

    fn micros(spans: &[u64]) -> Vec<Nanos> {
        spans.iter().map(|us| Nanos::from_micros(*us)).collect()
    }

    fn near(found: Nanos, expected: u64) -> bool {
        (found.as_micros_f64() - expected as f64).abs() < 0.05 * expected as f64 + 2.0
    }

    #[test]
    fn alone_is_alone_and_beside_is_beside() {
        let lengths = micros(&[100, 200, 300]);
        let mut lanes = VirtualLanes::new(lengths.clone(), 3);
        let tasks = carried(3, true);
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        let mut draw = SplitMix(1);
        let enough = Enough { jobs: 40, time: Nanos::from_millis(100) };
        let spreads = alone(&mut circuit, enough, &mut draw).expect("nothing fails");
        for (spread, length) in spreads.iter().zip([100, 200, 300]) {
            assert!(near(spread.max(), length) && spread.count() == 40, "{:?}", spread.row());
        }
        let spread = beside(&mut circuit, 0, &[], &[1, 2], enough, &mut draw).expect("nothing fails");
        assert!(near(spread.max(), 200), "two others in flight double it: {:?}", spread.row());
        let table = pairs(&mut circuit, &lengths, Nanos::from_millis(20), &mut draw).expect("nothing fails");
        assert!(table.ppm[0][1].abs_diff(1_500_000) < 60_000, "{table:?}");
        assert_eq!(table.ppm[1][1], NONE);
    }

    #[test]
    fn a_group_has_one_job_in_flight() {
        let mut lanes = VirtualLanes::new(micros(&[100; 6]), 6);
        let tasks = carried(6, true);
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        let groups = [vec![0, 1, 2], vec![3, 4, 5]];
        let spreads =
            saturate(&mut circuit, &groups, Nanos::from_millis(30), &mut SplitMix(3)).expect("runs");
        assert!(spreads.iter().all(|spread| spread.count() > 20));
        assert_eq!(lanes.crowd_max, 2);
    }

    #[test]
    fn mates_run_between_the_victims_runs() {
        let mut lanes = VirtualLanes::new(micros(&[100, 50, 10]), 2);
        let mut tasks = carried(3, false);
        tasks[2].lane = aegis_types::LaneId::new(1);
        let mut circuit = Circuit::new(&mut lanes, &tasks);
        let enough = Enough { jobs: 20, time: Nanos::from_millis(50) };
        let begin = circuit.now();
        let spread = beside(&mut circuit, 0, &[1], &[2], enough, &mut SplitMix(5)).expect("runs");
        let took = circuit.now().since(begin);
        assert_eq!(spread.count(), 20);
        assert!(took > Nanos::from_micros(23 * 150), "a mate ran after each: {took}");
    }

    #[test]
    fn the_worst_of_every_other_group_is_chosen() {
        let mut pairs = Pairs::harmless(5);
        pairs.ppm[0] = vec![NONE, 9 * NONE, 2 * NONE, 3 * NONE, NONE];
        let groups = [vec![0, 1], vec![2, 3], vec![4]];
        assert_eq!(worst_others(0, &groups, &pairs), [3, 4]);
    }
}
