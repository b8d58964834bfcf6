//! The records of a trace, sorted by job and by lane.

use std::collections::BTreeMap;

use aegis_types::records::{JobFinished, JobReleased, SegmentCompleted, SegmentDispatched, SegmentRan};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, RawRecord, Record, SegmentIndex, TaskId, Time};

use crate::engine::LaneKeptFree;

/// What a trace tells of one job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JobTrace {
    /// Its release, with its stamp.
    pub released: Option<Released>,
    /// Its end, with its stamp.
    pub ended: Option<Ended>,
}

/// A release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Released {
    /// The stamp.
    pub at: Time,
    /// The record.
    pub record: JobReleased,
}

/// An end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The stamp.
    pub at: Time,
    /// The record.
    pub finished: JobFinished,
}

/// Records of the ring of decisions that are missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TraceGap {
    /// The stamp of the last record before the gap; the epoch if there is none.
    pub from: Time,
    /// The stamp of the first record after it.
    pub to: Time,
    /// How many are missing, modulo 2^32.
    pub lost: u32,
}

/// A segment on its lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) job: JobId,
    pub(super) segment: SegmentIndex,
    pub(super) dispatch: DispatchSeq,
    pub(super) budget: Nanos,
    pub(super) from: Time,
    /// `None` while the segment is in flight.
    pub(super) to: Option<Time>,
}

#[derive(Debug, Default)]
pub(super) struct History {
    jobs: BTreeMap<JobId, JobTrace>,
    lanes: BTreeMap<LaneId, Vec<Span>>,
    /// Why lanes stayed free, from each instant on.
    kept: BTreeMap<LaneId, Vec<(Time, LaneKeptFree)>>,
    ran: BTreeMap<(LaneId, DispatchSeq), SegmentRan>,
    pub(super) gaps: Vec<TraceGap>,
    /// The last stamp of the trace.
    pub(super) end: Time,
}

/// The ring that holds what the engine was told and decided: that of the first such record.
pub(crate) fn decision_ring(records: &[RawRecord]) -> Option<u16> {
    records.iter().find(|record| is_decision(record)).map(RawRecord::producer)
}

/// Whether the record is an input or a decision of the engine.
pub(crate) fn is_decision(record: &RawRecord) -> bool {
    (1..=39).contains(&record.kind())
}

/// What is missing between two records that follow each other in one ring.
pub(crate) fn gap_between(before: Option<&RawRecord>, after: &RawRecord) -> Option<TraceGap> {
    // The first record of a ring has the number zero.
    let expected = before.map_or(0, |record| record.sequence().wrapping_add(1));
    let lost = after.sequence().wrapping_sub(expected);
    let from = before.map_or(Time::ZERO, |record| record.stamp);
    (lost > 0).then_some(TraceGap { from, to: after.stamp, lost })
}

impl History {
    pub(super) fn read(records: &[RawRecord]) -> Self {
        let mut history = Self::default();
        let ring = decision_ring(records);
        let mut last: Option<&RawRecord> = None;
        for raw in records {
            history.end = history.end.max(raw.stamp);
            if let Some(ran) = SegmentRan::read(raw) {
                history.ran.insert((ran.lane, ran.dispatch), ran);
            }
            if Some(raw.producer()) != ring {
                continue;
            }
            history.gaps.extend(gap_between(last, raw));
            last = Some(raw);
            history.take(raw);
        }
        history
    }

    fn take(&mut self, raw: &RawRecord) {
        let at = raw.stamp;
        if let Some(record) = JobReleased::read(raw) {
            self.jobs.entry(record.job).or_default().released = Some(Released { at, record });
        } else if let Some(finished) = JobFinished::read(raw) {
            self.jobs.entry(finished.job).or_default().ended = Some(Ended { at, finished });
        } else if let Some(kept) = LaneKeptFree::read(raw) {
            self.kept.entry(kept.lane).or_default().push((at, kept));
        } else if let Some(r) = SegmentDispatched::read(raw) {
            let (job, segment, dispatch, budget) = (r.job, r.segment, r.dispatch, r.budget);
            self.occupy(r.lane, Span { job, segment, dispatch, budget, from: at, to: None });
        } else if let Some(r) = SegmentCompleted::read(raw) {
            let last = self.lanes.entry(r.lane).or_default().last_mut();
            if let Some(span) = last.filter(|span| span.dispatch == r.dispatch) {
                span.to = Some(at);
            } else {
                // Its dispatch lies in a gap, yet the completion tells when it was: the lane was not free.
                let (job, segment, dispatch, budget) = (r.job, r.segment, r.dispatch, r.budget);
                let from = at.saturating_sub(r.occupancy);
                self.occupy(r.lane, Span { job, segment, dispatch, budget, from, to: Some(at) });
            }
        }
    }

    fn occupy(&mut self, lane: LaneId, span: Span) {
        let spans = self.lanes.entry(lane).or_default();
        // A completion that lies in a gap happened before the next dispatch at the latest.
        if let Some(last) = spans.last_mut() {
            last.to = last.to.or(Some(span.from));
        }
        spans.push(span);
    }

    pub(super) fn job(&self, job: JobId) -> Option<&JobTrace> {
        self.jobs.get(&job)
    }

    pub(super) fn jobs_of(&self, task: TaskId) -> impl Iterator<Item = (JobId, &JobTrace)> {
        self.jobs.range(JobId::new(task, 0)..=JobId::new(task, u64::MAX)).map(|(id, job)| (*id, job))
    }

    /// Segments of a lane that occupy part of the interval, in order.
    pub(super) fn spans(&self, lane: LaneId, from: Time, to: Time) -> impl Iterator<Item = &Span> {
        let spans = self.lanes.get(&lane).map_or(&[][..], Vec::as_slice);
        // One segment is in flight at a time, so that what ends later also starts later.
        let first = spans.partition_point(|span| span.to.is_some_and(|end| end <= from));
        spans.get(first..).unwrap_or(&[]).iter().take_while(move |span| span.from < to)
    }

    /// Why a lane that ran nothing stayed free in part of the interval, in order: from when on, until the next reason.
    pub(super) fn kept(
        &self,
        lane: LaneId,
        from: Time,
        to: Time,
    ) -> impl Iterator<Item = &(Time, LaneKeptFree)> {
        let kept = self.kept.get(&lane).map_or(&[][..], Vec::as_slice);
        let spans = self.lanes.get(&lane).map_or(&[][..], Vec::as_slice);
        let ran = spans.partition_point(|span| span.from < to).checked_sub(1).map(|last| spans[last].from);
        // The last one that began before the interval lasts into it, unless something ran in between.
        let first = kept.partition_point(|(at, _)| *at <= from).saturating_sub(1);
        let since = move |at: Time| ran.is_none_or(|ran| at > ran);
        kept[first..].iter().filter(move |(at, _)| since(*at)).take_while(move |(at, _)| *at < to)
    }

    /// What the carrier saw of a segment.
    pub(super) fn ran(&self, lane: LaneId, span: &Span) -> Option<&SegmentRan> {
        self.ran.get(&(lane, span.dispatch)).filter(|ran| ran.job == span.job && ran.segment == span.segment)
    }

    /// A gap that touches the interval. A gap that ends or begins at one of its ends touches it: what is missing may
    /// bear that very stamp.
    pub(super) fn gap_in(&self, from: Time, to: Time) -> Option<&TraceGap> {
        self.gaps.iter().find(|gap| gap.from <= to && from <= gap.to)
    }
}
