//! Segments of tasks that exclude each other: never two of them at once, and none waits without a reason.

use aegis_sched::engine::{SegmentHeld, SegmentLaunched};

use super::{Checks, RunShadow};

impl Checks<'_> {
    /// What was decided waits, for a segment that excludes it and was decided earlier.
    pub(super) fn held(&mut self, record: &SegmentHeld) {
        let behind = record.behind.index();
        let right = self.is_in_flight(record.lane.index(), record.job.task.index(), record.dispatch)
            && self.waits_for(record.lane.index(), behind)
            && self.lanes[behind].running.is_some_and(|run| run.task == record.other.task.index());
        if let Some(lane) = self.lanes.get_mut(record.lane.index()) {
            lane.held = true;
        }
        self.expect(right, 5, || format!("{record:?} is not true of what is in flight"));
    }

    /// What waited is launched.
    pub(super) fn launched(&mut self, record: &SegmentLaunched) {
        let now = self.now;
        let known = self.is_in_flight(record.lane.index(), record.job.task.index(), record.dispatch);
        let lane = self.lanes.get_mut(record.lane.index());
        let right = lane.is_some_and(|lane| {
            let waited = lane.running.map(|run| now.since(run.first)) == Some(record.waited);
            std::mem::replace(&mut lane.held, false) && waited
        });
        self.expect(known && right, 5, || format!("{record:?} is not true of what waits"));
    }

    /// Between two inputs: no two launched segments exclude each other.
    pub(super) fn settle_apart(&mut self) {
        if self.excluded.is_empty() {
            return;
        }
        let running =
            |lane: usize| self.lanes[lane].running.filter(|_| !self.lanes[lane].held).map(|run| run.task);
        let mut met = Vec::new();
        for lane in 0..self.lanes.len() {
            let Some(one) = running(lane) else { continue };
            let others = (0..lane).filter_map(running).filter(|&other| self.excludes(one, other));
            met.extend(others.map(|other| (one, other)));
        }
        for (one, other) in met {
            self.report(2, format!("segments of task{one} and task{other} run at once"));
        }
    }

    /// After a decision: what still waits has somebody to wait for.
    pub(super) fn settle_held(&mut self) {
        for lane in 0..self.lanes.len() {
            let idle = self.lanes[lane].held && !(0..self.lanes.len()).any(|it| self.waits_for(lane, it));
            let id = self.lanes[lane].id;
            self.expect(!idle, 5, || format!("what was decided on {id} waits for nothing"));
        }
    }

    fn is_in_flight(&self, lane: usize, task: usize, dispatch: aegis_types::DispatchSeq) -> bool {
        let run = self.lanes.get(lane).and_then(|lane| lane.running);
        run.is_some_and(|run| run.task == task && run.dispatch == dispatch)
    }

    /// Whether the segment in flight on one lane has to wait for that on another.
    fn waits_for(&self, lane: usize, other: usize) -> bool {
        let run = |lane: usize| self.lanes.get(lane).and_then(|lane| lane.running);
        let (Some(own), Some(ahead)): (Option<RunShadow>, Option<RunShadow>) = (run(lane), run(other)) else {
            return false;
        };
        (ahead.first, other) < (own.first, lane) && self.excludes(own.task, ahead.task)
    }

    fn excludes(&self, one: usize, other: usize) -> bool {
        self.excluded.contains(&(one.min(other), one.max(other)))
    }
}
