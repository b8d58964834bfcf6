//! Lanes: one segment at a time, the right one, and what its occupancy means.

use aegis_sched::PolicyClass;
use aegis_sched::engine::OverrunRunning;
use aegis_types::records::{JobOutcome, LaneIdled, SegmentCompleted, SegmentDispatched, SegmentOutcome};
use aegis_types::{Nanos, Time};

use super::{Checks, JobShadow, LaneShadow, RunShadow, TaskShadow};

impl Checks<'_> {
    pub(super) fn dispatched(&mut self, record: &SegmentDispatched) {
        let (id, now) = (record.job, self.now);
        let Some(lane) = self.lanes.get_mut(record.lane.index()) else {
            return self.report(5, format!("{record:?} names no lane"));
        };
        let busy = lane.running.is_some();
        let numbered = record.dispatch == lane.last_dispatch.next();
        let retry = lane.retry.take();
        let kept = std::mem::take(&mut lane.kept);
        let late = lane.ready_since.take().filter(|&since| since < now && retry.is_none() && !kept);
        lane.last_dispatch = record.dispatch;
        lane.held = false;
        lane.running = Some(RunShadow {
            task: id.task.index(),
            dispatch: record.dispatch,
            since: now,
            first: retry.map_or(now, |retry| retry.first),
            told: retry.is_some_and(|retry| retry.told),
        });
        let index = record.lane.index();
        self.expect(!busy, 2, || format!("{id} was given {} while a segment is in flight", record.lane));
        self.expect(numbered, 5, || format!("{record:?} is out of sequence"));
        self.expect(late.is_none(), 5, || format!("{} stood free with a ready job (E2)", record.lane));
        if retry.is_none() {
            self.check_order(index, record);
        }
        let Some(task) = self.tasks.get_mut(id.task.index()) else {
            return self.report(5, format!("{id} belongs to no task"));
        };
        let Some(head) = task.pending.front_mut() else {
            return self.report(5, format!("{id} was dispatched, but its task has no job"));
        };
        head.started = true;
        let right = head.id == id && head.segment == record.segment.index() && head.due.is_none();
        let same = retry.is_none_or(|retry| retry.task == id.task.index());
        let budget = task.budgets.get(record.segment.index()).copied();
        self.expect(right && same, 5, || format!("{record:?} is not the next segment of its task"));
        self.expect(budget == Some(record.budget), 5, || format!("{record:?}: the budget is {budget:?}"));
    }

    /// Of the oldest jobs of the lane's tasks, the most urgent of the class is dispatched; ties go to the smaller task.
    fn check_order(&mut self, lane: usize, record: &SegmentDispatched) {
        let class = self.class;
        if class == PolicyClass::Fair {
            return self.check_turn(lane, record);
        }
        let heads = self.lanes[lane].tasks.iter().filter_map(|&index| {
            let task = &self.tasks[index];
            let job = task.pending.front()?;
            Some((urgency(class, task, job), index, job.id))
        });
        let first = heads.min();
        let legal = match (class, first) {
            (_, None) => false,
            (PolicyClass::WorkConserving, Some(_)) => true,
            (_, Some((_, _, job))) => job == record.job,
        };
        // Out of order is what the canary does; it has a number of its own.
        self.expect(legal, 10, || format!("{} was dispatched, more urgent is {first:?}", record.job));
        self.check_start(lane, record.job);
    }

    /// Whoever has segments left of its turn goes on; else the next task with a job has a turn, around and around.
    fn check_turn(&mut self, lane: usize, record: &SegmentDispatched) {
        let given = record.job.task.index();
        let weight = self.tasks.get(given).map_or(1, |task| task.key);
        let state = &mut self.lanes[lane];
        let (last, left) = state.turn.unwrap_or((usize::MAX, 0));
        let pending = |&&task: &&usize| !self.tasks[task].pending.is_empty();
        let (sooner, later) = state.tasks.split_at(state.tasks.partition_point(|&task| task <= last));
        let (next, whole) = (later.iter().chain(sooner).find(pending).copied(), given != last || left == 0);
        let due = if left > 0 && pending(&&last) { Some(last) } else { next };
        state.turn = Some((given, if whole { weight } else { left }.saturating_sub(1)));
        self.expect(due == Some(given), 10, || {
            format!("{} was dispatched, the turn is that of {due:?}", record.job)
        });
    }

    pub(super) fn completed(&mut self, record: &SegmentCompleted) {
        let (id, now) = (record.job, self.now);
        let Some(lane) = self.lanes.get_mut(record.lane.index()) else {
            return self.report(5, format!("{record:?} names no lane"));
        };
        let (Some(run), Some(outcome)) = (lane.running.take(), lane.reported.take()) else {
            return self.report(2, format!("{record:?}: nothing was in flight, or nothing was reported"));
        };
        let occupancy = now.since(run.since);
        let matches =
            run.dispatch == record.dispatch && run.task == id.task.index() && record.occupancy == occupancy;
        let Some(task) = self.tasks.get_mut(run.task) else { return };
        let segments = task.budgets.len();
        let Some(head) = task.pending.front_mut() else {
            return self.report(5, format!("{record:?}: its task has no job"));
        };
        let known = head.id == id && head.segment == record.segment.index();
        let retried = outcome == SegmentOutcome::NotStarted && head.attempts < task.retries;
        if retried {
            head.attempts += 1;
            self.lanes[record.lane.index()].retry = Some(run);
        } else {
            head.attempts = 0;
            match outcome {
                SegmentOutcome::Done if head.segment + 1 == segments => {
                    head.due = Some(JobOutcome::Completed)
                }
                SegmentOutcome::Done => head.segment += 1,
                SegmentOutcome::Failed | SegmentOutcome::NotStarted => {
                    head.due = Some(JobOutcome::Failed);
                    let undone = (segments - 1 - head.segment) as u64;
                    self.lanes[record.lane.index()].forgo(run.task, undone);
                }
            }
            let excess = now.since(run.first).saturating_sub(record.budget);
            self.vacated(record.lane.index(), excess);
            // Within one length of the budget and what the driver may be kept from looking for.
            let limit = record.budget.saturating_add(self.unseen);
            let silent = excess > limit && !run.told && self.stalled.is_none_or(|at| at < run.first);
            self.expect(!silent, 5, || format!("{record:?}: nobody told that it ran beyond its budget"));
        }
        self.expect(matches && known, 5, || format!("{record:?} does not end what was in flight"));
    }

    /// A segment in flight is told of once, and only when its budget is over.
    pub(super) fn running_over(&mut self, record: &OverrunRunning) {
        let now = self.now;
        let run = self.lanes.get_mut(record.lane.index()).and_then(|lane| lane.running.as_mut());
        let right = run.is_some_and(|run| {
            let first_told = !std::mem::replace(&mut run.told, true);
            let own = run.dispatch == record.dispatch && run.task == record.job.task.index();
            own && first_told && record.seen == now.since(run.first) && record.seen > record.budget
        });
        self.expect(right, 5, || format!("{record:?} is not true of what is in flight"));
    }

    /// Rules 8 and 9: what an overrun voids.
    fn vacated(&mut self, index: usize, excess: Nanos) {
        let now = self.now;
        let largest = self.largest;
        self.lanes[index].ready_since = Some(now);
        if excess.is_zero() {
            return;
        }
        let recent = |breach: Option<Time>| breach.is_some_and(|breach| now.since(breach) <= largest);
        let elsewhere =
            self.lanes.iter().enumerate().any(|(other, lane)| other != index && recent(lane.last_breach));
        let lane = &mut self.lanes[index];
        lane.overrun = lane.overrun.saturating_add(excess);
        lane.last_breach = Some(now);
        if lane.overrun > lane.tolerance {
            (lane.void, lane.shedding) = (true, true);
        }
        if elsewhere {
            self.common_causes += 1;
            for lane in self.lanes.iter_mut().filter(|lane| lane.pending > 0) {
                (lane.void, lane.shedding) = (true, true);
            }
        }
    }

    pub(super) fn idled(&mut self, record: &LaneIdled) {
        let Some(lane) = self.lanes.get_mut(record.lane.index()) else {
            return self.report(5, format!("{record:?} names no lane"));
        };
        let idle = lane.pending == 0 && lane.running.is_none();
        let told =
            record.since == lane.busy_since && record.overrun == lane.overrun && record.jobs == lane.ended;
        lane.overrun = Nanos::ZERO;
        // What rests on every release since the start is not whole again.
        (lane.void, lane.shedding) = (lane.void && self.class.inserts().is_some(), false);
        lane.kept = false;
        lane.ended = 0;
        lane.ready_since = None;
        self.settle_former(record.lane.index());
        self.expect(idle, 5, || format!("{record:?} although jobs are pending"));
        self.expect(told, 5, || format!("{record:?} contradicts the busy period"));
    }
}

impl LaneShadow {
    /// What a task leaves undone is taken from its turn.
    pub(super) fn forgo(&mut self, task: usize, segments: u64) {
        if let Some((_, left)) = self.turn.as_mut().filter(|turn| turn.0 == task) {
            *left = left.saturating_sub(segments);
        }
    }
}

/// What the class orders by; smaller is more urgent.
pub(super) fn urgency(class: PolicyClass, task: &TaskShadow, job: &JobShadow) -> u64 {
    match class {
        PolicyClass::StaticPriority | PolicyClass::Precautious => task.key,
        PolicyClass::AbsoluteDeadline | PolicyClass::CriticalWindow => {
            job.arrival.saturating_add(Nanos::new(task.key)).get()
        }
        PolicyClass::ArrivalOrder => job.released.get(),
        PolicyClass::WorkConserving | PolicyClass::Fair => 0,
    }
}
