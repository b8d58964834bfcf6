//! Lanes that stay free although a job is ready: only where the policy's rule says so, and always where it does.
//!
//! The rule is worked out anew from arrivals and certified numbers: whether the first job in turn, started now, leaves every
//! deadline of what is to come within reach.

use aegis_sched::engine::LaneKeptFree;
use aegis_sched::sag::IdleRule;
use aegis_types::{JobId, Nanos, Time};

use super::lanes::urgency;
use super::{Checks, TaskShadow};

impl TaskShadow {
    /// Arrival of the next job, which is not released yet.
    fn next(&self) -> Option<Time> {
        let first = self.offset.map(|offset| Time::ZERO.saturating_add(offset));
        self.last_arrival.map(|last| last.saturating_add(self.period)).or(first)
    }

    fn cost(&self) -> Nanos {
        self.budgets.iter().fold(Nanos::ZERO, |sum, budget| sum.saturating_add(*budget))
    }
}

impl Checks<'_> {
    /// The first job in turn of a lane.
    fn first(&self, lane: usize) -> Option<(usize, JobId)> {
        let heads = self.lanes[lane].tasks.iter().filter_map(|&index| {
            let task = &self.tasks[index];
            let job = task.pending.front()?;
            Some((urgency(self.class, task, job), index, job.id))
        });
        heads.min().map(|(_, index, job)| (index, job))
    }

    /// Whether a job of a task must not start at an instant.
    fn is_forbidden(&self, lane: usize, own: usize, at: Time) -> bool {
        let Some(rule) = self.class.inserts().filter(|_| !self.draining) else { return false };
        let tasks = || self.lanes[lane].tasks.iter().map(|&index| (index, &self.tasks[index]));
        let next = |(index, task): (usize, &TaskShadow)| {
            let arrival = task.next()?;
            let deadline = arrival.saturating_add(task.deadline);
            Some((deadline, task.cost(), (arrival.saturating_add(task.jitter), arrival, index)))
        };
        let first = tasks().map(|(_, task)| task.key).min();
        let mut awaited: Vec<_> = match rule {
            IdleRule::CriticalWindowEdf => {
                tasks().filter(|(index, _)| *index != own).filter_map(next).collect()
            }
            IdleRule::PrecautiousRm if Some(self.tasks[own].key) == first => Vec::new(),
            IdleRule::PrecautiousRm => {
                let urgent = tasks().filter(|(_, task)| Some(task.key) == first).filter_map(next);
                urgent.min_by_key(|(.., order)| *order).into_iter().collect()
            }
        };
        awaited.sort_unstable();
        let mut end = at.saturating_add(self.tasks[own].cost());
        awaited.iter().any(|(deadline, cost, _)| {
            end = end.saturating_add(*cost);
            end > *deadline
        })
    }

    /// What is dispatched may start. Where no bound is claimed, arrivals may have left their timers.
    pub(super) fn check_start(&mut self, lane: usize, job: JobId) {
        let now = self.now;
        if self.lanes[lane].void || self.tasks.get(job.task.index()).is_none() {
            return;
        }
        let forbidden = self.is_forbidden(lane, job.task.index(), now);
        self.expect(!forbidden, 5, || format!("{job} started although the lane is kept for what is to come"));
    }

    /// After a decision a lane stays free only as the rule says.
    pub(super) fn check_kept(&mut self, lane: usize, at: Time) {
        let state = &self.lanes[lane];
        if !state.kept || state.running.is_some() || state.void {
            return;
        }
        let (id, first) = (state.id, self.first(lane));
        let forbidden = first.is_some_and(|(own, _)| self.is_forbidden(lane, own, at));
        self.expect(forbidden, 5, || format!("{id} is kept free at {at} although {first:?} may start"));
    }

    /// The engine says for whom it keeps a lane free.
    pub(super) fn kept_free(&mut self, record: &LaneKeptFree) {
        let index = record.lane.index();
        let Some(lane) = self.lanes.get_mut(index) else {
            return self.report(5, format!("{record:?} names no lane"));
        };
        lane.kept = true;
        let (free, void) = (lane.running.is_none(), lane.void);
        let first = self.first(index).is_some_and(|(_, job)| job == record.job);
        let awaited = self.tasks.get(record.awaited.task.index()).is_some_and(|task| {
            let other = record.awaited.task != record.job.task && task.lane == index;
            other && (void || task.next() == Some(record.until) && record.awaited.number == task.accepted)
        });
        self.expect(free && first && awaited, 5, || format!("{record:?} is not true of its lane"));
    }
}
