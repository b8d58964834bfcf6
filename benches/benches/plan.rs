//! What a verified memory plan of 30 tasks costs: placement by the planner of the house, and its verification.

use std::hint::black_box;

use aegis_benches::effort::Effort;
use aegis_benches::percentile::{Series, timer_cost};
use aegis_benches::sets::SplitMix;
use aegis_memory::{Demand, LowestOffsetFirst, MemoryOrchestrator, MemoryPlan};
use aegis_types::{Bytes, LaneId, TaskId};
use criterion::BenchmarkId;

const TASKS: u16 = 30;
const LANES: [u16; 3] = [1, 4, 8];

/// Enough for every fleet that is drawn.
const CAPACITY: Bytes = Bytes::new(64 << 30);

/// Demands of 30 models: some KiB to 256 MiB of weights, up to 4 MiB of I/O, up to 64 MiB of scratch.
fn demands(seed: u64, lanes: u16) -> Vec<Demand> {
    let mut draw = SplitMix(seed);
    (0..TASKS)
        .map(|number| {
            let scale = draw.between(10, 28);
            Demand {
                task: TaskId::new(number),
                lane: LaneId::new(number % lanes),
                persistent: Bytes::new(draw.between(1, 1 << scale)),
                exchange: Bytes::new(draw.between(1, 4 << 20)),
                scratch: vec![Bytes::new(draw.between(0, 64 << 20))],
            }
        })
        .collect()
}

fn plan(demands: &[Demand]) -> MemoryPlan {
    MemoryOrchestrator::new().plan(demands, CAPACITY, &LowestOffsetFirst).expect("the capacity is ample")
}

fn tails(effort: Effort) {
    let mut series = LANES.map(|lanes| Series::new(format!("plan/30 tasks on {lanes} lanes")));
    for seed in 0..effort.choose(20_000, 200) {
        for (series, lanes) in series.iter_mut().zip(LANES) {
            let demands = demands(seed, lanes);
            series.measure(1, || {
                black_box(plan(&demands));
            });
        }
    }
    series.iter().for_each(|series| println!("{series}"));
}

fn means(effort: Effort) {
    let mut criterion = effort.criterion();
    let mut group = criterion.benchmark_group("plan");
    for lanes in LANES {
        let demands = demands(1, lanes);
        group.bench_with_input(
            BenchmarkId::new("30 tasks", format!("{lanes} lanes")),
            &demands,
            |bencher, it| {
                bencher.iter(|| plan(black_box(it)));
            },
        );
    }
    group.finish();
    criterion.final_summary();
}

fn main() {
    let effort = Effort::asked();
    println!("plan: {}", effort.note());
    println!("{}", timer_cost(effort.choose(100_000, 10_000)));
    tails(effort);
    means(effort);
}
