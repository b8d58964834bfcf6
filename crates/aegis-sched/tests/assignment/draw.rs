//! Random fleets from a seed, and what is demanded of every answer.

use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::assign::{Assigned, AssignmentRequest, Effort, LaneChoice};
use aegis_sched::policy::EarliestDeadline;
use aegis_sched::{
    Arrival, Basis, Criticality, OccupancyBudget, OnOverrun, Overheads, PartitionModel, Platform,
    SchedulingPolicy, Task, TaskSet, charge,
};
use aegis_types::{LaneId, Nanos, TaskId};

/// SplitMix64, so that a seed means the same fleet everywhere.
pub struct Rng(u64);

impl Rng {
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15))
    }

    /// A number from `low` to `high`, both included.
    pub fn range(&mut self, low: u64, high: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        low + (z ^ (z >> 31)) % (high - low + 1)
    }
}

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name} is `{text}`; legal is a whole number")),
        Err(_) => default,
    }
}

/// Runs `check` on `count` seeds (or `AEGIS_SETS`), and names the command that repeats a failure.
pub fn for_seeds(test: &str, count: u64, mut check: impl FnMut(u64, &mut Rng)) {
    struct Repeat<'a>(&'a str, u64);
    impl Drop for Repeat<'_> {
        fn drop(&mut self) {
            let Self(test, seed) = self;
            eprintln!(
                "repeat: AEGIS_SEED={seed} AEGIS_SETS=1 cargo test -p aegis-sched --test assignment -- {test}"
            );
        }
    }
    let (first, count) = (number("AEGIS_SEED", 1), number("AEGIS_SETS", count));
    for seed in first..first + count {
        let guard = Repeat(test, seed);
        check(seed, &mut Rng::new(seed));
        std::mem::forget(guard);
    }
}

/// Whether the counts of a test are those of its own number of seeds: a repeated single seed proves no proportion.
pub fn is_whole_run() -> bool {
    std::env::var_os("AEGIS_SETS").is_none()
}

/// One task in microseconds, deadline equal to the period, on lane 0.
pub fn task(number: u16, cost: u64, period: u64) -> Task {
    Task {
        id: TaskId::new(number),
        name: format!("task-{number}"),
        lane: LaneId::new(0),
        period: Nanos::from_micros(period),
        deadline: Nanos::from_micros(period),
        jitter: Nanos::ZERO,
        arrival: Arrival::Sporadic,
        segments: vec![OccupancyBudget { bound: Nanos::from_micros(cost), basis: Basis::Declared }],
        priority: None,
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Skip,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    }
}

/// A fleet on partitions of so many lanes each.
pub fn fleet(tasks: Vec<Task>, lanes: &[u16], overheads: Overheads) -> TaskSet {
    let partition = |(index, &lanes): (usize, &u16)| PartitionModel { name: format!("part-{index}"), lanes };
    let partitions = lanes.iter().enumerate().map(partition).collect();
    TaskSet::new(tasks, Platform::new(partitions, overheads).expect("legal")).expect("legal")
}

/// Overheads that matter at the scale of these fleets.
pub fn overheads() -> Overheads {
    let tick = Nanos::new(500);
    Overheads {
        poll: tick,
        release: tick,
        decision: tick,
        handoff: Nanos::from_micros(3),
        ..Overheads::default()
    }
}

/// `count` tasks that ask for about `percent` of `lanes` lanes, with periods of some milliseconds, segments, jitter,
/// deadlines around the period, retries and criticalities.
pub fn random_tasks(rng: &mut Rng, count: u64, lanes: u64, percent: u64) -> Vec<Task> {
    (0..count)
        .map(|number| {
            let period = rng.range(1_000, 12_000);
            let cost = (period * lanes * percent * rng.range(50, 150) / count / 10_000).clamp(2, period);
            let mut task = task(number as u16, cost, period);
            if rng.range(0, 2) == 0 {
                task.deadline = Nanos::from_micros(rng.range(period * 6 / 10, period * 3 / 2));
            }
            if rng.range(0, 3) == 0 {
                task.jitter = Nanos::from_micros(rng.range(0, period / 20));
            }
            if rng.range(0, 3) == 0 {
                let half = task.segments[0].bound.get() / 2;
                task.segments[0].bound = Nanos::new(half);
                task.segments.push(task.segments[0].clone());
            }
            task.priority = Some(rng.range(0, 20) as u32);
            task.criticality =
                [Criticality::Low, Criticality::Medium, Criticality::High][rng.range(0, 2) as usize];
            task
        })
        .collect()
}

/// Every lane for every task.
pub fn any(set: &TaskSet) -> Vec<LaneChoice> {
    let lanes: Vec<LaneId> = (0..set.platform().lanes()).map(|lane| LaneId::new(lane as u16)).collect();
    vec![LaneChoice::Among(lanes); set.tasks().len()]
}

pub fn request<'a>(set: &'a TaskSet, choices: &'a [LaneChoice]) -> AssignmentRequest<'a> {
    let effort = Effort { seed: 1, steps: 60_000 };
    AssignmentRequest { set, choices, policy: &EarliestDeadline, contended: None, effort }
}

/// Whether lanes and budgets fit, with the overheads of the whole set: the sets' own charging and the lane decision,
/// nothing of the search.
pub fn holds(set: &TaskSet, found: &Assigned, policy: &dyn SchedulingPolicy) -> bool {
    let mut tasks = set.tasks().to_vec();
    for (task, (lane, budgets)) in tasks.iter_mut().zip(found.lanes.iter().zip(&found.budgets)) {
        task.lane = lane.unwrap_or_default();
        for (segment, bound) in task.segments.iter_mut().zip(budgets) {
            segment.bound = *bound;
        }
    }
    let whole = TaskSet::new(tasks, set.platform().clone()).expect("legal");
    let charged = charge(&whole).expect("no overflow");
    LaneProblem::of_lanes(&whole, charged, policy).into_iter().all(|mut problem| {
        problem.tasks.retain(|task| found.lanes[task.id.index()].is_some());
        decide(&problem).is_ok()
    })
}
