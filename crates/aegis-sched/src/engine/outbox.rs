//! What the engine hands back: commands for lanes, answers for clients, ends of jobs, records for the trace.

use aegis_types::records::{JobOutcome, Refusal, Standing};
use aegis_types::{DispatchSeq, JobId, LaneId, Nanos, RawRecord, Record, SegmentIndex, Sink, TaskId, Time};

/// Give a segment its lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dispatch {
    /// The lane, which is free.
    pub lane: LaneId,
    /// The job.
    pub job: JobId,
    /// Which segment of the job.
    pub segment: SegmentIndex,
    /// The number that the completion flag must carry.
    pub dispatch: DispatchSeq,
    /// The input slot of the job: its number modulo the task's queue bound, but where a change has moved the bound and
    /// another pending job has that slot.
    pub slot: u32,
}

/// The answer to a client's submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The task that was submitted to.
    pub task: TaskId,
    /// The client's number for the submission.
    pub token: u64,
    /// What became of it.
    pub decision: Decision,
}

/// What became of a submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The job was released.
    Accepted {
        /// The job.
        job: JobId,
        /// Its input slot.
        slot: u32,
    },
    /// Nothing was buffered.
    Refused {
        /// Why.
        reason: Refusal,
        /// Where it came too early, the earliest stamp at which it would be legal.
        legal_from: Time,
    },
}

/// A job that reached its terminal state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobEnd {
    /// The job.
    pub job: JobId,
    /// Its input slot, which is free again.
    pub slot: u32,
    /// How it ended.
    pub outcome: JobOutcome,
    /// Its nominal arrival.
    pub arrival: Time,
    /// Its absolute deadline.
    pub deadline: Time,
    /// When it ended.
    pub ended: Time,
    /// The bound that applies, `Nanos::MAX` if none.
    pub bound: Nanos,
    /// What the certificate says about it.
    pub standing: Standing,
}

impl JobEnd {
    /// From its arrival to its end.
    pub const fn response(&self) -> Nanos {
        self.ended.since(self.arrival)
    }
}

/// A bounded, preallocated box. [`Engine::outbox`](super::Engine::outbox) makes one that holds whatever one decider
/// cycle can produce; the driver empties it with [`clear`](Self::clear) at least once a cycle.
#[derive(Debug)]
pub struct Outbox {
    commands: Vec<Dispatch>,
    answers: Vec<Answer>,
    ends: Vec<JobEnd>,
    records: Vec<RawRecord>,
}

impl Outbox {
    pub(super) fn with_capacity(lanes: usize, tasks: usize, jobs: usize) -> Self {
        Self {
            // One dispatch per lane: a retry of what just ended, or a decision.
            commands: Vec::with_capacity(lanes),
            answers: Vec::with_capacity(tasks + 1),
            // Each job that was pending, and each that was accepted in this cycle.
            ends: Vec::with_capacity(jobs + tasks),
            // Start, tick, decide, control and stall; per lane at most its completion with its consequences (6), two
            // more idlings by shedding and stopping, a stall (1), a running overrun (1), a decision (3), a hold and a launch (2); per task an
            // arrival (2).
            records: Vec::with_capacity(8 + 15 * lanes + 2 * (tasks + 1) + jobs + tasks),
        }
    }

    /// Segments to give their lanes, in order.
    pub fn commands(&self) -> &[Dispatch] {
        &self.commands
    }

    /// Answers for clients.
    pub fn answers(&self) -> &[Answer] {
        &self.answers
    }

    /// Jobs that ended.
    pub fn ends(&self) -> &[JobEnd] {
        &self.ends
    }

    /// What was told and decided, in order, for the ring of decisions.
    pub fn records(&self) -> &[RawRecord] {
        &self.records
    }

    /// Hands every record to `sink`, in order.
    pub fn record_to(&self, sink: &mut dyn Sink) {
        self.records.iter().for_each(|record| sink.emit(*record));
    }

    /// Empties the box; its capacity stays.
    pub fn clear(&mut self) {
        self.commands.clear();
        self.answers.clear();
        self.ends.clear();
        self.records.clear();
    }

    pub(super) fn command(&mut self, command: Dispatch) {
        push(&mut self.commands, command);
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        push(&mut self.answers, answer);
    }

    pub(super) fn end(&mut self, end: JobEnd) {
        push(&mut self.ends, end);
    }

    pub(super) fn raw(&mut self, record: RawRecord) {
        push(&mut self.records, record);
    }

    pub(super) fn tell(&mut self, now: Time, record: impl Record) {
        self.raw(record.at(now));
    }
}

/// # Panics
/// If the driver feeds more than one cycle's inputs without clearing: growing would allocate between release and
/// completion.
fn push<T>(into: &mut Vec<T>, item: T) {
    assert!(into.len() < into.capacity(), "the outbox is full; clear it at least once a decider cycle");
    into.push(item);
}
