//! Thirty tasks on a device whose lanes slow each other down.
//!
//! Executions alone, slowdowns and shares are drawn from a seed; deadlines equal periods, and periods are scaled
//! together until the fleet just fits. The slowdowns are those that one GPU showed for so many busy lanes, spread
//! over the tasks: the most sensitive task suffers all of it, the least sensitive one half.

use aegis_sched::assign::ContendedBudgets;
use aegis_sched::{Arrival, ModelError, Overheads, PartitionModel, Platform, Task, TaskSet};
use aegis_types::{LaneId, Nanos, TaskId};

use crate::sets::{SplitMix, task};

/// Tasks of a fleet.
pub const TASKS: u16 = 30;

/// Lanes with the slowdown of the most sensitive task beside all others busy, in thousandths.
pub const SLOWDOWNS: [(u16, u64); 4] = [(2, 2_000), (4, 3_000), (6, 3_400), (8, 3_800)];

/// A fleet whose periods are open.
#[derive(Clone, Debug)]
pub struct Fleet {
    /// Execution alone, by task: 0.3 to 1.9 ms.
    pub alone: Vec<Nanos>,
    /// Part of the load that each task asks for; only their ratios count.
    shares: Vec<u64>,
    /// Slowdown in thousandths of the most sensitive task's: 500 to 1,000.
    sensitivity: Vec<u64>,
    /// What each task adds to another's execution, by victim and then by co-runner; only ratios within a row count.
    harm: Vec<Vec<u64>>,
}

impl Fleet {
    /// The fleet of a seed.
    pub fn draw(seed: u64) -> Self {
        let mut draw = SplitMix(seed);
        let mut each = |low, high| -> Vec<u64> { (0..TASKS).map(|_| draw.between(low, high)).collect() };
        let alone = each(300_000, 1_900_000).into_iter().map(Nanos::new).collect();
        let (shares, sensitivity) = (each(500, 1_500), each(500, 1_000));
        let harm = (0..TASKS).map(|_| each(250, 1_000)).collect();
        Self { alone, shares, sensitivity, harm }
    }

    /// Slowdown of each task beside so many lanes less one, all busy, in thousandths of its execution alone.
    /// `most` is that of the most sensitive task.
    pub fn slowdowns(&self, most: u64) -> Vec<u64> {
        self.sensitivity.iter().map(|part| (most * part).div_ceil(1_000).max(1_000)).collect()
    }

    /// Periods at a load in thousandths, rounded up.
    pub fn periods(&self, load: u64) -> Vec<Nanos> {
        let total: u128 = self.shares.iter().copied().map(u128::from).sum();
        let period = |(alone, share): (&Nanos, &u64)| {
            let scaled = u128::from(alone.get()) * total * 1_000;
            let per = u128::from(*share) * u128::from(load.max(1));
            Nanos::new(u64::try_from(scaled.div_ceil(per)).unwrap_or(u64::MAX))
        };
        self.alone.iter().zip(&self.shares).map(period).collect()
    }

    /// The task set at a load with these slowdowns, all on the first of so many lanes.
    ///
    /// # Errors
    /// Never in practice: every number is legal.
    pub fn set(&self, load: u64, lanes: u16, slowdowns: &[u64]) -> Result<TaskSet, ModelError> {
        let platform =
            Platform::new(vec![PartitionModel { name: "all".into(), lanes }], Overheads::default())?;
        let periods = self.periods(load);
        let member = |(number, alone): (u16, &Nanos)| {
            let period = periods[usize::from(number)];
            let bound = scaled(*alone, slowdowns[usize::from(number)]);
            Task { arrival: Arrival::Sporadic, ..task(number, period, bound) }
        };
        TaskSet::new((0..TASKS).zip(&self.alone).map(member).collect(), platform)
    }

    /// The table of who hurts whom, scaled so that no assignment to so many lanes slows a task down more than
    /// `slowdowns` says, and the worst ones do.
    pub fn company(&self, lanes: u16, slowdowns: &[u64]) -> Company {
        let others = usize::from(lanes).saturating_sub(1);
        let row = |(victim, harm): (usize, &Vec<u64>)| {
            let mut worst: Vec<u64> = harm
                .iter()
                .enumerate()
                .filter(|(other, _)| *other != victim)
                .map(|(_, harm)| *harm)
                .collect();
            worst.sort_unstable_by(|a, b| b.cmp(a));
            let most: u64 = worst.iter().take(others).sum();
            let added = slowdowns[victim].saturating_sub(1_000) * PPM_OF_MILLI;
            harm.iter().map(|harm| harm * added / most.max(1)).collect()
        };
        let added = self.harm.iter().enumerate().map(row).collect();
        Company { alone: self.alone.clone(), added }
    }
}

const PPM_OF_MILLI: u64 = 1_000;

/// A span times thousandths, rounded up.
fn scaled(span: Nanos, milli: u64) -> Nanos {
    span.scale_ppm_up(milli * PPM_OF_MILLI).unwrap_or(Nanos::MAX)
}

/// Budgets by company: from every other lane the worst of its tasks adds its part.
#[derive(Clone, Debug)]
pub struct Company {
    alone: Vec<Nanos>,
    /// Millionths of the victim's execution alone, by victim and then by co-runner.
    added: Vec<Vec<u64>>,
}

/// The most lanes that [`SLOWDOWNS`] knows.
const LANES_MAX: usize = 8;

impl ContendedBudgets for Company {
    fn budgets(&self, task: TaskId, lanes: &[Option<LaneId>], segments: &mut [Nanos]) {
        let (victim, own) = (task.index(), lanes[task.index()]);
        let mut worst = [0u64; LANES_MAX];
        for (added, lane) in self.added[victim].iter().zip(lanes) {
            if let (Some(lane), true) = (lane, *lane != own) {
                let worst = &mut worst[lane.index()];
                *worst = (*worst).max(*added);
            }
        }
        // Parts were rounded down one by one: a millionth each makes up for it.
        let slowdown = 1_000_000 + worst.iter().map(|added| added + 1).sum::<u64>();
        segments.fill(self.alone[victim].scale_ppm_up(slowdown).unwrap_or(Nanos::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_are_what_they_are_called() {
        for seed in 1..=5 {
            let fleet = Fleet::draw(seed);
            for load in [500, 1_000, 2_600] {
                let shares = fleet.alone.iter().zip(fleet.periods(load));
                let sum: f64 = shares.map(|(alone, period)| alone.get() as f64 / period.get() as f64).sum();
                assert!((sum * 1e3 - load as f64).abs() < 0.1, "seed {seed}: {sum} for {load}");
            }
        }
    }

    #[test]
    fn no_company_is_worse_than_the_slowdown_and_some_is_as_bad() {
        let fleet = Fleet::draw(3);
        let slowdowns = fleet.slowdowns(3_800);
        let company = fleet.company(8, &slowdowns);
        let budget = |lanes: &[Option<LaneId>], victim: usize| {
            let mut segments = [Nanos::ZERO];
            company.budgets(TaskId::new(victim as u16), lanes, &mut segments);
            segments[0].get()
        };
        let mut draw = SplitMix(11);
        for victim in 0..usize::from(TASKS) {
            let most = scaled(fleet.alone[victim], slowdowns[victim]).get();
            // Roundings of eight parts, a millionth each.
            let most = most + most / 100_000;
            for _ in 0..200 {
                let lanes: Vec<_> =
                    (0..TASKS).map(|_| Some(LaneId::new(draw.between(0, 7) as u16))).collect();
                assert!(budget(&lanes, victim) <= most);
            }
            // The seven worst alone on a lane each.
            let mut others: Vec<usize> = (0..usize::from(TASKS)).filter(|&other| other != victim).collect();
            others.sort_by_key(|&other| std::cmp::Reverse(fleet.harm[victim][other]));
            let mut lanes = vec![None; usize::from(TASKS)];
            lanes[victim] = Some(LaneId::new(0));
            (1..8).zip(&others).for_each(|(lane, &other)| lanes[other] = Some(LaneId::new(lane)));
            let worst = budget(&lanes, victim);
            assert!(worst <= most && worst * 1_000 >= most * 999, "{victim}: {worst} of {most}");
        }
    }
}
