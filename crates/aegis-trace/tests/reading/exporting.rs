//! What other programs get.

use aegis_trace::Trace;
use aegis_types::{RawRecord, Time};
use serde_json::{Value, json};

use crate::story;

fn json_lines(trace: &Trace) -> Vec<Value> {
    let mut out = Vec::new();
    trace.write_json_lines(&mut out).unwrap();
    String::from_utf8(out).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn perfetto(trace: &Trace) -> Vec<Value> {
    let mut out = Vec::new();
    trace.write_perfetto(&mut out).unwrap();
    let whole: Value = serde_json::from_slice(&out).unwrap();
    whole["traceEvents"].as_array().unwrap().clone()
}

#[test]
fn json_lines_name_every_field() {
    let trace = story::trace();
    let lines = json_lines(&trace);
    assert_eq!(lines.len(), trace.records().len());
    assert_eq!(
        lines[0],
        json!({
            "stamp_ns": 500_000, "kind": "WeightsLoaded", "producer": "carrier-0", "sequence": 0,
            "fields": { "task": "tracker", "size": 3 << 20 },
        })
    );
    assert_eq!(
        lines[2],
        json!({
            "stamp_ns": 1_000_000, "kind": "SegmentDispatched", "producer": "decisions", "sequence": 1,
            "fields": { "job": "model_b#0", "lane": 0, "segment": 0, "dispatch": 1, "budget": 45_000_000,
                "reason": "OnlyReady" },
        })
    );
}

#[test]
fn a_record_without_a_schema_is_exported_in_words() {
    let stranger = RawRecord::new(Time::new(1), 12_345, [1, 2, 3, 4, 5, u64::MAX]);
    let lines = json_lines(&story::trace_of(&[stranger], &[]));
    assert_eq!(lines[0]["kind"], "kind12345");
    assert_eq!(lines[0]["words"], json!([1, 2, 3, 4, 5, u64::MAX]));
}

#[test]
fn the_viewer_gets_slices_marks_and_names() {
    let events = perfetto(&story::trace());
    let of = |phase: &str| events.iter().filter(|e| e["ph"] == phase).collect::<Vec<_>>();
    let slices: Vec<_> = of("X")
        .iter()
        .map(|e| {
            (e["name"].as_str().unwrap(), e["tid"].as_u64().unwrap(), e["ts"].as_f64(), e["dur"].as_f64())
        })
        .collect();
    assert_eq!(
        slices,
        [
            ("model_b", 1, Some(1_000.0), Some(39_000.0)),
            ("detector", 1, Some(40_000.0), Some(10_000.0)),
            ("tracker", 1, Some(50_000.0), Some(5_000.0)),
            ("model_b", 100_000, Some(1_100.0), Some(38_800.0)),
        ]
    );
    let marks: Vec<_> = of("i").iter().map(|e| e["name"].as_str().unwrap()).collect();
    assert_eq!(
        marks,
        [
            "release model_b#0",
            "release detector#7",
            "release tracker#2",
            "miss detector#7",
            "refused detector",
        ]
    );
    assert!(of("i").iter().all(|e| e["s"] == "t" && e["ts"].is_f64()));
    let names: Vec<_> = of("M")
        .iter()
        .filter(|e| e["name"] == "thread_name")
        .map(|e| (e["tid"].as_u64().unwrap(), e["args"]["name"].as_str().unwrap()))
        .collect();
    assert_eq!(names, [(1, "lane0"), (100_000, "lane0 carrier")]);
}

#[test]
fn an_empty_trace_is_still_valid() {
    let empty = story::trace_of(&[], &[]);
    assert_eq!(json_lines(&empty), [] as [Value; 0]);
    assert!(perfetto(&empty).iter().all(|event| event["ph"] == "M"));
}
