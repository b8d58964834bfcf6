//! The end of a segment, and of the job it belongs to.

use aegis_types::records::{
    Assumption, AssumptionBroken, Consequence, JobFinished, JobOutcome, LaneIdled, Reason, SegmentCompleted,
    SegmentOutcome, Standing,
};
use aegis_types::{LaneId, Nanos, SegmentIndex, Time};

use super::Engine;
use super::control::Mode;
use super::job::{Job, JobEvent, JobState};
use super::outbox::{JobEnd, Outbox};
use super::phase::{InFlight, Phase, PhaseEvent, Trust};

impl Engine {
    pub(super) fn completed(&mut self, now: Time, id: LaneId, outcome: SegmentOutcome, out: &mut Outbox) {
        let lane = id.index();
        let Phase::Running(flight) = self.lanes[lane].phase else { return };
        let task = &self.tasks[flight.task.index()];
        let job = *task.head().expect("a task in flight has a job");
        let budget = flight.budget;
        let segments = task.budgets.len();
        let retries = task.retries;
        let occupancy = now.since(flight.since);
        let (segment, dispatch) = (job.segment, flight.dispatch);
        out.tell(now, SegmentCompleted { job: job.id, lane: id, segment, dispatch, occupancy, budget });
        let retry =
            outcome == SegmentOutcome::NotStarted && job.attempts < retries && self.mode != Mode::Stopped;
        if retry {
            self.retry(lane, flight, now, out);
            return;
        }
        self.lanes[lane].advance(PhaseEvent::Vacate(now));
        self.lanes[lane].expires = None;
        self.watch_budget(lane, job.id, now.since(flight.first), budget, now, out);
        let last = job.segment.index() + 1 == segments;
        let stopped = self.mode == Mode::Stopped;
        let event = match outcome {
            SegmentOutcome::Done if last => JobEvent::Finish,
            SegmentOutcome::Done | SegmentOutcome::NotStarted if stopped => JobEvent::Stop,
            SegmentOutcome::Done => JobEvent::Advance,
            SegmentOutcome::Failed | SegmentOutcome::NotStarted => JobEvent::Fail,
        };
        if event == JobEvent::Fail {
            let undone = segments - 1 - job.segment.index();
            let place = self.lanes[lane].place(flight.task.index());
            self.lanes[lane].turn.forgo(place, undone as u64);
            self.segment_failed(lane, flight, occupancy, budget, now, out);
        }
        self.step(flight.task.index(), event, now, out);
        self.shed_where_void(now, out);
        self.settle(lane, now, out);
    }

    /// Launches the same segment again without a decision between: to the analysis the attempts are one segment, whose
    /// budget was charged for all of them.
    fn retry(&mut self, lane: usize, flight: InFlight, now: Time, out: &mut Outbox) {
        let head = self.tasks[flight.task.index()].queue.head_mut().expect("a task in flight has a job");
        head.advance(JobEvent::Retry);
        head.attempts += 1;
        let again = InFlight { dispatch: flight.dispatch.next(), since: now, ..flight };
        self.launch(lane, PhaseEvent::Retry(again), again, Reason::NextSegment, now, out);
    }

    /// A failed segment frees its lane early, which lengthens no other job's response: only its own bound is void.
    fn segment_failed(
        &mut self,
        lane: usize,
        flight: InFlight,
        seen: Nanos,
        limit: Nanos,
        now: Time,
        out: &mut Outbox,
    ) {
        let head = self.tasks[flight.task.index()].queue.head_mut().expect("a task in flight has a job");
        head.void = true;
        let (assumption, consequence) = (Assumption::SegmentSucceeds, Consequence::JobVoid);
        let lane = self.lanes[lane].id;
        out.tell(now, AssumptionBroken { assumption, lane, job: head.id, seen, limit, consequence });
    }

    /// Moves the oldest job of a task, and ends it if it reached its terminal state.
    fn step(&mut self, task: usize, event: JobEvent, now: Time, out: &mut Outbox) {
        let queue = &mut self.tasks[task].queue;
        let head = queue.head_mut().expect("a task in flight has a job");
        head.advance(event);
        if let JobState::Ended(outcome) = head.state {
            let job = *head;
            queue.pop();
            self.end(job, outcome, now, out);
        } else {
            head.segment = SegmentIndex::new(head.segment.get() + 1);
            head.attempts = 0;
        }
    }

    /// Tells of the end of a job that has left its queue.
    pub(super) fn end(&mut self, job: Job, outcome: JobOutcome, now: Time, out: &mut Outbox) {
        let task = &self.tasks[job.id.task.index()];
        let lane = &mut self.lanes[task.lane.index()];
        lane.pending -= 1;
        if task.queue.len() == 0 {
            lane.turn.end(lane.place(job.id.task.index()));
        }
        lane.ended += 1;
        let (overrun, trust) = (lane.overrun, lane.trust);
        let bound = lane.bound(job.id.task.index(), task.position, overrun, &self.certificate);
        let claimed = outcome == JobOutcome::Completed && !job.void && !trust.is_void();
        let (standing, bound) = match (bound, trust) {
            (Some(bound), Trust::Whole) if claimed => (Standing::Covered, bound),
            (Some(bound), Trust::Strained) if claimed => (Standing::Tolerated, bound),
            _ => (Standing::Void, Nanos::MAX),
        };
        let Job { id, arrival, deadline, slot, .. } = job;
        let response = now.since(arrival);
        out.tell(now, JobFinished { job: id, outcome, response, bound, standing, overrun });
        out.end(JobEnd { job: id, slot, outcome, arrival, deadline, ended: now, bound, standing });
    }

    /// A free lane without jobs idles: its busy period ends and its certificate is whole again.
    pub(super) fn settle(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        let lane = &mut self.lanes[lane];
        let free = matches!(lane.phase, Phase::Ready { .. });
        if free && lane.pending == 0 {
            lane.advance(PhaseEvent::Empty);
            let (since, overrun, jobs) = (lane.busy_since, lane.overrun, lane.ended);
            out.tell(now, LaneIdled { lane: lane.id, since, overrun, jobs });
            // Bounds that rest on every release since the start say nothing of a schedule that has left theirs.
            let lost = self.class.inserts().is_some() && lane.trust.is_void();
            lane.trust = if lost { Trust::Broken } else { Trust::Whole };
            lane.keeping = None;
            lane.overrun = Nanos::ZERO;
            lane.ended = 0;
            lane.settle_bounds(&self.certificate);
        }
    }
}
