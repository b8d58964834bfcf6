//! A trace for other programs: JSON lines for scripts, and the JSON of trace viewers for eyes.
//!
//! The viewer's format is the Trace Event Format in its JSON object form, which `ui.perfetto.dev` and
//! `chrome://tracing` open: one track per lane with a slice per segment, one per carrier with what it saw, and marks
//! for releases, refusals, misses, broken assumptions and gaps. Times there are microseconds, as the format wants;
//! exact nanoseconds stand in the JSON lines.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use aegis_types::records::{
    AssumptionBroken, JobFinished, JobOutcome, JobRefused, JobReleased, SegmentRan, TaskAdmitted,
};
use aegis_types::{JobId, LaneId, RawRecord, TaskId, Time};
use serde_json::{Value as Json, json};

use crate::error::TraceError;
use crate::rationale::Teller;
use crate::read::Trace;
use crate::schema::Value;
use crate::segments::{SegmentSpan, SpanEnd};

/// The one process of the viewer.
const PID: u32 = 1;
/// The track of what belongs to no lane. Lane n has track n + 1.
const TRACK_ENGINE: u32 = 0;
/// The first track of carriers.
const TRACK_CARRIERS: u32 = 100_000;

impl Trace {
    /// Writes one JSON object per record and line, by stamp: `stamp_ns`, `kind`, `producer`, `sequence` and `fields`.
    /// Spans and instants are nanoseconds, sizes are bytes, tasks and jobs carry the task's name, choices are text. A
    /// record without a schema has `words` instead of `fields`.
    ///
    /// # Errors
    /// [`TraceError::Export`]; [`TraceError::Blob`] if the names of the tasks cannot be read.
    pub fn write_json_lines(&self, out: &mut impl Write) -> Result<(), TraceError> {
        let teller = Teller::new(self)?;
        for raw in self.records() {
            writeln!(out, "{}", self.json_line(raw, &teller)).map_err(failed)?;
        }
        out.flush().map_err(failed)
    }

    fn json_line(&self, raw: &RawRecord, teller: &Teller<'_>) -> Json {
        let mut line = json!({
            "stamp_ns": raw.stamp.get(),
            "kind": self.kind_name(raw),
            "producer": self.producer_name(raw.producer()),
            "sequence": raw.sequence(),
        });
        match self.schema(raw.kind()) {
            Some(schema) => {
                let fields = schema.values(raw).map(|(name, value)| (name.to_owned(), word(&value, teller)));
                line["fields"] = Json::Object(fields.collect());
            }
            None => line["words"] = json!(raw.payload),
        }
        line
    }

    /// Writes the trace as JSON for `ui.perfetto.dev`.
    ///
    /// # Errors
    /// [`TraceError::Export`]; [`TraceError::Blob`] if the names of the tasks cannot be read.
    pub fn write_perfetto(&self, out: &mut impl Write) -> Result<(), TraceError> {
        let events = Events::of(self)?;
        let epoch = Json::from(self.epoch());
        write!(out, "{{\"displayTimeUnit\":\"ms\",\"otherData\":{{\"epoch\":{epoch}}},\"traceEvents\":[")
            .map_err(failed)?;
        for (index, event) in events.list.iter().enumerate() {
            let separator = if index == 0 { "" } else { "," };
            write!(out, "{separator}\n{event}").map_err(failed)?;
        }
        writeln!(out, "\n]}}").map_err(failed)?;
        out.flush().map_err(failed)
    }
}

/// The viewer's events of a trace.
struct Events<'a> {
    trace: &'a Trace,
    teller: Teller<'a>,
    list: Vec<Json>,
    /// Track to its name, for those that have events.
    tracks: BTreeMap<u32, String>,
}

impl<'a> Events<'a> {
    fn of(trace: &'a Trace) -> Result<Self, TraceError> {
        let mut this = Self { trace, teller: Teller::new(trace)?, list: Vec::new(), tracks: BTreeMap::new() };
        let end = trace.records().last().map_or(Time::ZERO, |r| r.stamp);
        for span in trace.segments() {
            this.segment(&span, end);
        }
        this.carriers();
        this.marks();
        this.name_tracks();
        Ok(this)
    }

    fn segment(&mut self, span: &SegmentSpan, trace_end: Time) {
        let (end, how) = match span.end {
            SpanEnd::Completed { at, .. } => (at, "completed"),
            SpanEnd::Unknown { at, .. } => (at, "unknown"),
            SpanEnd::Open => (trace_end, "in flight"),
        };
        let args = json!({
            "job": self.teller.job(span.job),
            "segment": span.segment.get(),
            "dispatch": span.dispatch.get(),
            "budget_us": span.budget.as_micros_f64(),
            "reason": format!("{:?}", span.reason),
            "end": how,
        });
        let track = self.lane_track(span.lane);
        let name = self.teller.task(span.job.task);
        self.slice(&name, track, span.start, end, args);
    }

    fn carriers(&mut self) {
        let trace = self.trace;
        for (_, ran) in trace.all::<SegmentRan>() {
            let track = TRACK_CARRIERS + u32::from(ran.lane.get());
            self.tracks.insert(track, format!("{} carrier", ran.lane));
            let args = json!({
                "job": self.teller.job(ran.job),
                "segment": ran.segment.get(),
                "dispatch": ran.dispatch.get(),
            });
            let name = self.teller.task(ran.job.task);
            self.slice(&name, track, ran.entered, ran.left, args);
        }
    }

    fn marks(&mut self) {
        let trace = self.trace;
        let mut lanes: BTreeMap<TaskId, LaneId> = BTreeMap::new();
        let mut due: BTreeMap<JobId, (Time, Time, LaneId)> = BTreeMap::new();
        for raw in trace.records() {
            let text = |events: &Self| json!({ "rationale": events.teller.record(raw, None) });
            if let Some(r) = trace.read::<TaskAdmitted>(raw) {
                lanes.insert(r.task, r.lane);
            } else if let Some(r) = trace.read::<JobReleased>(raw) {
                lanes.insert(r.job.task, r.lane);
                due.insert(r.job, (r.arrival, r.deadline, r.lane));
                let name = format!("release {}", self.teller.job(r.job));
                self.mark(&name, Some(r.lane), raw.stamp, text(self));
            } else if let Some(r) = trace.read::<JobRefused>(raw) {
                let name = format!("refused {}", self.teller.task(r.task));
                self.mark(&name, lanes.get(&r.task).copied(), raw.stamp, text(self));
            } else if let Some(r) = trace.read::<AssumptionBroken>(raw) {
                self.mark(&format!("broken {:?}", r.assumption), Some(r.lane), raw.stamp, text(self));
            } else if let Some(r) = trace.read::<JobFinished>(raw)
                && let Some((arrival, deadline, lane)) = due.remove(&r.job)
                && (r.outcome != JobOutcome::Completed || arrival.saturating_add(r.response) > deadline)
            {
                let what = if r.outcome == JobOutcome::Completed { "miss" } else { "lost" };
                let name = format!("{what} {}", self.teller.job(r.job));
                self.mark(&name, Some(lane), raw.stamp, text(self));
            }
        }
        for gap in trace.gaps() {
            let at = gap.after.or(gap.before).unwrap_or(Time::ZERO);
            let args = json!({ "rationale": self.teller.gap(gap) });
            self.mark("records lost", None, at, args);
        }
    }

    fn name_tracks(&mut self) {
        let named = |what: &str, track: u32, name: &str| json!({ "ph": "M", "pid": PID, "tid": track, "name": what, "args": { "name": name } });
        let mut names = vec![named("process_name", TRACK_ENGINE, "AegisRT")];
        for (&track, name) in &self.tracks {
            names.push(named("thread_name", track, name));
            let order = json!({ "sort_index": track });
            names.push(json!({
                "ph": "M", "pid": PID, "tid": track, "name": "thread_sort_index", "args": order,
            }));
        }
        // Names come first, so that a viewer knows them before the first slice.
        names.append(&mut self.list);
        self.list = names;
    }

    fn lane_track(&mut self, lane: LaneId) -> u32 {
        let track = u32::from(lane.get()) + 1;
        self.tracks.entry(track).or_insert_with(|| lane.to_string());
        track
    }

    fn slice(&mut self, name: &str, track: u32, start: Time, end: Time, args: Json) {
        let dur = end.since(start).as_micros_f64();
        self.list.push(json!({
            "ph": "X", "pid": PID, "tid": track, "name": name, "ts": micros(start), "dur": dur, "args": args,
        }));
    }

    fn mark(&mut self, name: &str, lane: Option<LaneId>, at: Time, args: Json) {
        let track = lane.map_or(TRACK_ENGINE, |lane| self.lane_track(lane));
        if track == TRACK_ENGINE {
            self.tracks.insert(track, "engine".to_owned());
        }
        self.list.push(json!({
            "ph": "i", "s": "t", "pid": PID, "tid": track, "name": name, "ts": micros(at), "args": args,
        }));
    }
}

/// Microseconds since the epoch, exact to the nanosecond for the first hundred days.
fn micros(at: Time) -> f64 {
    at.since(Time::ZERO).as_micros_f64()
}

fn word(value: &Value<'_>, teller: &Teller<'_>) -> Json {
    match value {
        Value::Count(n) | Value::Illegal(n) => Json::from(*n),
        Value::Span(v) => Json::from(v.get()),
        Value::Instant(v) => Json::from(v.get()),
        Value::Size(v) => Json::from(v.get()),
        Value::Lane(v) => Json::from(v.get()),
        Value::Partition(v) => Json::from(v.get()),
        Value::Segment(v) => Json::from(v.get()),
        Value::Dispatch(v) => Json::from(v.get()),
        Value::Task(_) | Value::Job(_) | Value::Choice(_) => Json::from(teller.value(value)),
    }
}

fn failed(error: io::Error) -> TraceError {
    TraceError::Export { source: Arc::new(error) }
}
