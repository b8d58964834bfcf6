//! Exclusion: a decided segment that must not run beside another one occupies its lane and waits.
//!
//! It is launched once no segment that excludes it and was decided earlier is unfinished; of one stamp the lower lane
//! is the earlier. Waiting is for earlier decisions only, so it never goes in a circle. What it may cost is part of the
//! budget, which therefore counts from the decision: see [`crate::exclusion`].

use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, Time, record};

use super::Engine;
use super::outbox::{Dispatch, Outbox};
use super::phase::{InFlight, Phase};
use crate::model::TaskSet;

record! {
    /// A decided segment waits for one that was decided earlier and excludes it.
    pub struct SegmentHeld(29) {
        /// The lane, which it occupies.
        lane: LaneId,
        /// The job.
        job: JobId,
        /// The dispatch that waits.
        dispatch: DispatchSeq,
        /// The lane of the first segment that it waits for.
        behind: LaneId,
        /// That segment's job.
        other: JobId,
    }
}

record! {
    /// A segment that waited is launched.
    pub struct SegmentLaunched(30) {
        /// The lane.
        lane: LaneId,
        /// The job.
        job: JobId,
        /// Which segment of the job.
        segment: SegmentIndex,
        /// The dispatch that waited.
        dispatch: DispatchSeq,
        /// Since its decision.
        waited: Nanos,
    }
}

/// For every task, by number, those on other lanes that it must not run beside.
pub(super) fn excluded(set: &TaskSet) -> Box<[Box<[usize]>]> {
    let mut excluded: Vec<Vec<usize>> = vec![Vec::new(); set.tasks().len()];
    for task in set.tasks() {
        for other in task.excludes.iter().filter_map(|&other| set.task(other)) {
            if other.lane != task.lane {
                excluded[task.id.index()].push(other.id.index());
                excluded[other.id.index()].push(task.id.index());
            }
        }
    }
    let sorted = excluded.into_iter().map(|mut others| {
        others.sort_unstable();
        others.dedup();
        others.into_boxed_slice()
    });
    sorted.collect()
}

impl Engine {
    /// The first lane, by number, with an unfinished segment that was decided before the one in flight on `lane` and
    /// excludes it.
    pub(super) fn ahead_of(&self, lane: usize, flight: &InFlight) -> Option<(LaneId, JobId)> {
        let excluded = &self.excluded[flight.task.index()];
        if excluded.is_empty() {
            return None;
        }
        self.lanes.iter().enumerate().find_map(|(index, other)| {
            let Phase::Running(ahead) = other.phase else { return None };
            let earlier = (ahead.first, index) < (flight.first, lane);
            let task = ahead.task.index();
            let job = self.tasks[task].head()?;
            (earlier && excluded.binary_search(&task).is_ok()).then_some((other.id, job.id))
        })
    }

    /// Keeps the segment in flight on a lane from being launched.
    pub(super) fn hold(
        &mut self,
        lane: usize,
        command: Dispatch,
        (behind, other): (LaneId, JobId),
        now: Time,
        out: &mut Outbox,
    ) {
        let Dispatch { lane: id, job, dispatch, .. } = command;
        self.lanes[lane].held = Some(command);
        out.tell(now, SegmentHeld { lane: id, job, dispatch, behind, other });
    }

    /// Launches every segment that waits for nothing any more.
    pub(super) fn launch_held(&mut self, now: Time, out: &mut Outbox) {
        for lane in 0..self.lanes.len() {
            let Phase::Running(flight) = self.lanes[lane].phase else { continue };
            if self.lanes[lane].held.is_none() || self.ahead_of(lane, &flight).is_some() {
                continue;
            }
            if let Some(command) = self.lanes[lane].held.take() {
                let Dispatch { lane, job, segment, dispatch, .. } = command;
                let waited = now.since(flight.first);
                out.tell(now, SegmentLaunched { lane, job, segment, dispatch, waited });
                out.command(command);
            }
        }
    }
}
