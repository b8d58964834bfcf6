//! The task sets that are decided on: seeded, the same on every machine.

use aegis_sched::{
    Arrival, Basis, Criticality, ModelError, OccupancyBudget, OnOverrun, Overheads, PartitionModel, Platform,
    Task, TaskSet,
};
use aegis_types::{LaneId, Nanos, TaskId};

/// Distance of two critical instants of [`rounds`].
pub const ROUND: Nanos = Nanos::from_millis(10);

/// Occupancy budget of every task of [`rounds`].
pub const SEGMENT: Nanos = Nanos::from_micros(100);

/// SplitMix64 (Steele, Lea, Flood 2014).
#[derive(Clone, Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    pub fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number from `low` to `high`, both included; `low` if they are the wrong way round.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next_word() % (high.saturating_sub(low).saturating_add(1)).max(1)
    }
}

/// `count` tasks on one lane that can all be released at once, once every [`ROUND`]: every second one by its timer,
/// the others by clients. Deadlines and priorities all differ; the runtime is free, so that a rig tells stamps of its
/// own choosing.
///
/// # Errors
/// [`ModelError`] for more tasks than a set may hold.
pub fn rounds(count: u16) -> Result<TaskSet, ModelError> {
    let tasks = (0..count).map(|number| {
        let sporadic = number % 2 == 1;
        let shorter = Nanos::from_micros(u64::from(number) * 50);
        let mut task =
            task(number, ROUND.saturating_sub(if sporadic { shorter } else { Nanos::ZERO }), SEGMENT);
        task.deadline = ROUND.saturating_sub(shorter);
        task.priority = Some(u32::from(count - number));
        if sporadic {
            task.arrival = Arrival::Sporadic;
        }
        task
    });
    TaskSet::new(tasks.collect(), one_lane(Overheads::default())?)
}

/// `count` tasks on one lane that use `utilisation_ppm` millionths of it before overheads. Periods are log-uniform
/// from 10 to 100 ms, utilisations a uniform point of the simplex, deadlines 80 to 100 % of the period, one task in
/// three has release jitter.
///
/// # Errors
/// [`ModelError`] for more tasks than a set may hold.
pub fn random_lane(seed: u64, count: u16, utilisation_ppm: u64) -> Result<TaskSet, ModelError> {
    let mut draw = SplitMix(seed);
    let shares = simplex(&mut draw, count.into(), utilisation_ppm);
    let tasks = (0..count).zip(shares).map(|(number, share)| {
        let period = log_uniform(&mut draw, 10_000_000, 100_000_000);
        let cost = (period / 1_000 * share / 1_000).max(1_000);
        let mut task = task(number, Nanos::new(period), Nanos::new(cost));
        task.deadline = Nanos::new(period / 100 * draw.between(80, 100));
        task.jitter = Nanos::new(if number % 3 == 0 { draw.between(0, period / 20) } else { 0 });
        task
    });
    let step = Nanos::new(500);
    let overheads = Overheads {
        poll: step,
        release: Nanos::new(100),
        completion: step,
        decision: step,
        dispatch: step,
        handoff: Nanos::from_micros(5),
        wakeup: Nanos::from_micros(10),
        ..Overheads::default()
    };
    TaskSet::new(tasks.collect(), one_lane(overheads)?)
}

fn one_lane(overheads: Overheads) -> Result<Platform, ModelError> {
    Platform::new(vec![PartitionModel { name: "all".into(), lanes: 1 }], overheads)
}

/// A periodic task of one declared segment on the first lane, its deadline its period.
pub(crate) fn task(number: u16, period: Nanos, cost: Nanos) -> Task {
    Task {
        id: TaskId::new(number),
        name: format!("task_{number}"),
        lane: LaneId::new(0),
        period,
        deadline: period,
        jitter: Nanos::ZERO,
        arrival: Arrival::Periodic { offset: Nanos::ZERO },
        segments: vec![OccupancyBudget { bound: cost, basis: Basis::Declared }],
        priority: None,
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Skip,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    }
}

/// A uniform draw that is kept with a probability proportional to its inverse.
fn log_uniform(draw: &mut SplitMix, low: u64, high: u64) -> u64 {
    loop {
        let value = draw.between(low, high);
        if draw.between(1, value) <= low {
            return value;
        }
    }
}

/// `count` parts of `total`, uniform over the simplex, by cutting a stick at sorted places.
fn simplex(draw: &mut SplitMix, count: usize, total: u64) -> Vec<u64> {
    let mut cuts: Vec<u64> = (1..count).map(|_| draw.between(0, total)).collect();
    cuts.extend([0, total]);
    cuts.sort_unstable();
    cuts.windows(2).take(count).map(|pair| pair[1] - pair[0]).collect()
}

#[cfg(test)]
mod tests {
    use aegis_sched::policy::by_name;
    use aegis_sched::{AdmissionController, AdmissionRequest, POLICIES};

    use super::*;

    #[test]
    fn rounds_are_admitted_under_every_policy() {
        let set = rounds(32).expect("a legal set");
        for policy in POLICIES {
            let controller = AdmissionController::new(by_name(policy).expect("a listed name"));
            assert!(controller.analyze(&AdmissionRequest::new(&set)).is_admitted(), "{policy}");
        }
        let work = SEGMENT.get() * 32;
        assert!(set.tasks().iter().all(|task| task.period <= ROUND && task.deadline.get() > work));
    }

    #[test]
    fn random_lanes_use_what_they_are_told_to() {
        for (seed, ppm) in [(1, 500_000), (2, 700_000), (3, 900_000)] {
            let set = random_lane(seed, 30, ppm).expect("a legal set");
            let used: f64 = set
                .tasks()
                .iter()
                .map(|task| task.segments[0].bound.get() as f64 / task.period.get() as f64)
                .sum();
            assert!((used - ppm as f64 / 1e6).abs() < 0.02, "seed {seed}: {used}");
            assert_eq!(set, random_lane(seed, 30, ppm).expect("a legal set"));
        }
    }
}
