//! What one input costs the engine: decisions with many jobs ready, under each policy, and every other kind of input.
//!
//! 32 tasks on one lane are released together, and run one after the other. A decision looks at every ready job, so
//! only those with at least half of the tasks ready are counted.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aegis_benches::counting::{CountingAllocator, count};
use aegis_benches::effort::Effort;
use aegis_benches::percentile::{Series, timer_cost};
use aegis_benches::sets::{ROUND, SEGMENT, rounds};
use aegis_sched::policy::by_name;
use aegis_sched::{AdmissionController, AdmissionRequest, Arrival, Engine, Input, Outbox, POLICIES};
use aegis_types::records::{Control, SegmentOutcome};
use aegis_types::{LaneId, Nanos, TaskId, Time};
use criterion::Throughput;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

const TASKS: u16 = 32;

/// A decision with fewer jobs ready than this is not counted.
const MANY: u16 = TASKS / 2;

/// p99 of one decision.
const LIMIT: Nanos = Nanos::from_micros(1);

/// The inputs that are told apart.
#[derive(Clone, Copy)]
enum Kind {
    Decide,
    Completed,
    Arrival,
    Tick,
}

/// Runs one input, timed or not.
trait Probe {
    fn run(&mut self, kind: Kind, ready: u16, input: impl FnOnce());
}

/// Times nothing.
struct Untimed;

impl Probe for Untimed {
    fn run(&mut self, _: Kind, _: u16, input: impl FnOnce()) {
        input();
    }
}

/// One series for each kind of input.
struct Timed {
    decide: Series,
    completed: Series,
    arrival: Series,
    tick: Series,
}

impl Timed {
    fn new(policy: &str) -> Self {
        let series = |kind: &str| Series::new(format!("decision/{policy}/{kind}"));
        Self {
            decide: series("decide").limited(LIMIT),
            completed: series("completed"),
            arrival: series("arrival"),
            tick: series("tick (16 releases)"),
        }
    }
}

impl Probe for Timed {
    fn run(&mut self, kind: Kind, ready: u16, input: impl FnOnce()) {
        let start = Instant::now();
        input();
        let span = start.elapsed();
        match kind {
            Kind::Decide if ready < MANY => {}
            Kind::Decide => self.decide.record(span),
            Kind::Completed => self.completed.record(span),
            Kind::Arrival => self.arrival.record(span),
            Kind::Tick => self.tick.record(span),
        }
    }
}

/// An engine that is told rounds: everything is released, and everything runs.
struct Rig {
    engine: Engine,
    out: Outbox,
    sporadic: Vec<TaskId>,
    next: Time,
}

impl Rig {
    fn new(policy: &str) -> Self {
        let set = rounds(TASKS).expect("a legal set");
        let policy = || by_name(policy).expect("one of the listed names");
        let report = AdmissionController::new(policy()).analyze(&AdmissionRequest::new(&set));
        let certificate = report.certificate().expect("a light set is admitted").clone();
        let engine = Engine::new(&set, certificate, policy(), Time::ZERO).expect("certificate and set agree");
        let sporadic =
            set.tasks().iter().filter(|task| task.arrival == Arrival::Sporadic).map(|task| task.id).collect();
        let out = engine.outbox();
        Self { engine, out, sporadic, next: Time::ZERO }
    }

    fn round(&mut self, probe: &mut impl Probe) {
        let Self { engine, out, sporadic, next } = self;
        let mut now = *next;
        *next = now.saturating_add(ROUND);
        probe.run(Kind::Tick, 0, || engine.handle(now, Input::Tick, out));
        for &task in sporadic.iter() {
            probe.run(Kind::Arrival, 0, || engine.handle(now, Input::Arrival { task, token: 1 }, out));
        }
        for ready in (1..=TASKS).rev() {
            probe.run(Kind::Decide, ready, || engine.handle(now, Input::Decide, out));
            let dispatch = out.commands().first().expect("a free lane with ready jobs dispatches").dispatch;
            black_box(out.records());
            out.clear();
            now = now.saturating_add(SEGMENT);
            let (lane, outcome) = (LaneId::new(0), SegmentOutcome::Done);
            let input = Input::Completed { lane, dispatch, outcome };
            probe.run(Kind::Completed, ready, || engine.handle(now, input, out));
        }
        engine.handle(now, Input::Decide, out);
        assert!(engine.is_idle(), "every job of the round has run");
        out.clear();
    }
}

fn tails(effort: Effort) {
    let wanted = effort.choose(1_000_000, 20_000);
    let per_round = u64::from(TASKS - MANY + 1);
    for policy in POLICIES {
        let mut rig = Rig::new(policy);
        let ((), allocations) = count(|| (0..100).for_each(|_| rig.round(&mut Untimed)));
        let mut timed = Timed::new(policy);
        (0..wanted.div_ceil(per_round)).for_each(|_| rig.round(&mut timed));
        for series in [&timed.decide, &timed.completed, &timed.arrival, &timed.tick] {
            println!("{series}");
        }
        println!("{:<34} {allocations} in 3200 jobs", format!("decision/{policy}/allocations"));
    }
    controls(effort.choose(2_000, 50));
}

/// Rare inputs: a stall of the driver and an operator's stop while everything is pending.
fn controls(n: u64) {
    let mut stall = Series::new("decision/edf/stall");
    let mut stop = Series::new("decision/edf/stop (32 jobs)");
    for _ in 0..n {
        let Rig { mut engine, mut out, sporadic, .. } = Rig::new("edf");
        let now = Time::ZERO;
        engine.handle(now, Input::Tick, &mut out);
        for task in sporadic {
            engine.handle(now, Input::Arrival { task, token: 1 }, &mut out);
        }
        let (gap, limit) = (Nanos::from_micros(2), Nanos::from_micros(1));
        stall.measure(1, || engine.handle(now, Input::Stall { gap, limit }, &mut out));
        stop.measure(1, || engine.handle(now, Input::Control(Control::Stop), &mut out));
    }
    println!("{stall}\n{stop}");
}

fn means(effort: Effort) {
    let mut criterion = effort.criterion();
    let mut group = criterion.benchmark_group("decision");
    group.throughput(Throughput::Elements(TASKS.into()));
    for policy in POLICIES {
        let mut rig = Rig::new(policy);
        group.bench_function(format!("{policy}: 32 jobs released, decided and completed"), |bencher| {
            bencher.iter_custom(|iterations| {
                let start = Instant::now();
                (0..iterations).for_each(|_| rig.round(&mut Untimed));
                start.elapsed().max(Duration::from_nanos(1))
            });
        });
    }
    group.finish();
    criterion.final_summary();
}

fn main() {
    let effort = Effort::asked();
    println!("decision: {}; {MANY} to {TASKS} jobs ready on one lane", effort.note());
    println!("{}  (part of every duration below)", timer_cost(effort.choose(1_000_000, 20_000)));
    tails(effort);
    means(effort);
}
