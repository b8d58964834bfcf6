//! The slabs of the engine: what it knows of each task and each lane, sized once.

use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, TaskId, Time};

use super::job::Job;
use super::outbox::Dispatch;
use super::phase::{Phase, PhaseEvent, Trust};
use super::queue::JobQueue;
use super::turn::Turn;

/// A task under contract, with its pending jobs.
#[derive(Debug)]
pub(super) struct TaskSlot {
    pub(super) id: TaskId,
    pub(super) lane: LaneId,
    pub(super) sporadic: bool,
    pub(super) period: Nanos,
    pub(super) deadline: Nanos,
    /// J': latest legal release after the nominal arrival.
    pub(super) jitter: Nanos,
    /// The task's number in the policy's class.
    pub(super) key: u64,
    /// C' of each segment.
    pub(super) budgets: Box<[Nanos]>,
    pub(super) retries: u32,
    /// Whether its queued jobs are dropped when the lane sheds load.
    pub(super) sheds: bool,
    /// Position in the lane's certificate.
    pub(super) position: usize,
    /// A + T of the last accepted job: the earliest legal nominal arrival of the next.
    pub(super) next_arrival: Time,
    /// Jobs accepted so far.
    pub(super) accepted: u64,
    pub(super) queue: JobQueue,
}

impl TaskSlot {
    /// The input slot of a job. Pending jobs of a task are consecutive and at most as many as there are slots, so no
    /// two of them share one.
    pub(super) fn slot(&self, job: JobId) -> u32 {
        u32::try_from(job.number % self.queue.bound() as u64).expect("the queue bound fits u32")
    }

    /// The job that runs or is ready.
    pub(super) fn head(&self) -> Option<&Job> {
        self.queue.head()
    }
}

/// A lane: what it does, and what is left of its certificate in this busy period.
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) id: LaneId,
    pub(super) phase: Phase,
    pub(super) trust: Trust,
    /// X: overrun accumulated since the lane last idled.
    pub(super) overrun: Nanos,
    /// X_lane: up to which deadlines hold.
    pub(super) tolerance: Nanos,
    /// When the busy period began.
    pub(super) busy_since: Time,
    /// Jobs that ended in the busy period.
    pub(super) ended: u64,
    /// Jobs that are pending, the running one included.
    pub(super) pending: usize,
    pub(super) last_dispatch: DispatchSeq,
    /// The segment in flight, while it waits for excluded ones.
    pub(super) held: Option<Dispatch>,
    /// Whose turn it is, under a policy of turns.
    pub(super) turn: Turn,
    /// When the segment in flight will have exceeded its budget; `None` once that was told.
    pub(super) expires: Option<Time>,
    /// When a budget was last overrun.
    pub(super) last_breach: Option<Time>,
    /// Its tasks, by number.
    pub(super) tasks: Box<[usize]>,
    /// Those that shed load, lowest criticality first, ties by number.
    pub(super) shed_order: Box<[usize]>,
    /// Position in the certificate; a lane without tasks may have none.
    pub(super) certificate: Option<usize>,
}

impl Lane {
    /// Moves the lane through the one door of its phase.
    ///
    /// # Panics
    /// If the engine lets something happen to the lane that its phase excludes.
    pub(super) fn advance(&mut self, event: PhaseEvent) {
        let next = self.phase.next(event);
        assert!(next.is_ok(), "{}: {next:?}", self.id);
        self.phase = next.unwrap_or(self.phase);
    }

    /// The place of one of its tasks in the order of turns.
    pub(super) fn place(&self, task: usize) -> usize {
        self.tasks.partition_point(|&other| other < task)
    }

    /// What was learnt of the certificate.
    pub(super) fn learn(&mut self, trust: Trust) {
        self.trust = self.trust.after(trust);
    }
}
