//! The terms of one job: its interval, cut at what happened on its lane.

use aegis_types::records::{JobOutcome, Standing};
use aegis_types::{JobId, LaneId, Nanos, SegmentIndex, Time};

use super::history::{Ended, History, Released, Span};
use crate::engine::LaneKeptFree;
use crate::policy::PolicyClass;
use crate::referee::certificate::{Certificate, Term, TermKind};

/// The answer to "why did it take so long?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Explanation {
    /// Every nanosecond is accounted for.
    Known(Blame),
    /// Part of the interval cannot be told.
    Unknown {
        /// Where it begins.
        from: Time,
        /// Where it ends.
        to: Time,
        /// Why.
        reason: Unknown,
    },
}

/// Why an interval cannot be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unknown {
    /// Records of the ring of decisions are missing.
    Gap {
        /// How many.
        lost: u32,
    },
    /// The trace ends before the job.
    Unfinished,
    /// Two records contradict each other.
    Contradiction,
}

/// Where the time of a job went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// The job.
    pub job: JobId,
    /// Its lane.
    pub lane: LaneId,
    /// Its nominal arrival.
    pub arrival: Time,
    /// When it ended.
    pub ended: Time,
    /// Its absolute deadline.
    pub deadline: Time,
    /// How it ended.
    pub outcome: JobOutcome,
    /// From arrival to end: the sum of all terms.
    pub response: Nanos,
    /// The bound that applies, `Nanos::MAX` if none.
    pub bound: Nanos,
    /// What the certificate says about it.
    pub standing: Standing,
    /// What the response is made of: intervals that follow each other without gap or overlap.
    pub terms: Vec<BlameTerm>,
    /// What the certified bound is made of, to be shown beside.
    pub certified: Vec<Term>,
}

/// One part of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlameTerm {
    /// What it is.
    pub kind: BlameKind,
    /// When it began.
    pub from: Time,
    /// When it ended.
    pub to: Time,
}

/// What a part of a response was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlameKind {
    /// From the nominal arrival to the release.
    ReleaseLatency,
    /// A segment that occupied the lane at the release and could not be preempted, of a less urgent job.
    Blocking {
        /// The job it belongs to.
        by: JobId,
        /// Which segment.
        segment: SegmentIndex,
        /// Its occupancy budget.
        budget: Nanos,
    },
    /// A segment of a more urgent job, or of an earlier job of the same task.
    Interference {
        /// The job it belongs to.
        by: JobId,
        /// Which segment.
        segment: SegmentIndex,
        /// Its occupancy budget.
        budget: Nanos,
    },
    /// A segment of the job itself.
    Own {
        /// Which.
        segment: SegmentIndex,
        /// Its occupancy budget.
        budget: Nanos,
        /// Which part of its occupancy.
        part: Part,
    },
    /// The lane was kept free by a policy that inserts idle time: a job would have been in the way of one to come.
    Kept {
        /// The job that was first in turn.
        first: JobId,
        /// The job to come.
        awaited: JobId,
        /// Its nominal arrival.
        until: Time,
    },
    /// The lane was free and the job was not dispatched: a late decision.
    Waiting,
}

/// Part of a segment's occupancy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// From dispatch to completion, where no carrier told more.
    Whole,
    /// From the dispatch to the entry of the launch call.
    Handoff,
    /// From the entry of the launch call until its end was visible to the carrier.
    Execution,
    /// Until the engine was told.
    Detection,
}

impl BlameTerm {
    /// How long it lasted.
    pub const fn span(&self) -> Nanos {
        self.to.since(self.from)
    }
}

impl Blame {
    /// The certified term that covers `term`, if the certificate tells one.
    pub fn certified_beside(&self, term: &BlameTerm) -> Option<&Term> {
        self.certified.iter().find(|certified| match (term.kind, certified.kind) {
            (BlameKind::ReleaseLatency, TermKind::Jitter)
            | (BlameKind::Own { .. }, TermKind::Own)
            | (BlameKind::Blocking { .. }, TermKind::Blocking { .. }) => true,
            (kind, TermKind::Waiting) => !matches!(kind, BlameKind::Own { .. }),
            (BlameKind::Interference { by, .. }, TermKind::Interference { by: task, .. }) => by.task == task,
            (BlameKind::Interference { by, .. }, TermKind::Carry) => by.task == self.job.task,
            _ => false,
        })
    }
}

pub(super) fn explain(history: &History, certificate: &Certificate, id: JobId) -> Option<Explanation> {
    let job = history.job(id)?;
    let (from, to) = match (job.released, job.ended) {
        (Some(released), Some(ended)) => (released.record.arrival, ended.at),
        (Some(released), None) => (released.record.arrival, history.end),
        (None, Some(ended)) => (ended.at.saturating_sub(ended.finished.response), ended.at),
        (None, None) => return None,
    };
    let unknown = |reason| Some(Explanation::Unknown { from, to, reason });
    if let Some(gap) = history.gap_in(from, to) {
        let (from, to) = (gap.from.max(from), gap.to.min(to));
        return Some(Explanation::Unknown { from, to, reason: Unknown::Gap { lost: gap.lost } });
    }
    let (Some(released), Some(ended)) = (job.released, job.ended) else {
        return unknown(if job.ended.is_none() { Unknown::Unfinished } else { Unknown::Contradiction });
    };
    if from > released.at || released.at > to || to.since(from) != ended.finished.response {
        return unknown(Unknown::Contradiction);
    }
    Some(Explanation::Known(blame(history, certificate, id, &released, &ended)))
}

fn blame(
    history: &History,
    certificate: &Certificate,
    id: JobId,
    released: &Released,
    ended: &Ended,
) -> Blame {
    let mut cut = Cut { terms: Vec::new(), at: released.record.arrival };
    cut.until(released.at, BlameKind::ReleaseLatency);
    for span in history.spans(released.record.lane, released.at, ended.at) {
        cut.free(history, released.record.lane, span.from);
        let end = span.to.map_or(ended.at, |to| to.min(ended.at));
        if span.job == id {
            own(&mut cut, history, released.record.lane, span, end);
        } else {
            cut.until(end, foreign(history, certificate, id, released, span));
        }
    }
    cut.free(history, released.record.lane, ended.at);
    let certified = certificate.task(id.task).and_then(|(lane, position)| lane.tasks().get(position));
    let finished = ended.finished;
    Blame {
        job: id,
        lane: released.record.lane,
        arrival: released.record.arrival,
        ended: ended.at,
        deadline: released.record.deadline,
        outcome: finished.outcome,
        response: finished.response,
        bound: finished.bound,
        standing: finished.standing,
        terms: cut.terms,
        certified: certified.map_or_else(Vec::new, |task| task.terms.clone()),
    }
}

/// Cuts an interval from left to right; no part can overlap or be left out.
struct Cut {
    terms: Vec<BlameTerm>,
    at: Time,
}

impl Cut {
    fn until(&mut self, to: Time, kind: BlameKind) {
        if to > self.at {
            self.terms.push(BlameTerm { kind, from: self.at, to });
            self.at = to;
        }
    }

    /// The lane ran nothing.
    fn free(&mut self, history: &History, lane: LaneId, to: Time) {
        let mut kept = history.kept(lane, self.at, to).peekable();
        while let Some((from, record)) = kept.next() {
            self.until(*from, BlameKind::Waiting);
            let end = kept.peek().map_or(to, |(next, _)| *next);
            let LaneKeptFree { job: first, awaited, until, .. } = *record;
            self.until(end, BlameKind::Kept { first, awaited, until });
        }
        self.until(to, BlameKind::Waiting);
    }
}

/// Splits the job's own occupancy by what the carrier saw. The carrier's stamps serve blame only, so they are clamped
/// between those of the engine.
fn own(cut: &mut Cut, history: &History, lane: LaneId, span: &Span, end: Time) {
    let kind = |part| BlameKind::Own { segment: span.segment, budget: span.budget, part };
    match history.ran(lane, span) {
        Some(ran) => {
            cut.until(ran.entered.min(end), kind(Part::Handoff));
            cut.until(ran.left.min(end), kind(Part::Execution));
            cut.until(end, kind(Part::Detection));
        }
        None => cut.until(end, kind(Part::Whole)),
    }
}

fn foreign(
    history: &History,
    certificate: &Certificate,
    id: JobId,
    released: &Released,
    span: &Span,
) -> BlameKind {
    let (by, segment, budget) = (span.job, span.segment, span.budget);
    let own_key = key(certificate, id, released);
    let other = history.job(by).and_then(|job| job.released).and_then(|r| key(certificate, by, &r));
    // A job whose release the trace does not hold can be told only by having run already.
    let less_urgent = match (own_key, other) {
        (Some(own), Some(other)) => other > own,
        _ => true,
    };
    if span.from < released.at && less_urgent && by.task != id.task {
        BlameKind::Blocking { by, segment, budget }
    } else {
        BlameKind::Interference { by, segment, budget }
    }
}

/// The urgency of a job in the certificate's class, ties included; `None` where the class has no keys.
fn key(certificate: &Certificate, id: JobId, released: &Released) -> Option<(u64, JobId)> {
    let (lane, position) = certificate.task(id.task)?;
    let key = lane.tasks().get(position)?.key;
    let key = match certificate.class() {
        PolicyClass::StaticPriority | PolicyClass::Precautious => key,
        PolicyClass::AbsoluteDeadline | PolicyClass::CriticalWindow => {
            released.record.arrival.saturating_add(Nanos::new(key)).get()
        }
        PolicyClass::ArrivalOrder => released.at.get(),
        PolicyClass::WorkConserving | PolicyClass::Fair => return None,
    };
    Some((key, id))
}
