//! Segments as spans: from the record of a dispatch to the record of its completion. Query and export both need to
//! know what was in flight on a lane, and neither may guess across a gap.

use std::collections::BTreeMap;

use aegis_types::records::{Reason, SegmentCompleted, SegmentDispatched};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, Time};

use crate::read::Trace;

/// A segment that was dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSpan {
    /// Its job.
    pub job: JobId,
    /// Its lane.
    pub lane: LaneId,
    /// Which segment of the job.
    pub segment: SegmentIndex,
    /// The number of the dispatch on the lane.
    pub dispatch: DispatchSeq,
    /// The occupancy budget C'.
    pub budget: Nanos,
    /// Why this job.
    pub reason: Reason,
    /// The dispatch's stamp.
    pub start: Time,
    /// Where the dispatch stands among the trace's records.
    pub position: usize,
    /// How the span ends.
    pub end: SpanEnd,
}

/// How a span ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanEnd {
    /// The completion was recorded.
    Completed {
        /// The completion's stamp.
        at: Time,
        /// Where the completion stands among the trace's records.
        position: usize,
    },
    /// Records were lost before a completion was seen; whether the segment was in flight any longer is unknown.
    Unknown {
        /// The stamp of the record that follows the loss.
        at: Time,
        /// From this position among the trace's records on, nothing is known of the segment.
        position: usize,
    },
    /// The trace ends first.
    Open,
}

/// Every segment of a trace, with a way to ask for the one in flight.
#[derive(Debug, Default)]
pub(crate) struct Timeline {
    spans: Vec<SegmentSpan>,
    /// Indexes into `spans`, in the order of dispatch.
    by_lane: BTreeMap<LaneId, Vec<usize>>,
}

impl Trace {
    /// Every segment that was dispatched, in the order of dispatch.
    pub fn segments(&self) -> Vec<SegmentSpan> {
        self.timeline().spans
    }

    pub(crate) fn timeline(&self) -> Timeline {
        let resumptions = self.resumptions();
        let mut timeline = Timeline::default();
        // Lane to the index of its open span and the producer that told of it.
        let mut open: BTreeMap<LaneId, (usize, u16)> = BTreeMap::new();
        for (position, raw) in self.records().iter().enumerate() {
            let lost = SpanEnd::Unknown { at: raw.stamp, position };
            if resumptions.contains(&(raw.producer(), raw.sequence())) {
                let spans = &mut timeline.spans;
                open.retain(|_, &mut (index, producer)| {
                    let touched = producer == raw.producer();
                    if touched {
                        spans[index].end = lost;
                    }
                    !touched
                });
            }
            if let Some(dispatched) = self.read::<SegmentDispatched>(raw) {
                let index = timeline.push(&dispatched, raw.stamp, position);
                if let Some((earlier, _)) = open.insert(dispatched.lane, (index, raw.producer())) {
                    // A lane has one segment in flight, so a completion is missing, and nothing tells since when.
                    let position = timeline.spans[earlier].position;
                    timeline.spans[earlier].end = SpanEnd::Unknown { at: raw.stamp, position };
                }
            } else if let Some(completed) = self.read::<SegmentCompleted>(raw)
                && let Some(&(index, _)) = open.get(&completed.lane)
                && timeline.spans[index].dispatch == completed.dispatch
            {
                timeline.spans[index].end = SpanEnd::Completed { at: raw.stamp, position };
                open.remove(&completed.lane);
            }
        }
        timeline
    }
}

impl Timeline {
    /// The segment that was certainly in flight on `lane` when the record at `position` was made.
    pub(crate) fn in_flight(&self, lane: LaneId, position: usize) -> Option<&SegmentSpan> {
        let on_lane = self.by_lane.get(&lane)?;
        let later = on_lane.partition_point(|&index| self.spans[index].position < position);
        let span = &self.spans[on_lane[later.checked_sub(1)?]];
        let lasts = match span.end {
            SpanEnd::Completed { position: end, .. } | SpanEnd::Unknown { position: end, .. } => {
                end > position
            }
            SpanEnd::Open => true,
        };
        lasts.then_some(span)
    }

    fn push(&mut self, dispatched: &SegmentDispatched, start: Time, position: usize) -> usize {
        let index = self.spans.len();
        self.spans.push(SegmentSpan {
            job: dispatched.job,
            lane: dispatched.lane,
            segment: dispatched.segment,
            dispatch: dispatched.dispatch,
            budget: dispatched.budget,
            reason: dispatched.reason,
            start,
            position,
            end: SpanEnd::Open,
        });
        self.by_lane.entry(dispatched.lane).or_default().push(index);
        index
    }
}
