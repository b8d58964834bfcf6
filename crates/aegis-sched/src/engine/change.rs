//! A change of what is served while jobs are pending: the engine of another certificate takes over what this one has.
//!
//! **Widening**, from a set to a union that has every task of it under its number, with budgets and jitters that are no
//! smaller. Whatever ran so far was a legal run of the union: its additional tasks are sporadic ones that had not
//! arrived yet, and what keeps a budget keeps a larger one. So jobs that are pending are bounded by the union's
//! certificate like those to come, and the lanes' busy periods go on. Tasks of the union that are to go are *retired*:
//! they get no jobs any more, which is legal for a sporadic task too; their contracts stay charged.
//!
//! **Narrowing**, from the union to the set without its retired tasks, once these have no pending jobs. A lane that is
//! idle at that instant starts its next busy period with tasks, charges and bounds of the narrower set alone. On a lane
//! that is busy jobs of the retired tasks may have run in the busy period that goes on, so its jobs keep the union's
//! bounds until it idles: until then it makes a legal run of the union, whose budgets and jitters are no smaller.
//!
//! The decider's cycle is shorter for the narrower set, and so is J'. So that no submission or timer is in transit whose
//! detection took one of the longer cycles, a change to a narrower set is made right after a look at every source that
//! found nothing. The next look then comes within a look of it, which J' has room for.
//!
//! Bounds of one busy period may mix two certificates at most, so no change is made while a lane is still under the last
//! one, nor where an assumption broke: both end when the lane idles. A queue never shrinks: its input slots exist, and a
//! job keeps its slot. Whether budgets were measured beside the tasks of the union is for the caller to see (see
//! [`crate::mode`]); what waiting for excluded tasks costs depends on all of them, so tasks that exclude each other
//! change at an idle instant only.

use aegis_types::{Nanos, TaskId, Time};

use super::Engine;
use super::lane::{Former, Lane, TaskSlot};
use super::phase::{InFlight, Phase, Trust};
use super::succeed::ChangeError;
use super::turn::Turn;
use crate::model::{Task, TaskSet};
use crate::policy::{PolicyClass, SchedulingPolicy};
use crate::referee::certificate::Certificate;

/// Which way budgets and jitters may move.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Wider,
    Narrower,
}

impl Engine {
    /// The engine of `set` that takes over from this one at `now`, with its pending jobs. `set` has every task of this
    /// engine under its number, and perhaps more; of those in `retiring` no job is accepted any more.
    ///
    /// It allocates, and it needs an [`outbox`](Engine::outbox) of its own.
    ///
    /// # Errors
    /// [`ChangeError`]; this engine goes on as if nothing had been asked.
    pub fn widened(
        &self,
        set: &TaskSet,
        certificate: Certificate,
        policy: Box<dyn SchedulingPolicy>,
        retiring: &[TaskId],
        now: Time,
    ) -> Result<Self, ChangeError> {
        self.may_change(set, &certificate, policy.as_ref(), now)?;
        if let Some(&task) = retiring.iter().find(|task| task.index() >= set.tasks().len()) {
            return Err(ChangeError::Unknown { task, tasks: set.tasks().len() });
        }
        if set.tasks().len() < self.tasks.len() {
            let task = self.tasks[set.tasks().len()].id;
            return Err(ChangeError::Contract { task, field: "id" });
        }
        let mut next = Self::new(set, certificate, policy, now)?;
        for (slot, old) in next.tasks.iter_mut().zip(&self.tasks) {
            slot.continues(old, Direction::Wider)?;
            slot.take_over(old, now);
        }
        for &task in retiring {
            next.tasks[task.index()].retired = true;
        }
        for (lane, old) in next.lanes.iter_mut().zip(&self.lanes) {
            lane.take_over(old, &next.tasks);
            lane.turn = old.turn;
        }
        Ok(next)
    }

    /// The engine of `set` that takes over from this one at `now`, with its pending jobs. `numbers` has for each task of
    /// `set` its number in this engine; tasks that are not among them leave. What leaves, or changes its number, must
    /// have no pending job. Made right after a look at every source that found nothing.
    ///
    /// It allocates, and it needs an [`outbox`](Engine::outbox) of its own.
    ///
    /// # Errors
    /// [`ChangeError`]; this engine goes on as if nothing had been asked.
    pub fn narrowed(
        &self,
        set: &TaskSet,
        certificate: Certificate,
        policy: Box<dyn SchedulingPolicy>,
        numbers: &[TaskId],
        now: Time,
    ) -> Result<Self, ChangeError> {
        self.may_change(set, &certificate, policy.as_ref(), now)?;
        self.may_leave(set, numbers)?;
        let mut next = Self::new(set, certificate, policy, now)?;
        for (slot, &number) in next.tasks.iter_mut().zip(numbers) {
            let old = &self.tasks[number.index()];
            slot.continues(old, Direction::Narrower)?;
            slot.take_over(old, now);
            slot.retired = old.retired;
        }
        for (lane, old) in next.lanes.iter_mut().zip(&self.lanes) {
            lane.take_over(old, &next.tasks);
            lane.turn = turn(lane, old, numbers);
            if old.pending > 0 {
                lane.keep_bounds(self, numbers);
            }
        }
        Ok(next)
    }

    /// Whether tasks that get no jobs any more, and have none, are still charged.
    pub fn is_drained_of(&self, retiring: &[TaskId]) -> bool {
        retiring.iter().all(|&task| self.pending(task) == 0)
    }

    /// What holds for every change.
    fn may_change(
        &self,
        set: &TaskSet,
        certificate: &Certificate,
        policy: &dyn SchedulingPolicy,
        now: Time,
    ) -> Result<(), ChangeError> {
        self.may_be_followed(set, certificate, now)?;
        if policy.class() != self.class || policy.name() != self.policy.name() {
            return Err(ChangeError::Policy { given: policy.name(), serving: self.policy.name() });
        }
        if self.class.inserts().is_some() {
            return Err(ChangeError::Inserts { policy: policy.name() });
        }
        let excludes = |task: &&Task| !task.excludes.is_empty();
        if let Some(task) = set.tasks().iter().find(excludes) {
            return Err(ChangeError::Contract { task: task.id, field: "excludes" });
        }
        if let Some(task) = self.excluded.iter().position(|others| !others.is_empty()) {
            return Err(ChangeError::Contract { task: self.tasks[task].id, field: "excludes" });
        }
        if let Some(lane) = self.lanes.iter().find(|lane| lane.trust != Trust::Whole || lane.is_former()) {
            return Err(ChangeError::Unsettled { lane: lane.id, trust: lane.trust });
        }
        Ok(())
    }

    /// Numbers are those of different tasks; whoever leaves or is renumbered has no pending job.
    fn may_leave(&self, set: &TaskSet, numbers: &[TaskId]) -> Result<(), ChangeError> {
        let mut stays = vec![None; self.tasks.len()];
        let tasks = self.tasks.len();
        if numbers.len() != set.tasks().len() {
            return Err(ChangeError::Numbers { given: numbers.len(), tasks: set.tasks().len() });
        }
        for (task, &number) in set.tasks().iter().zip(numbers) {
            match stays.get_mut(number.index()) {
                None => return Err(ChangeError::Unknown { task: number, tasks }),
                Some(Some(_)) => return Err(ChangeError::Contract { task: task.id, field: "id" }),
                Some(free) => *free = Some(task.id),
            }
        }
        // Turns come in the order of the numbers: a task that jumps ahead could have two in one round.
        if self.class == PolicyClass::Fair && !numbers.is_sorted() {
            let task = set.tasks().first().map_or(TaskId::default(), |task| task.id);
            return Err(ChangeError::Contract { task, field: "id" });
        }
        let moves = |slot: &&TaskSlot| slot.queue.len() > 0 && stays[slot.id.index()] != Some(slot.id);
        match self.tasks.iter().find(moves) {
            Some(slot) => Err(ChangeError::Pending { task: slot.id, pending: slot.queue.len() }),
            None => Ok(()),
        }
    }
}

impl TaskSlot {
    /// Whether the contract is that of `old`, with budgets and jitter that moved no other way.
    fn continues(&self, old: &Self, direction: Direction) -> Result<(), ChangeError> {
        let moved = |new: Nanos, old: Nanos| match direction {
            Direction::Wider => new >= old,
            Direction::Narrower => new <= old,
        };
        let budgets = self.budgets.len() == old.budgets.len()
            && self.budgets.iter().zip(&old.budgets).all(|(new, old)| moved(*new, *old));
        let same = [
            ("lane", self.lane == old.lane),
            ("arrival", self.sporadic == old.sporadic),
            ("period", self.period == old.period),
            ("deadline", self.deadline == old.deadline),
            ("key", self.key == old.key),
            ("segments", budgets),
            ("jitter", moved(self.jitter, old.jitter)),
            ("retries", self.retries == old.retries),
            ("on_overrun", self.sheds == old.sheds),
        ];
        match same.into_iter().find(|(_, same)| !same) {
            Some((field, _)) => Err(ChangeError::Contract { task: self.id, field }),
            None => Ok(()),
        }
    }

    /// Goes on where `old` stands. A timer that was off in the meantime starts anew.
    fn take_over(&mut self, old: &Self, now: Time) {
        self.queue = old.queue.with_bound(self.queue.bound());
        self.accepted = old.accepted;
        self.next_arrival = if old.retired { old.next_arrival.max(now) } else { old.next_arrival };
    }
}

impl Lane {
    /// Goes on where `old` stands. Tasks with pending jobs have kept their numbers.
    fn take_over(&mut self, old: &Self, tasks: &[TaskSlot]) {
        self.phase = old.phase;
        self.busy_since = old.busy_since;
        self.ended = old.ended;
        self.pending = old.pending;
        self.last_dispatch = old.last_dispatch;
        self.last_breach = old.last_breach;
        let Phase::Running(flight) = old.phase else { return };
        let slot = &tasks[flight.task.index()];
        // What was dispatched under the larger budget may use it; what is in flight now pays the wider set's overheads.
        let budget = slot.head().map_or(Nanos::ZERO, |job| slot.budgets[job.segment.index()]);
        let flight = InFlight { budget: flight.budget.max(budget), ..flight };
        self.phase = Phase::Running(flight);
        self.expires = old.expires.map(|_| flight.expiry());
    }

    /// Keeps the bounds of the engine that this busy period began under, whose tasks have these numbers.
    fn keep_bounds(&mut self, before: &Engine, numbers: &[TaskId]) {
        let bounds = before.certificate.lanes().iter().find(|lane| lane.lane() == self.id);
        let Some(bounds) = bounds.cloned() else { return };
        let position = |&task: &usize| Some((task, before.tasks.get(numbers.get(task)?.index())?.position));
        self.keep(Former { bounds, positions: self.tasks.iter().filter_map(position).collect() });
    }
}

/// Whose turn it is when some tasks of a lane have left: those before the holder that left are counted out.
fn turn(lane: &Lane, old: &Lane, numbers: &[TaskId]) -> Turn {
    let stays = |place: &usize| {
        let task = old.tasks[*place];
        numbers.iter().any(|number| number.index() == task)
    };
    let (holder, left) = old.turn.state();
    let mut before = (0..old.tasks.len()).take(holder + 1).filter(stays);
    match (before.clone().count().checked_sub(1), before.next_back() == Some(holder)) {
        (Some(place), stayed) => Turn::resumed(place, if stayed { left } else { 0 }),
        (None, _) => Turn::before_first(lane.tasks.len()),
    }
}
