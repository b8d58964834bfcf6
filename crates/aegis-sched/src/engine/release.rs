//! Releasing a job, and the timers that do so by themselves.

use aegis_types::records::{Assumption, AssumptionBroken, Consequence, JobReleased};
use aegis_types::{JobId, SegmentIndex, Time};

use super::Engine;
use super::control::Mode;
use super::job::{Job, JobState};
use super::outbox::Outbox;
use super::phase::{Phase, PhaseEvent, Trust};

impl Engine {
    /// Tells of running overruns, and releases at most one due job of each periodic task: a burst would lengthen the
    /// decider's cycle.
    pub(super) fn tick(&mut self, now: Time, out: &mut Outbox) {
        self.tell_running(now, out);
        if self.mode != Mode::Serving {
            return;
        }
        for index in 0..self.tasks.len() {
            let slot = &self.tasks[index];
            if !slot.sporadic && !slot.retired && slot.next_arrival <= now {
                self.expire(now, index, out);
            }
        }
    }

    /// One timer is due.
    fn expire(&mut self, now: Time, index: usize, out: &mut Outbox) {
        let slot = &self.tasks[index];
        let (task, lane, limit) = (slot.id, slot.lane, slot.jitter);
        let nominal = slot.next_arrival;
        // Within J' of the nominal arrival this is the nominal arrival. Later, the arrival itself moves: the phase
        // shifts, and the releases that were missed do not come in a burst.
        let arrival = now.saturating_sub(limit).max(nominal);
        if let Some(reason) = self.obstacle(index) {
            let slot = &mut self.tasks[index];
            slot.next_arrival = arrival.saturating_add(slot.period);
            self.refuse(now, task, reason, 0, out);
            return;
        }
        let (job, _) = self.release(now, index, arrival, 0, out);
        let seen = now.since(nominal);
        if seen > limit {
            // Where a rule looks ahead at releases, every job after this one has another schedule than was followed.
            let lane_void = self.class.inserts().is_some();
            if lane_void {
                self.lanes[lane.index()].learn(Trust::Broken);
            }
            if let Some(last) = self.tasks[index].queue.last_mut() {
                last.void = true;
            }
            out.tell(
                now,
                AssumptionBroken {
                    assumption: Assumption::PromptRelease,
                    lane,
                    job,
                    seen,
                    limit,
                    consequence: if lane_void { Consequence::LaneVoid } else { Consequence::JobVoid },
                },
            );
        }
    }

    /// Accepts a job with this nominal arrival; returns it and its input slot. Nothing may stand in its way.
    pub(super) fn release(
        &mut self,
        now: Time,
        index: usize,
        arrival: Time,
        token: u64,
        out: &mut Outbox,
    ) -> (JobId, u32) {
        let task = &mut self.tasks[index];
        let lane = &mut self.lanes[task.lane.index()];
        let id = JobId::new(task.id, task.accepted);
        let deadline = arrival.saturating_add(task.deadline);
        task.accepted += 1;
        task.next_arrival = arrival.saturating_add(task.period);
        let slot = task.queue.free_slot(id.number);
        task.queue.push(Job {
            id,
            arrival,
            deadline,
            released: now,
            segment: SegmentIndex::new(0),
            attempts: 0,
            slot,
            void: false,
            state: JobState::Queued,
        });
        if lane.phase == Phase::Idle {
            lane.busy_since = now;
        }
        lane.pending += 1;
        lane.advance(PhaseEvent::Release(now));
        let pending = task.queue.len() as u64;
        out.tell(now, JobReleased { job: id, lane: lane.id, arrival, deadline, pending, token });
        (id, slot)
    }
}
