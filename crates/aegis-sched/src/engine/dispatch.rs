//! Which ready job a free lane runs. Ties are broken by task number; jobs of one task run in order.

use aegis_types::records::{Assumption, AssumptionBroken, Consequence, Decided, Reason, SegmentDispatched};
use aegis_types::{JobId, Nanos, Time};

use super::Engine;
use super::job::{Job, JobEvent};
use super::lane::TaskSlot;
use super::outbox::{Dispatch, Outbox};
use super::phase::{InFlight, Phase, PhaseEvent, Trust};
use crate::policy::{PolicyClass, ReadyJob};

/// The outcome of one decision.
struct Choice {
    task: usize,
    job: JobId,
    key: u64,
    /// The most urgent job that was not chosen, with its key.
    runner_up: Option<(JobId, u64)>,
    ready: u64,
    reason: Reason,
}

/// A ready job on its way through a decision.
#[derive(Clone, Copy)]
struct Candidate {
    key: u64,
    task: usize,
    job: JobId,
    /// Whether an earlier segment of it ran.
    started: bool,
}

impl Engine {
    /// Launches what no longer has to wait, and takes at most one decision for each free lane.
    pub(super) fn decide(&mut self, now: Time, out: &mut Outbox) {
        self.launch_held(now, out);
        for lane in 0..self.lanes.len() {
            let Phase::Ready { since } = self.lanes[lane].phase else { continue };
            let Some(choice) = self.choose(lane, now) else { continue };
            if let Some(kept) = self.kept_free(lane, choice.task, choice.job, now) {
                self.keep_free(lane, kept, now, out);
                continue;
            }
            // A lane that was kept free was asked at every stamp at which something happened, and nothing else ends that.
            let kept = self.lanes[lane].keeping.take().is_some();
            if since < now && !kept {
                self.late_decision(lane, choice.job, now.since(since), now, out);
            }
            self.dispatch(lane, &choice, now, out);
        }
        self.cycle += 1;
    }

    fn choose(&mut self, lane: usize, now: Time) -> Option<Choice> {
        match self.class {
            PolicyClass::StaticPriority
            | PolicyClass::AbsoluteDeadline
            | PolicyClass::ArrivalOrder
            | PolicyClass::Fair
            | PolicyClass::Precautious
            | PolicyClass::CriticalWindow => self.most_urgent(lane),
            PolicyClass::WorkConserving => self.picked(lane, now),
        }
    }

    fn most_urgent(&self, lane: usize) -> Option<Choice> {
        let (mut best, mut second): (Option<Candidate>, Option<Candidate>) = (None, None);
        let mut ready = 0;
        let state = &self.lanes[lane];
        for (place, &index) in state.tasks.iter().enumerate() {
            let task = &self.tasks[index];
            let Some(job) = task.head() else { continue };
            let key = match self.class {
                PolicyClass::Fair => state.turn.distance(place, state.tasks.len()),
                class => class_key(class, task, job),
            };
            let candidate = Candidate { key, task: index, job: job.id, started: job.segment.get() > 0 };
            ready += 1;
            // Tasks come by number, so that of equal keys the smaller number stays ahead.
            if best.is_none_or(|best| key < best.key) {
                second = best;
                best = Some(candidate);
            } else if second.is_none_or(|second| key < second.key) {
                second = Some(candidate);
            }
        }
        let best = best?;
        let reason = match second {
            None => Reason::OnlyReady,
            Some(_) if best.started => Reason::NextSegment,
            Some(second) if second.key == best.key => Reason::TieBreak,
            Some(_) => Reason::MostUrgent,
        };
        let runner_up = second.map(|second| (second.job, second.key));
        Some(Choice { task: best.task, job: best.job, key: best.key, runner_up, ready, reason })
    }

    fn picked(&mut self, lane: usize, now: Time) -> Option<Choice> {
        self.ready.clear();
        for &index in &self.lanes[lane].tasks {
            if let Some(job) = self.tasks[index].head() {
                let Job { id, arrival, deadline, released, .. } = *job;
                self.ready.push(ReadyJob { job: id, arrival, deadline, released });
            }
        }
        let last = self.ready.len().checked_sub(1)?;
        let position = self.policy.pick(now, &self.ready).min(last);
        let job = self.ready.get(position)?.job;
        // A policy that picks has no keys; the other job is told so that the trace shows there was one.
        let other = self.ready.iter().enumerate().find(|(index, _)| *index != position);
        Some(Choice {
            task: job.task.index(),
            job,
            key: 0,
            runner_up: other.map(|(_, other)| (other.job, 0)),
            ready: self.ready.len() as u64,
            reason: if last == 0 { Reason::OnlyReady } else { Reason::Picked },
        })
    }

    fn dispatch(&mut self, lane: usize, choice: &Choice, now: Time, out: &mut Outbox) {
        if let Some((runner_up, runner_up_key)) = choice.runner_up {
            let (lane, job, key, ready) = (self.lanes[lane].id, choice.job, choice.key, choice.ready);
            out.tell(now, Decided { lane, job, key, runner_up, runner_up_key, ready });
        }
        let place = self.lanes[lane].place(choice.task);
        let task = &mut self.tasks[choice.task];
        if self.class == PolicyClass::Fair {
            self.lanes[lane].turn.take(place, task.key);
        }
        if let Some(job) = task.queue.head_mut() {
            job.advance(JobEvent::Dispatch);
        }
        let dispatch = self.lanes[lane].last_dispatch.next();
        let task = &self.tasks[choice.task];
        let budget = task.head().map_or(Nanos::MAX, |job| task.budgets[job.segment.index()]);
        let flight = InFlight { task: task.id, dispatch, since: now, first: now, budget };
        self.lanes[lane].expires = Some(flight.expiry());
        self.launch(lane, PhaseEvent::Dispatch(flight), flight, choice.reason, now, out);
    }

    /// Gives the head of the flight's task the lane.
    pub(super) fn launch(
        &mut self,
        lane: usize,
        event: PhaseEvent,
        flight: InFlight,
        reason: Reason,
        now: Time,
        out: &mut Outbox,
    ) {
        self.lanes[lane].advance(event);
        self.lanes[lane].last_dispatch = flight.dispatch;
        let (id, task) = (self.lanes[lane].id, &self.tasks[flight.task.index()]);
        let job = task.head().expect("a task in flight has a job");
        let (job, segment, slot, dispatch) = (job.id, job.segment, job.slot, flight.dispatch);
        let budget = flight.budget;
        out.tell(now, SegmentDispatched { job, lane: id, segment, dispatch, budget, reason });
        let command = Dispatch { lane: id, job, segment, dispatch, slot };
        match self.ahead_of(lane, &flight) {
            Some(ahead) => self.hold(lane, command, ahead, now, out),
            None => out.command(command),
        }
    }

    /// E2 was broken: the lane stood free while a job was ready.
    fn late_decision(&mut self, lane: usize, job: JobId, seen: Nanos, now: Time, out: &mut Outbox) {
        let lane = &mut self.lanes[lane];
        lane.learn(Trust::Broken);
        out.tell(
            now,
            AssumptionBroken {
                assumption: Assumption::PromptDecision,
                lane: lane.id,
                job,
                seen,
                limit: Nanos::ZERO,
                consequence: Consequence::LaneVoid,
            },
        );
    }
}

/// The key by which a class orders: smaller is more urgent. Turns are not a matter of the job alone.
fn class_key(class: PolicyClass, task: &TaskSlot, job: &Job) -> u64 {
    match class {
        PolicyClass::StaticPriority | PolicyClass::Precautious => task.key,
        PolicyClass::AbsoluteDeadline | PolicyClass::CriticalWindow => {
            job.arrival.saturating_add(Nanos::new(task.key)).get()
        }
        PolicyClass::ArrivalOrder => job.released.get(),
        PolicyClass::WorkConserving | PolicyClass::Fair => 0,
    }
}
