//! The slabs of the engine: what it knows of each task and each lane, sized once.

use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, TaskId, Time};

use super::job::Job;
use super::outbox::Dispatch;
use super::phase::{Phase, PhaseEvent, Trust};
use super::queue::JobQueue;
use super::turn::Turn;
use crate::referee::certificate::{Certificate, LaneCertificate};

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
    /// Whether no job of it is accepted any more.
    pub(super) retired: bool,
}

impl TaskSlot {
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
    /// The bounds of the certificate before, where a busy period began under it.
    pub(super) former: Option<Former>,
    /// Whether the busy period is still that one.
    pub(super) kept: bool,
    /// The ready job that the lane stays free of, and the one that it stays free for, under a policy that inserts idle
    /// time.
    pub(super) keeping: Option<(JobId, JobId)>,
}

/// Bounds of a lane under the certificate before the one in force.
#[derive(Debug)]
pub(super) struct Former {
    pub(super) bounds: LaneCertificate,
    /// Of each task of the lane, by its number: its position in the bounds.
    pub(super) positions: Box<[(usize, usize)]>,
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

    /// Keeps bounds until the lane idles.
    pub(super) fn keep(&mut self, former: Former) {
        self.tolerance = former.bounds.tolerance();
        self.former = Some(former);
        self.kept = true;
    }

    /// Whether its jobs have bounds of the certificate before the one in force.
    pub(super) const fn is_former(&self) -> bool {
        self.kept
    }

    /// A refereed bound of a task with pending jobs, under overrun `x`; `certificate` is the one in force.
    pub(super) fn bound(
        &self,
        task: usize,
        position: usize,
        x: Nanos,
        certificate: &Certificate,
    ) -> Option<Nanos> {
        let own = self.certificate.and_then(|position| certificate.lanes().get(position));
        match self.former.as_ref().filter(|_| self.kept) {
            None => own?.bound(position, x),
            Some(former) => {
                let (_, position) = former.positions.iter().find(|(known, _)| *known == task)?;
                former.bounds.bound(*position, x)
            }
        }
    }

    /// The lane idles: from here on the certificate in force bounds its jobs.
    pub(super) fn settle_bounds(&mut self, certificate: &Certificate) {
        if std::mem::take(&mut self.kept) {
            let own = self.certificate.and_then(|position| certificate.lanes().get(position));
            self.tolerance = own.map_or(Nanos::ZERO, LaneCertificate::tolerance);
        }
    }

    /// What was learnt of the certificate.
    pub(super) fn learn(&mut self, trust: Trust) {
        self.trust = self.trust.after(trust);
    }
}
