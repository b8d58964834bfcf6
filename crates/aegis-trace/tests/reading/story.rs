//! A short run that the other tests read: three tasks on one lane, a blocking, a decision, a miss and a refusal.

use std::collections::BTreeMap;

use aegis_trace::{Trace, TraceCollector, TraceMode, TraceOptions};
use aegis_types::records::{
    Decided, JobFinished, JobOutcome, JobRefused, JobReleased, Reason, Refusal, SCHEMAS, SegmentCompleted,
    SegmentDispatched, SegmentRan, Standing,
};
use aegis_types::{
    Bytes, DispatchSeq, JobId, LaneId, Nanos, RawRecord, Record, SegmentIndex, Sink, TaskId, Time, record,
};

record! {
    /// A record that the crate under test does not know.
    pub struct WeightsLoaded(900) {
        /// Whose.
        task: TaskId,
        /// How much.
        size: Bytes,
    }
}

pub const LANE: LaneId = LaneId::new(0);
pub const DETECTOR: TaskId = TaskId::new(0);
pub const TRACKER: TaskId = TaskId::new(1);
pub const MODEL_B: TaskId = TaskId::new(2);

pub fn us(us: u64) -> Time {
    Time::new(us * 1_000)
}

pub fn options(mode: TraceMode) -> TraceOptions {
    let mut schemas = SCHEMAS.to_vec();
    schemas.push(WeightsLoaded::SCHEMA);
    let tasks = br#"["detector", "tracker", "model_b"]"#.to_vec();
    TraceOptions {
        mode,
        schemas,
        epoch: "2031-01-01T00:00:00Z".to_owned(),
        blobs: BTreeMap::from([("tasks".to_owned(), tasks)]),
    }
}

pub fn released(job: JobId, at: Time, deadline: Time) -> RawRecord {
    JobReleased { job, lane: LANE, arrival: at, deadline, pending: 1, token: 0 }.at(at)
}

pub fn dispatched(job: JobId, at: Time, dispatch: u64, reason: Reason) -> RawRecord {
    let (segment, budget) = (SegmentIndex::new(0), Nanos::from_millis(45));
    SegmentDispatched { job, lane: LANE, segment, dispatch: DispatchSeq::new(dispatch), budget, reason }
        .at(at)
}

pub fn completed(job: JobId, from: Time, at: Time, dispatch: u64) -> RawRecord {
    let (segment, budget) = (SegmentIndex::new(0), Nanos::from_millis(45));
    let (dispatch, occupancy) = (DispatchSeq::new(dispatch), at.since(from));
    SegmentCompleted { job, lane: LANE, segment, dispatch, occupancy, budget }.at(at)
}

fn finished(job: JobId, response: Nanos, at: Time) -> RawRecord {
    let (outcome, standing) = (JobOutcome::Completed, Standing::Covered);
    let (bound, overrun) = (Nanos::from_millis(50), Nanos::ZERO);
    JobFinished { job, outcome, response, bound, standing, overrun }.at(at)
}

/// What the engine tells.
pub fn decisions() -> Vec<RawRecord> {
    let (b0, d7, t2) = (JobId::new(MODEL_B, 0), JobId::new(DETECTOR, 7), JobId::new(TRACKER, 2));
    let decided = Decided { lane: LANE, job: d7, key: 10, runner_up: t2, runner_up_key: 12, ready: 3 };
    let refusal = JobRefused {
        task: DETECTOR,
        reason: Refusal::TooEarly,
        legal_from: us(60_000),
        pending: 0,
        token: 4,
    };
    vec![
        released(b0, us(1_000), us(90_000)),
        dispatched(b0, us(1_000), 1, Reason::OnlyReady),
        released(d7, us(12_345), us(45_000)),
        released(t2, us(12_345), us(99_000)),
        completed(b0, us(1_000), us(40_000), 1),
        finished(b0, Nanos::from_millis(39), us(40_000)),
        dispatched(d7, us(40_000), 2, Reason::MostUrgent),
        decided.at(us(40_000)),
        completed(d7, us(40_000), us(50_000), 2),
        finished(d7, Nanos::from_micros(37_655), us(50_000)),
        dispatched(t2, us(50_000), 3, Reason::OnlyReady),
        refusal.at(us(55_000)),
    ]
}

/// What the carrier and a stranger tell.
pub fn others() -> Vec<RawRecord> {
    let ran = SegmentRan {
        job: JobId::new(MODEL_B, 0),
        lane: LANE,
        segment: SegmentIndex::new(0),
        dispatch: DispatchSeq::new(1),
        entered: us(1_100),
        left: us(39_900),
    };
    vec![WeightsLoaded { task: TRACKER, size: Bytes::new(3 << 20) }.at(us(500)), ran.at(us(39_900))]
}

/// The whole run, kept in memory.
pub fn trace() -> Trace {
    trace_of(&decisions(), &others())
}

pub fn trace_of(first: &[RawRecord], second: &[RawRecord]) -> Trace {
    let mut collector = TraceCollector::new(options(TraceMode::Memory { records: 1_000 })).unwrap();
    for (name, records) in [("decisions", first), ("carrier-0", second)] {
        let mut producer = collector.producer(name, 1_000).unwrap();
        records.iter().for_each(|&record| producer.emit(record));
    }
    collector.finish(BTreeMap::new()).unwrap().into_trace().unwrap()
}
