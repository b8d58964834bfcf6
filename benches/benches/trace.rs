//! What a trace record costs the one who tells it, and what draining costs the writer.
//!
//! Pushing takes about as long as reading the clock, so pushes are timed in batches: a percentile is one over the means
//! of 64 pushes each. The ring never fills, because a full ring would only count, which is cheaper.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aegis_benches::counting::{CountingAllocator, count};
use aegis_benches::effort::Effort;
use aegis_benches::percentile::{Series, timer_cost};
use aegis_trace::{RingConsumer, RingProducer, ring};
use aegis_types::records::{JobFinished, JobOutcome, Standing};
use aegis_types::{JobId, Nanos, Record, Sink, TaskId, Time};
use criterion::Throughput;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

/// Pushes that are timed together.
const BATCH: u64 = 64;

/// Batches between two drains.
const BATCHES: u64 = 256;

/// p99 of one push.
const LIMIT: Nanos = Nanos::new(50);

fn rings() -> (RingProducer, RingConsumer) {
    let capacity = usize::try_from(BATCH * BATCHES).expect("a small number");
    ring(0, capacity).expect("a legal capacity")
}

/// The record with the most fields: made and pushed, as the engine's driver does.
fn tell(producer: &mut RingProducer, number: u64) {
    let record = JobFinished {
        job: JobId::new(TaskId::new(7), number),
        outcome: JobOutcome::Completed,
        response: Nanos::new(number),
        bound: Nanos::MAX,
        standing: Standing::Covered,
        overrun: Nanos::ZERO,
    };
    producer.emit(black_box(record).at(Time::new(number)));
}

fn push(producer: &mut RingProducer, from: u64, length: u64) -> Duration {
    let start = Instant::now();
    (from..from + length).for_each(|number| tell(producer, number));
    start.elapsed()
}

fn drain(consumer: &mut RingConsumer) -> (usize, Duration) {
    let start = Instant::now();
    let drained = consumer.drain(|record| {
        black_box(record);
    });
    (drained, start.elapsed())
}

fn tails(effort: Effort) {
    let (mut producer, mut consumer) = rings();
    let mut pushes = Series::new("trace/record (mean of 64)").limited(LIMIT);
    let mut drains = Series::new("trace/drain, each of 16384");
    // The first pass touches what the others find in the cache.
    push(&mut producer, 0, BATCH * BATCHES);
    drain(&mut consumer);
    let (_, allocations) = count(|| push(&mut producer, 0, BATCH * BATCHES));
    drain(&mut consumer);
    for pass in 0..effort.choose(400, 8) {
        for batch in 0..BATCHES {
            let from = (pass * BATCHES + batch) * BATCH;
            pushes.record_batch(push(&mut producer, from, BATCH), BATCH);
        }
        let (drained, span) = drain(&mut consumer);
        assert_eq!(drained as u64, BATCH * BATCHES, "the ring holds everything between two drains");
        drains.record_batch(span, BATCH * BATCHES);
    }
    assert_eq!(producer.dropped(), 0, "a dropped record would make the figures too good");
    println!("{pushes}\n{drains}");
    println!("{:<34} {allocations} in {} records", "trace/allocations", BATCH * BATCHES);
}

fn means(effort: Effort) {
    let mut criterion = effort.criterion();
    let mut group = criterion.benchmark_group("trace");
    group.throughput(Throughput::Elements(1));
    let (mut producer, mut consumer) = rings();
    group.bench_function("record", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut total = Duration::ZERO;
            let mut left = iterations;
            while left > 0 {
                let length = left.min(BATCH * BATCHES);
                total += push(&mut producer, left, length);
                drain(&mut consumer);
                left -= length;
            }
            total
        });
    });
    group.finish();
    criterion.final_summary();
}

fn main() {
    let effort = Effort::asked();
    println!("trace: {}", effort.note());
    println!("{}  (a 64th of it is part of each push)", timer_cost(effort.choose(1_000_000, 20_000)));
    tails(effort);
    means(effort);
}
