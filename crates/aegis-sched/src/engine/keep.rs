//! Inserted idle time: a lane stays free although a job is ready, because the job that is first in turn would be in the way
//! of one that is to come.
//!
//! The rule is the policy's ([`IdleRule`], [`free_by`]). What is to come is the next job of a task that is not released yet:
//! its timer says when it arrives. So what the rule says changes at releases alone, at which the engine is asked anyhow, and
//! no timer of its own is needed. Who drains or stops releases nothing more, and a lane is kept free for nobody then.

use aegis_types::{JobId, LaneId, Nanos, Time, record};

use super::Engine;
use super::control::Mode;
use super::lane::TaskSlot;
use super::outbox::Outbox;
use crate::policy::{Awaited, free_by};
use crate::sag::IdleRule;

record! {
    /// A lane stays free although a job is ready. Told when it begins, and again when another job is first in turn or
    /// another one is awaited.
    pub struct LaneKeptFree(31) {
        /// The lane.
        lane: LaneId,
        /// The ready job that is first in turn.
        job: JobId,
        /// The job to come that it would be in the way of.
        awaited: JobId,
        /// The nominal arrival of that one.
        until: Time,
        /// When the lane must be free for all that is to come; the epoch where that has passed before time began.
        free_by: Time,
    }
}

impl TaskSlot {
    /// C' of a whole job.
    fn cost(&self) -> Nanos {
        self.budgets.iter().fold(Nanos::ZERO, |sum, budget| sum.saturating_add(*budget))
    }

    /// The next job, which is not released yet.
    fn next(&self) -> Awaited {
        let (arrival, cost) = (self.next_arrival, self.cost());
        let deadline = arrival.saturating_add(self.deadline);
        Awaited { deadline, cost, job: JobId::new(self.id, self.accepted), arrival }
    }
}

impl Engine {
    /// What a free lane is kept for, if the job that is first in turn must not start now.
    pub(super) fn kept_free(
        &mut self,
        lane: usize,
        task: usize,
        job: JobId,
        now: Time,
    ) -> Option<LaneKeptFree> {
        let rule = self.class.inserts()?;
        if self.mode != Mode::Serving {
            return None;
        }
        let own = &self.tasks[task];
        let on_lane = || self.lanes[lane].tasks.iter().map(|&index| &self.tasks[index]);
        let others = on_lane().filter(|other| other.id != own.id && !other.retired && !other.sporadic);
        self.awaited.clear();
        match rule {
            IdleRule::CriticalWindowEdf => self.awaited.extend(others.map(TaskSlot::next)),
            IdleRule::PrecautiousRm => {
                let first = on_lane().map(|task| task.key).min()?;
                let urgent = others.filter(|other| own.key != first && other.key == first);
                let latest = |task: &&TaskSlot| {
                    (task.next_arrival.saturating_add(task.jitter), task.next_arrival, task.id)
                };
                self.awaited.extend(urgent.min_by_key(latest).map(TaskSlot::next));
            }
        }
        let cost = own.cost();
        let (by, binding) = free_by(&mut self.awaited)?;
        if i128::from(now.get()) + i128::from(cost.get()) <= by {
            return None;
        }
        Some(LaneKeptFree {
            lane: self.lanes[lane].id,
            job,
            awaited: binding.job,
            until: binding.arrival,
            free_by: Time::new(u64::try_from(by).unwrap_or(0)),
        })
    }

    /// Leaves a lane free, and says why unless that was said.
    pub(super) fn keep_free(&mut self, lane: usize, kept: LaneKeptFree, now: Time, out: &mut Outbox) {
        let why = Some((kept.job, kept.awaited));
        if std::mem::replace(&mut self.lanes[lane].keeping, why) != why {
            out.tell(now, kept);
        }
    }
}
