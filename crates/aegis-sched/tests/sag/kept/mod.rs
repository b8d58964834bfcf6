//! Lanes that stay free although a job is ready: what is certified, against walks of an oracle and runs of the engine.

mod bounds;
mod claims;
mod oracle;
mod refusals;
mod twin;

use aegis_sched::policy::by_name;
use aegis_sched::{
    AdmissionController, AdmissionReport, AdmissionRequest, Arrival, Basis, Criticality, OccupancyBudget,
    OnOverrun, Overheads, PartitionModel, Platform, Task, TaskSet,
};
use aegis_types::{LaneId, Nanos, TaskId};

use super::generate::Rng;
use oracle::{Plain, Rule};

const RULES: [(&str, Rule); 2] = [("p-rm", Rule::Precautious), ("cw-edf", Rule::CriticalWindow)];

/// Tasks on one lane of a runtime that costs nothing, so that budgets and jitters are charged as written.
fn set(tasks: &[Plain]) -> TaskSet {
    let partition = PartitionModel { name: "all".into(), lanes: 1 };
    let platform = Platform::new(vec![partition], Overheads::default()).expect("a platform");
    let task = |(index, task): (u16, &Plain)| Task {
        id: TaskId::new(index),
        name: format!("model_{index}"),
        lane: LaneId::new(0),
        period: Nanos::new(task.period),
        deadline: Nanos::new(task.deadline),
        jitter: Nanos::new(task.jitter),
        arrival: Arrival::Periodic { offset: Nanos::new(task.offset) },
        segments: vec![OccupancyBudget { bound: Nanos::new(task.cost), basis: Basis::Declared }],
        priority: None,
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Skip,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    };
    TaskSet::new((0..).zip(tasks).map(task).collect(), platform).expect("a set")
}

fn judged(policy: &str, set: &TaskSet) -> AdmissionReport {
    let controller = AdmissionController::new(by_name(policy).expect("listed"));
    controller.analyze(&AdmissionRequest::new(set).tight())
}

/// Two or three tasks with few jobs, tight enough for a rule to forbid something.
fn tiny(rng: &mut Rng, jitter: bool) -> Vec<Plain> {
    const PERIODS: [u64; 4] = [4, 6, 8, 12];
    let count = rng.range(2, 3);
    (0..count)
        .map(|place| {
            let period = if place == 0 {
                PERIODS[rng.range(0, 1) as usize]
            } else {
                PERIODS[rng.range(1, 3) as usize]
            };
            let cost = if place == 0 { rng.range(1, 2) } else { rng.range(1, (period / 2).min(5)) };
            let jitter = if jitter && rng.chance(4) { rng.range(1, 2) } else { 0 };
            let offset =
                if rng.chance(3) { [rng.range(0, 3), rng.range(0, 14)][rng.range(0, 1) as usize] } else { 0 };
            let deadline = if place == 0 { rng.range(cost + 1, period) } else { period + rng.range(0, 6) };
            Plain { offset, period, jitter, cost, deadline }
        })
        .collect()
}
