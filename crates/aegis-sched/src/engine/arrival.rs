//! A client submits a job.

use aegis_types::records::{JobRefused, Refusal};
use aegis_types::{TaskId, Time};

use super::Engine;
use super::control::Mode;
use super::outbox::{Answer, Decision, Outbox};
use super::phase::Trust;

impl Engine {
    pub(super) fn arrival(&mut self, now: Time, task: TaskId, token: u64, out: &mut Outbox) {
        let decision = match self.refusal(now, task) {
            Some(reason) => {
                Decision::Refused { reason, legal_from: self.refuse(now, task, reason, token, out) }
            }
            None => {
                let slot = &self.tasks[task.index()];
                // A gap test on the stamps would refuse legal jitter: the nominal arrival may lie up to J' back.
                let arrival = now.saturating_sub(slot.jitter).max(slot.next_arrival);
                let (job, slot) = self.release(now, task.index(), arrival, token, out);
                Decision::Accepted { job, slot }
            }
        };
        out.answer(Answer { task, token, decision });
    }

    fn refusal(&self, now: Time, task: TaskId) -> Option<Refusal> {
        match self.tasks.get(task.index()) {
            Some(slot) if slot.sporadic => {
                let early = slot.next_arrival > now && self.mode == Mode::Serving && !slot.retired;
                if early { Some(Refusal::TooEarly) } else { self.obstacle(task.index()) }
            }
            Some(_) | None => Some(Refusal::NotSporadic),
        }
    }

    /// What stands in the way of any release of a task, timer or client.
    pub(super) fn obstacle(&self, task: usize) -> Option<Refusal> {
        let slot = &self.tasks[task];
        if self.mode != Mode::Serving || slot.retired {
            Some(Refusal::Stopping)
        } else if slot.sheds && self.lanes[slot.lane.index()].trust == Trust::Shedding {
            Some(Refusal::LaneVoid)
        } else if slot.queue.is_full() {
            Some(Refusal::QueueFull)
        } else {
            None
        }
    }

    /// Records a refusal; returns the earliest legal stamp where the arrival came too early, else the epoch.
    pub(super) fn refuse(
        &mut self,
        now: Time,
        task: TaskId,
        reason: Refusal,
        token: u64,
        out: &mut Outbox,
    ) -> Time {
        let slot = self.tasks.get(task.index());
        let legal_from = match (reason, slot) {
            (Refusal::TooEarly, Some(slot)) => slot.next_arrival,
            _ => Time::ZERO,
        };
        let pending = slot.map_or(0, |slot| slot.queue.len() as u64);
        out.tell(now, JobRefused { task, reason, legal_from, pending, token });
        legal_from
    }
}
