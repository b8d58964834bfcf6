//! Broken assumptions: what still holds, and what is shed to bring a lane back to a certified state.

use aegis_types::records::{Assumption, AssumptionBroken, Consequence, JobOutcome};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, Record, Schema, SegmentIndex, Time, record};

use super::Engine;
use super::hold::{SegmentHeld, SegmentLaunched};
use super::job::JobEvent;
use super::keep::LaneKeptFree;
use super::outbox::Outbox;
use super::phase::{InFlight, Phase, Trust};

record! {
    /// A segment is in flight beyond its occupancy budget, all its attempts counted. Told once for each segment, while it
    /// runs: what follows from the overrun is known when the segment has ended.
    pub struct OverrunRunning(28) {
        /// The lane.
        lane: LaneId,
        /// The job.
        job: JobId,
        /// Which segment of the job.
        segment: SegmentIndex,
        /// The dispatch in flight.
        dispatch: DispatchSeq,
        /// Since its first dispatch.
        seen: Nanos,
        /// The occupancy budget C'.
        budget: Nanos,
    }
}

/// The schemas of the records that the engine declares itself, for the head of a trace.
pub const SCHEMAS: &[Schema] =
    &[OverrunRunning::SCHEMA, SegmentHeld::SCHEMA, SegmentLaunched::SCHEMA, LaneKeptFree::SCHEMA];

impl Engine {
    /// Tells of every segment in flight whose budget is over: one that never ends is told of then, and not when it has
    /// ended.
    pub(super) fn tell_running(&mut self, now: Time, out: &mut Outbox) {
        for lane in &mut self.lanes {
            let Phase::Running(InFlight { task, dispatch, first, budget, .. }) = lane.phase else { continue };
            if lane.expires.take_if(|expires| *expires <= now).is_none() {
                continue;
            }
            let task = &self.tasks[task.index()];
            if let Some(job) = task.head() {
                let (lane, segment, seen) = (lane.id, job.segment, now.since(first));
                out.tell(now, OverrunRunning { lane, job: job.id, segment, dispatch, seen, budget });
            }
        }
    }

    /// E4: compares a segment's occupancy, over all its attempts, with its budget, and draws the consequence.
    pub(super) fn watch_budget(
        &mut self,
        lane: usize,
        job: JobId,
        seen: Nanos,
        limit: Nanos,
        now: Time,
        out: &mut Outbox,
    ) {
        let excess = seen.saturating_sub(limit);
        if excess.is_zero() {
            return;
        }
        let common_cause = self.breached_elsewhere(lane, now);
        let state = &mut self.lanes[lane];
        state.overrun = state.overrun.saturating_add(excess);
        state.last_breach = Some(now);
        let within = state.overrun <= state.tolerance;
        state.learn(if within { Trust::Strained } else { Trust::Shedding });
        let consequence = if common_cause {
            Consequence::DeviceVoid
        } else if state.trust.is_void() {
            Consequence::LaneVoid
        } else {
            Consequence::DeadlinesHold
        };
        let lane = state.id;
        let assumption = Assumption::OccupancyBudget;
        out.tell(now, AssumptionBroken { assumption, lane, job, seen, limit, consequence });
        if common_cause {
            // A lane that is idle has nothing to distrust: its next busy period starts whole.
            for lane in self.lanes.iter_mut().filter(|lane| lane.phase != Phase::Idle) {
                lane.learn(Trust::Shedding);
            }
        }
    }

    /// Whether another lane overran a budget so recently that both have a common cause.
    fn breached_elsewhere(&self, lane: usize, now: Time) -> bool {
        let recent = |breach: Time| now.since(breach) <= self.largest;
        self.lanes
            .iter()
            .enumerate()
            .any(|(other, state)| other != lane && state.last_breach.is_some_and(recent))
    }

    /// Drops the queued jobs of every task that sheds load on a lane that must, lowest criticality first. What has
    /// started is never cancelled.
    pub(super) fn shed_where_void(&mut self, now: Time, out: &mut Outbox) {
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].trust != Trust::Shedding {
                continue;
            }
            for position in 0..self.lanes[lane].shed_order.len() {
                let task = self.lanes[lane].shed_order[position];
                self.drop_unstarted(task, JobEvent::Drop, JobOutcome::Dropped, now, out);
            }
            self.settle(lane, now, out);
        }
    }

    /// Drops every job of a task that has not started.
    pub(super) fn drop_unstarted(
        &mut self,
        task: usize,
        event: JobEvent,
        outcome: JobOutcome,
        now: Time,
        out: &mut Outbox,
    ) {
        while let Some(mut job) = self.tasks[task].queue.remove_unstarted() {
            job.advance(event);
            self.end(job, outcome, now, out);
        }
    }

    /// The driver was stalled for longer than was declared: no bound is claimed in the busy periods it fell into.
    pub(super) fn stalled(&mut self, now: Time, gap: Nanos, limit: Nanos, out: &mut Outbox) {
        for index in 0..self.lanes.len() {
            let job = match self.lanes[index].phase {
                Phase::Idle => continue,
                Phase::Running(flight) => self.tasks[flight.task.index()].head(),
                Phase::Ready { .. } => {
                    self.lanes[index].tasks.iter().find_map(|&task| self.tasks[task].head())
                }
            };
            let job = job.map_or(JobId::default(), |job| job.id);
            let lane = &mut self.lanes[index];
            lane.learn(Trust::Broken);
            let (assumption, consequence) = (Assumption::HostStall, Consequence::LaneVoid);
            out.tell(now, AssumptionBroken { assumption, lane: lane.id, job, seen: gap, limit, consequence });
        }
    }
}
