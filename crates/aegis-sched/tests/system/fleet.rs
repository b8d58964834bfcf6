//! Task sets from few numbers.

use aegis_sched::{
    Arrival, Basis, Criticality, OccupancyBudget, OnOverrun, Overheads, PartitionModel, Platform, Task,
    TaskSet,
};
use aegis_types::{LaneId, Nanos, TaskId};

/// A declared budget.
pub fn budget(bound: u64) -> OccupancyBudget {
    OccupancyBudget { bound: Nanos::new(bound), basis: Basis::Declared }
}

/// Periodic tasks of one segment with (budget, period, lane), deadlines equal to periods.
pub fn tasks(specs: &[(u64, u64, u16)]) -> Vec<Task> {
    let task = |(&(cost, period, lane), index)| Task {
        id: TaskId::new(index),
        name: format!("task-{index}"),
        lane: LaneId::new(lane),
        period: Nanos::new(period),
        deadline: Nanos::new(period),
        jitter: Nanos::ZERO,
        arrival: Arrival::Periodic { offset: Nanos::ZERO },
        segments: vec![budget(cost)],
        priority: Some(u32::from(index)),
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Skip,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    };
    specs.iter().zip(0u16..).map(task).collect()
}

/// A set on so many lanes of one partition, without overheads.
pub fn set(tasks: Vec<Task>, lanes: u16) -> TaskSet {
    let partitions = vec![PartitionModel { name: "all".to_owned(), lanes }];
    let platform = Platform::new(partitions, Overheads::default()).expect("legal");
    TaskSet::new(tasks, platform).expect("legal")
}
