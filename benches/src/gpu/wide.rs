//! The fleet with a lane for every task: pairwise slowdowns, naive sharing, and lanes of any grouping without loading
//! anything again.

use aegis_types::{LaneId, Nanos};
use aegisrt::plant::HostPlant;
use serde::{Deserialize, Serialize};

use super::bed::Bed;
use super::card::Gpu;
use super::case::Case;
use super::circuit::Circuit;
use super::contention::Pairs;
use super::error::ExperimentError;
use super::fleet::{FleetPlan, PartitionPlan, TaskPlan};
use super::pace::{Arrivals, PaceRow, Sharing, pace};
use super::saturation::{Enough, beside, pairs, saturate, worst_others};
use super::spread::Spread;
use super::store::Store;
use super::workload::Specimen;
use crate::sets::SplitMix;

/// One load of naive sharing or of lanes without a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadRow {
    /// `naive`, or how many lanes.
    pub sharing: String,
    /// Execution alone over period, in thousandths.
    pub load: u64,
    /// Seconds.
    pub seconds: u64,
    /// What came of it.
    pub outcome: PaceRow,
}

/// What is known of the fleet besides its certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WideReport {
    /// Slowdown of each task beside each other one, in thousandths.
    pub pairs_milli: Vec<Vec<u64>>,
    /// Naive sharing, in the order of the sweep.
    pub naive: Vec<LoadRow>,
    /// Highest load of the fine sweep below its first miss, in thousandths.
    pub naive_clean: u64,
    /// By number of lanes: largest occupancy of each task beside busy lanes, in nanoseconds.
    pub saturated: std::collections::BTreeMap<u16, Vec<u64>>,
    /// Loads beyond what is certified.
    pub overload: Vec<LoadRow>,
}

impl WideReport {
    /// The table of pairs as the search takes it.
    pub fn pairs(&self) -> Pairs {
        let row = |row: &Vec<u64>| row.iter().map(|milli| milli * 1_000).collect();
        Pairs { ppm: self.pairs_milli.iter().map(row).collect() }
    }
}

/// The fleet with a lane for every task.
pub fn plan(gpu: &Gpu, specimens: &[Specimen]) -> FleetPlan {
    let task = |(n, specimen): (usize, &Specimen)| TaskPlan {
        // A fleet of an experiment has tens of tasks.
        lane: Some(n as u16),
        ..TaskPlan::plain(
            specimen.name.clone(),
            specimen.artifact.clone(),
            aegis_types::Bytes::new(specimen.memory),
        )
    };
    FleetPlan {
        name: "wide".into(),
        ordinal: gpu.ordinal,
        partitions: PartitionPlan::whole(gpu.sms, specimens.len() as u16),
        tasks: specimens.iter().enumerate().map(task).collect(),
    }
}

/// The wide bed with its fleet loaded for the time of one visit.
pub struct Wide<'a, 'b> {
    /// Jobs on the lanes.
    pub circuit: &'a mut Circuit<'b, HostPlant>,
    /// Randomness of the visit.
    pub draw: &'a mut SplitMix,
    /// The tasks with their natural periods; budgets are not looked at.
    pub case: &'a Case,
}

/// Loads the fleet with a lane for every task, and hands it over.
///
/// # Errors
/// What device or models refuse; what `visit` says.
pub fn visit<R>(
    gpu: &Gpu,
    store: &Store,
    specimens: &[Specimen],
    case: &Case,
    visit: impl FnOnce(&mut Wide<'_, '_>) -> Result<R, ExperimentError>,
) -> Result<R, ExperimentError> {
    let bed = Bed::open(gpu, store, &plan(gpu, specimens))?;
    let result = bed.drive(|circuit, draw| visit(&mut Wide { circuit, draw, case }));
    bed.close();
    result
}

impl Wide<'_, '_> {
    fn alone(&self) -> Vec<Nanos> {
        self.case.tasks.iter().map(|task| task.alone).collect()
    }

    /// The table of pairs, each for so long.
    ///
    /// # Errors
    /// As [`Circuit::look`].
    pub fn pairs(&mut self, time: Nanos) -> Result<Vec<Vec<u64>>, ExperimentError> {
        let table = pairs(self.circuit, &self.alone(), time, self.draw)?;
        Ok(table.ppm.iter().map(|row| row.iter().map(|ppm| ppm / 1_000).collect()).collect())
    }

    /// Serves one load without a certificate.
    ///
    /// # Errors
    /// As [`Circuit::look`].
    pub fn serve(
        &mut self,
        load: u64,
        sharing: &Sharing,
        seconds: u64,
        until_miss: bool,
    ) -> Result<LoadRow, ExperimentError> {
        let arrivals = arrivals(self.case, load);
        let duration = Nanos::from_millis(seconds * 1_000);
        let outcome = pace(self.circuit, &self.alone(), &arrivals, sharing, duration, until_miss)?;
        Ok(LoadRow { sharing: sharing.name(), load, seconds, outcome })
    }

    /// Raises the load of naive sharing until it misses: coarse steps of 2 s, then steps of 0.05 of 5 s each from a
    /// little below the last clean one. Returns every point, and the highest clean load below the first miss of the fine
    /// sweep.
    ///
    /// # Errors
    /// As [`Circuit::look`].
    pub fn sweep(&mut self, store: &Store) -> Result<(Vec<LoadRow>, u64), ExperimentError> {
        let mut points: Vec<LoadRow> = Vec::new();
        let mut coarse = 0;
        for load in (1_000..=8_000).step_by(250) {
            if !self.is_clean(load, 2, store, &mut points)? {
                break;
            }
            coarse = load;
        }
        // A short run may miss none where a longer one does: the fine sweep begins lower.
        let first = coarse.saturating_sub(150).max(100);
        let mut highest = 0;
        for load in (first..=8_000).step_by(50) {
            if !self.is_clean(load, 5, store, &mut points)? {
                break;
            }
            highest = load;
        }
        // Where it began too high, it goes down until a point is clean.
        let mut load = first;
        while highest == 0 && load > 100 {
            load -= 100.min(load - 100);
            highest = if self.is_clean(load, 5, store, &mut points)? { load } else { 0 };
        }
        Ok((points, highest))
    }

    /// Whether naive sharing meets every deadline at a load. A run that misses is repeated once: a stall of the host
    /// does not count against it.
    fn is_clean(
        &mut self,
        load: u64,
        seconds: u64,
        store: &Store,
        points: &mut Vec<LoadRow>,
    ) -> Result<bool, ExperimentError> {
        for _ in 0..2 {
            let point = self.serve(load, &Sharing::Naive, seconds, true)?;
            let clean = point.outcome.is_clean();
            tell(store, &point);
            points.push(point);
            if clean {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The largest occupancy of each task on so many busy lanes: `draws` random groupings in random order, and in each
    /// every task once beside the worst task of every other group.
    ///
    /// # Errors
    /// As [`Circuit::look`].
    pub fn saturated(
        &mut self,
        lanes: u16,
        draws: u32,
        time: Nanos,
        pairs: &Pairs,
    ) -> Result<Vec<u64>, ExperimentError> {
        let count = self.case.tasks.len();
        let mut most = vec![Spread::new(); count];
        for _ in 0..draws {
            let groups = random_groups(count, lanes.into(), self.draw);
            let spreads = saturate(self.circuit, &groups, time, self.draw)?;
            most.iter_mut().zip(&spreads).for_each(|(most, spread)| most.merge(spread));
            let each = Nanos::new(time.get() / count.max(1) as u64);
            for (victim, most) in most.iter_mut().enumerate() {
                let others = worst_others(victim, &groups, pairs);
                let enough = Enough { jobs: 50, time: each };
                most.merge(&beside(self.circuit, victim, &[], &others, enough, self.draw)?);
            }
        }
        Ok(most.iter().map(|spread| spread.max().get()).collect())
    }
}

fn tell(store: &Store, point: &LoadRow) {
    let PaceRow { jobs, misses, unfinished, slowdown_milli, .. } = point.outcome;
    let (load, slowdown) = (point.load as f64 / 1e3, slowdown_milli as f64 / 1e3);
    store.tell(&format!(
        "naive at {load:.2}: {misses} of {jobs} missed, {unfinished} unfinished, slowdown {slowdown:.1}"
    ));
}

/// When jobs of the case arrive at a load: as in the sets that are certified.
pub fn arrivals(case: &Case, load: u64) -> Arrivals {
    let periods = case.periods(load);
    let offset = |(period, task): (&Nanos, &super::case::Open)| task.offset(*period);
    let offsets = periods.iter().zip(&case.tasks).map(offset).collect();
    Arrivals { periods, offsets }
}

/// Tasks dealt out at random, about as many to each group.
fn random_groups(count: usize, groups: usize, draw: &mut SplitMix) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..count).collect();
    for at in (1..count).rev() {
        order.swap(at, draw.between(0, at as u64) as usize);
    }
    let mut dealt = vec![Vec::new(); groups.max(1)];
    for (position, task) in order.into_iter().enumerate() {
        dealt[position % groups.max(1)].push(task);
    }
    dealt
}

/// The groups of an assignment.
pub fn groups(lanes: &[LaneId], count: usize) -> Vec<Vec<usize>> {
    let mut groups = vec![Vec::new(); count];
    for (task, lane) in lanes.iter().enumerate() {
        if let Some(group) = groups.get_mut(lane.index()) {
            group.push(task);
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use aegis_sched::Arrival;

    use super::super::case::tests::case;
    use super::*;

    #[test]
    fn arrivals_are_those_of_the_certified_set() {
        let case = case(12, 3);
        for load in [700, 1_850] {
            let arrivals = arrivals(&case, load);
            let set = case.set(load, &[LaneId::default(); 12]).expect("a set");
            for (position, task) in set.tasks().iter().enumerate() {
                let Arrival::Periodic { offset } = task.arrival else { panic!("periodic") };
                assert_eq!(arrivals.periods[position], task.period);
                assert_eq!(arrivals.offsets[position], offset);
            }
        }
    }

    #[test]
    fn groups_hold_every_task_once() {
        let mut draw = SplitMix(9);
        for lanes in [1, 3, 8] {
            let groups = random_groups(20, lanes, &mut draw);
            let mut all: Vec<usize> = groups.iter().flatten().copied().collect();
            all.sort_unstable();
            assert_eq!(all, (0..20).collect::<Vec<_>>());
            assert!(groups.iter().all(|group| group.len().abs_diff(20 / lanes) <= 1));
        }
        let lanes = [2, 0, 2].map(LaneId::new);
        assert_eq!(groups(&lanes, 3), [vec![1], vec![], vec![0, 2]]);
    }
}
