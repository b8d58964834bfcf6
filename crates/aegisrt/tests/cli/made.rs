//! A trace made without a model: the engine, driven in virtual time.

use std::collections::BTreeMap;
use std::path::Path;

use aegis_sched::engine;
use aegis_sched::policy::by_name;
use aegis_sched::{
    AdmissionController, AdmissionRequest, Arrival, Basis, Criticality, Engine, Input, OccupancyBudget,
    OnOverrun, Overheads, PartitionModel, Platform, Task, TaskSet,
};
use aegis_trace::{TraceCollector, TraceMode, TraceOptions};
use aegis_types::records::{Control, SCHEMAS, SegmentOutcome};
use aegis_types::{DispatchSeq, LaneId, Nanos, TaskId, Time};

fn task(number: u16, period_ms: u64, budget_ms: u64) -> Task {
    Task {
        id: TaskId::new(number),
        name: format!("model_{number}"),
        lane: LaneId::new(0),
        period: Nanos::from_millis(period_ms),
        deadline: Nanos::from_millis(period_ms),
        jitter: Nanos::ZERO,
        arrival: Arrival::Periodic { offset: Nanos::ZERO },
        segments: vec![OccupancyBudget { bound: Nanos::from_millis(budget_ms), basis: Basis::Declared }],
        priority: None,
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Keep,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    }
}

/// Writes the trace of half a second under EDF to `path`. Two tasks, one lane; every job takes its budget less half a
/// millisecond. Under FIFO the set would be refused: the long task blocks the short one for longer than its deadline.
pub fn trace(path: &Path) {
    trace_under("edf", vec![task(0, 10, 3), task(1, 40, 6), task(2, 40, 4)], path);
}

/// The same under P-RM, of tasks that meet their deadlines only because the long one waits for the short one.
pub fn trace_kept_free(path: &Path) {
    trace_under("p-rm", vec![task(0, 10, 1), task(1, 30, 8), task(2, 60, 17)], path);
}

fn trace_under(name: &str, tasks: Vec<Task>, path: &Path) {
    let partitions = vec![PartitionModel { name: "all".into(), lanes: 1 }];
    let platform = Platform::new(partitions, Overheads::default()).expect("the trace can be made");
    let set = TaskSet::new(tasks, platform).expect("the trace can be made");
    let policy = || by_name(name).expect("the trace can be made");
    let report = AdmissionController::new(policy()).analyze(&AdmissionRequest::new(&set).tight());
    let certificate = report.certificate().expect("the set fits").clone();
    let names: Vec<&str> = set.tasks().iter().map(|task| task.name.as_str()).collect();
    let mut collector = TraceCollector::new(TraceOptions {
        mode: TraceMode::File(path.into()),
        schemas: [SCHEMAS, engine::SCHEMAS].concat(),
        epoch: "2031-01-01 00:00:00 UTC".into(),
        blobs: BTreeMap::from([
            ("tasks".to_owned(), serde_json::to_vec(&names).expect("the trace can be made")),
            ("taskset".to_owned(), serde_json::to_vec(&set).expect("the trace can be made")),
            ("policy".to_owned(), name.as_bytes().to_vec()),
        ]),
    })
    .expect("the trace can be made");
    let mut ring = collector.producer("decisions", 1 << 14).expect("the trace can be made");
    let mut engine = Engine::new(&set, certificate, policy(), Time::ZERO).expect("the trace can be made");
    let mut outbox = engine.outbox();
    let mut flight: Option<(Time, DispatchSeq)> = None;
    let mut drained = false;
    loop {
        let end = Time::new(500_000_000);
        let next = [engine.wake_at(), flight.map(|flight| flight.0), (!drained).then_some(end)];
        let Some(now) = next.into_iter().flatten().min() else { break };
        if let Some((_, dispatch)) = flight.take_if(|flight| flight.0 == now) {
            let (lane, outcome) = (LaneId::new(0), SegmentOutcome::Done);
            engine.handle(now, Input::Completed { lane, dispatch, outcome }, &mut outbox);
        }
        if engine.wake_at() == Some(now) {
            engine.handle(now, Input::Tick, &mut outbox);
        }
        if now == end {
            drained = true;
            engine.handle(now, Input::Control(Control::Drain), &mut outbox);
        }
        engine.handle(now, Input::Decide, &mut outbox);
        for command in outbox.commands() {
            let budget = set.tasks()[command.job.task.index()].segments[0].bound;
            let took = budget.checked_sub(Nanos::from_micros(500)).expect("the trace can be made");
            flight = Some((now.saturating_add(took), command.dispatch));
        }
        outbox.record_to(&mut ring);
        outbox.clear();
    }
    drop(ring);
    let _file = collector.finish(BTreeMap::new()).expect("the trace can be made");
}
