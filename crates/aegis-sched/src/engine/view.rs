//! What may be seen of the engine from outside, for tests and live displays.

use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, TaskId, Time};

use super::Engine;
use super::control::Mode;
use super::phase::{Phase, Trust};

/// What a lane does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// No job is pending.
    Idle,
    /// Free while a job is ready, since this stamp: between an input and the decision of its stamp.
    Ready(Time),
    /// A segment is in flight.
    Running {
        /// The job.
        job: JobId,
        /// The number that its completion flag must carry.
        dispatch: DispatchSeq,
        /// The stamp of the dispatch.
        since: Time,
    },
}

/// A lane at a glance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneView {
    /// The lane.
    pub lane: LaneId,
    /// What it does.
    pub activity: Activity,
    /// How far its certificate holds in this busy period.
    pub trust: Trust,
    /// X: overrun accumulated since it last idled.
    pub overrun: Nanos,
    /// Jobs that are pending, the running one included.
    pub pending: usize,
}

impl Engine {
    /// The lane of that number, if there is one.
    pub fn lane(&self, id: LaneId) -> Option<LaneView> {
        let lane = self.lanes.get(id.index())?;
        let activity = match lane.phase {
            Phase::Idle => Activity::Idle,
            Phase::Ready { since } => Activity::Ready(since),
            Phase::Running(flight) => {
                let head = self.tasks.get(flight.task.index()).and_then(|task| task.head());
                let job = head.map_or(JobId::default(), |job| job.id);
                Activity::Running { job, dispatch: flight.dispatch, since: flight.since }
            }
        };
        Some(LaneView { lane: id, activity, trust: lane.trust, overrun: lane.overrun, pending: lane.pending })
    }

    /// Every lane, by number.
    pub fn lanes(&self) -> impl Iterator<Item = LaneView> {
        self.lanes.iter().filter_map(|lane| self.lane(lane.id))
    }

    /// Every task, by number.
    pub fn tasks(&self) -> impl Iterator<Item = TaskId> {
        self.tasks.iter().map(|task| task.id)
    }

    /// Jobs of a task that are pending; zero if there is no such task.
    pub fn pending(&self, task: TaskId) -> usize {
        self.tasks.get(task.index()).map_or(0, |slot| slot.queue.len())
    }

    /// Q: input slots of a task, and the most jobs of it that may be pending; zero if there is no such task.
    pub fn slots(&self, task: TaskId) -> usize {
        self.tasks.get(task.index()).map_or(0, |slot| slot.queue.bound())
    }

    /// Whether no job is pending on any lane.
    pub fn is_idle(&self) -> bool {
        self.lanes.iter().all(|lane| lane.pending == 0)
    }

    /// Whether the engine accepts and runs jobs.
    pub const fn mode(&self) -> Mode {
        self.mode
    }

    /// The stamp of the last input.
    pub const fn now(&self) -> Time {
        self.now
    }
}
