//! What a trace answers when it is asked about a task.

use aegis_trace::{Filter, TaskSelector, Trace, TraceError};
use aegis_types::records::Reason;
use aegis_types::{JobId, TaskId, Time};

use crate::story::{self, DETECTOR, MODEL_B, TRACKER, completed, dispatched, released, us};

fn lines(trace: &Trace, task: impl Into<TaskSelector>) -> Vec<String> {
    trace
        .query(task, Time::ZERO..Time::MAX)
        .unwrap()
        .iter()
        .map(|r| r.to_string().trim().to_owned())
        .collect()
}

#[test]
fn a_query_tells_what_happened_and_why() {
    assert_eq!(
        lines(&story::trace(), "detector"),
        [
            "12.345ms  detector#7 released on lane0, due at 45ms, 1 pending",
            "12.345ms  detector#7 blocked by model_b (budget 45ms, non-preemptive): model_b#0 in flight on lane0 since 1ms",
            "40ms  detector#7 dispatched on lane0, budget 45ms, most urgent of 3 ready (before tracker#2)",
            "50ms  detector#7 left lane0 after 10ms (budget 45ms)",
            "50ms  detector#7 completed, response 37.655ms, bound 50ms, covered by the certificate",
            "55ms  detector refused: too early, legal from 60ms; 0 pending",
        ]
    );
}

#[test]
fn decisions_against_a_task_and_unknown_kinds_are_told_too() {
    assert_eq!(
        lines(&story::trace(), TRACKER),
        [
            "500us  WeightsLoaded task=tracker size=3MiB",
            "12.345ms  tracker#2 released on lane0, due at 99ms, 1 pending",
            "12.345ms  tracker#2 blocked by model_b (budget 45ms, non-preemptive): model_b#0 in flight on lane0 since 1ms",
            "40ms  tracker#2 waits: detector#7 dispatched on lane0 first (key 10 before 12, 3 ready)",
            "50ms  tracker#2 dispatched on lane0, budget 45ms, only job ready",
        ]
    );
}

#[test]
fn the_range_is_half_open() {
    let trace = story::trace();
    let count = |a, b| trace.query("detector", us(a)..us(b)).unwrap().len();
    assert_eq!((count(12_345, 40_000), count(12_346, 40_000), count(0, 12_345)), (2, 0, 0));
    assert_eq!((count(40_000, 40_001), count(50_000, 12_000)), (1, 0));
}

#[test]
fn what_ran_before_or_starts_in_the_same_decision_blocks_nobody() {
    let (a, b) = (JobId::new(DETECTOR, 0), JobId::new(MODEL_B, 0));
    let blocked = |records: &[_]| {
        lines(&story::trace_of(records, &[]), "detector").iter().any(|line| line.contains("blocked by"))
    };
    let release = released(a, us(20), us(90));
    let begin = dispatched(b, us(10), 1, Reason::OnlyReady);
    assert!(blocked(&[begin, release]));
    assert!(!blocked(&[begin, completed(b, us(10), us(20), 1), release]));
    assert!(!blocked(&[release, dispatched(b, us(20), 1, Reason::MostUrgent)]));
    assert!(!blocked(&[
        begin,
        dispatched(a, us(15), 2, Reason::OnlyReady),
        completed(a, us(15), us(16), 2),
        release
    ]));
}

#[test]
fn across_a_gap_nothing_is_claimed() {
    use aegis_trace::{TraceCollector, TraceMode};
    use aegis_types::Sink;
    let mut collector = TraceCollector::new(story::options(TraceMode::Memory { records: 100 })).unwrap();
    let mut producer = collector.producer("decisions", 2).unwrap();
    let b = JobId::new(MODEL_B, 0);
    producer.emit(released(b, us(1), us(90)));
    producer.emit(dispatched(b, us(2), 1, Reason::OnlyReady));
    (0..3).for_each(|n| producer.emit(released(JobId::new(TRACKER, n), us(3), us(90))));
    collector.pump().unwrap();
    producer.emit(released(JobId::new(DETECTOR, 0), us(20), us(90)));
    let trace = collector.finish(Default::default()).unwrap().into_trace().unwrap();
    assert_eq!(
        lines(&trace, "detector"),
        [
            "2us  unknown: 3 records of `decisions` were lost between 2us and 20us",
            "20us  detector#0 released on lane0, due at 90us, 1 pending",
        ]
    );
}

#[test]
fn filters_combine() {
    let trace = story::trace();
    let count = |filter: Filter| trace.matching(&filter).unwrap().count();
    assert_eq!(count(Filter::default()), trace.records().len());
    assert_eq!(count(Filter::default().kind("JobReleased")), 3);
    assert_eq!(count(Filter::default().kind("JobReleased").task("tracker")), 1);
    assert_eq!(count(Filter::default().producer("carrier-0")), 2);
    assert_eq!(count(Filter::default().producer("carrier-0").between(us(0)..us(501))), 1);
}

#[test]
fn what_the_trace_does_not_have_is_refused_with_what_it_has() {
    let trace = story::trace();
    let error = trace.query("detctor", Time::ZERO..Time::MAX).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the trace has no task `detctor`; it has: `detector`, `tracker`, `model_b`"
    );
    for filter in [Filter::default().kind("Nothing"), Filter::default().producer("Nothing")] {
        assert!(matches!(trace.matching(&filter).map(|_| ()), Err(TraceError::Unknown { .. })));
    }
    assert_eq!(trace.query(TaskId::new(99), Time::ZERO..Time::MAX).unwrap(), []);
}
