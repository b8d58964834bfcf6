//! The records that explain and replay read. Others are declared where they are emitted and read by schema name.
//!
//! Numbers: 1-19 what the engine was told (replay feeds exactly these back), 20-39 what it decided, 40-49 admission
//! and memory, 60-69 what a carrier saw. 100 and above belong to the crates that declare them.

use crate::{Bytes, DispatchSeq, JobId, LaneId, Nanos, SegmentIndex, TaskId, Time, choice, record};

choice! {
    /// How a segment ended.
    pub enum SegmentOutcome {
        /// It ran to its end.
        Done,
        /// It failed; the rest of the job is abandoned. The lane is free again.
        Failed,
        /// It failed before anything ran, and may be launched again if the task has retries left.
        NotStarted,
    }
}

choice! {
    /// What the engine is asked to do besides scheduling.
    pub enum Control {
        /// Accept no more jobs; finish those that are queued.
        Drain,
        /// Accept no more jobs; drop the queued ones; let running segments end.
        Stop,
    }
}

choice! {
    /// Why an arrival was refused.
    pub enum Refusal {
        /// It came earlier than period and jitter allow.
        TooEarly,
        /// As many jobs are pending as the certificate has slots for.
        QueueFull,
        /// The lane's certificate is void until it idles, and the task sheds load.
        LaneVoid,
        /// The engine is draining or stopped.
        Stopping,
        /// No task of that number can be submitted to.
        NotSporadic,
    }
}

choice! {
    /// Why this job was dispatched and no other.
    pub enum Reason {
        /// Nothing else was ready on the lane.
        OnlyReady,
        /// It has the most urgent key of its class.
        MostUrgent,
        /// Keys were equal; the smaller task number, then the earlier job, goes first.
        TieBreak,
        /// The policy of a work-conserving class picked it.
        Picked,
        /// The job's earlier segment ran on this lane and its key is still the most urgent.
        NextSegment,
    }
}

choice! {
    /// How a job ended. Every accepted job ends in exactly one of these.
    pub enum JobOutcome {
        /// Every segment ran.
        Completed,
        /// A segment failed.
        Failed,
        /// It was dropped before it started, to bring its lane back to a certified state.
        Dropped,
        /// It was dropped because the engine stopped.
        Stopped,
    }
}

choice! {
    /// What the certificate says about a job that ended.
    pub enum Standing {
        /// No assumption broke in the lane's busy period: the response is bounded by the WCRT.
        Covered,
        /// Budgets were overrun by no more than the lane tolerates: the response is bounded by R(X), deadlines hold.
        Tolerated,
        /// An assumption broke beyond what the certificate tolerates: no bound is claimed.
        Void,
    }
}

choice! {
    /// An assumption of a certificate that the engine watches.
    pub enum Assumption {
        /// E2: a free lane decides at the stamp at which a job is ready.
        PromptDecision,
        /// E3: a release is stamped no later than its arrival plus the charged jitter.
        PromptRelease,
        /// E4: a segment occupies its lane no longer than its budget.
        OccupancyBudget,
        /// The runtime's own thread is not stalled for longer than was declared.
        HostStall,
        /// A segment failed.
        SegmentSucceeds,
    }
}

choice! {
    /// What follows from a broken assumption.
    pub enum Consequence {
        /// The lane's overrun is within its tolerance: WCRTs are void, deadlines hold, R(X) bounds responses.
        DeadlinesHold,
        /// The lane's certificate is void until its next idle instant; load is shed.
        LaneVoid,
        /// Breaches on two lanes at once have a common cause: every lane's certificate is void until it idles.
        DeviceVoid,
        /// The bound of this one job is void.
        JobVoid,
    }
}

record! {
    /// The engine was made.
    pub struct EngineStarted(1) {
        /// Tasks under contract.
        tasks: u64,
        /// Lanes.
        lanes: u64,
        /// First word of the hash of the certificate.
        certificate: u64,
        /// Epoch of the certificate.
        epoch: u64,
    }
}
record! {
    /// Input: release what is due.
    pub struct TickHandled(2) {
        /// Decider cycles before this one.
        cycle: u64,
    }
}
record! {
    /// Input: a client submits a job.
    pub struct ArrivalHandled(3) {
        /// The task.
        task: TaskId,
        /// The client's number for the submission, returned in the answer.
        token: u64,
    }
}
record! {
    /// Input: a lane's completion flag was seen.
    pub struct CompletionHandled(4) {
        /// The lane.
        lane: LaneId,
        /// The number that the flag carried.
        dispatch: DispatchSeq,
        /// How the segment ended.
        outcome: SegmentOutcome,
    }
}
record! {
    /// Input: every input of this stamp was told; decide for each free lane.
    pub struct DecideHandled(5) {
        /// Decider cycles before this one.
        cycle: u64,
    }
}
record! {
    /// Input: a command of the operator.
    pub struct ControlHandled(6) {
        /// The command.
        control: Control,
    }
}
record! {
    /// Input: the driver saw itself stalled.
    pub struct StallHandled(7) {
        /// The gap between two looks.
        gap: Nanos,
        /// The declared limit.
        limit: Nanos,
    }
}

record! {
    /// A job was accepted.
    pub struct JobReleased(20) {
        /// The job.
        job: JobId,
        /// Its lane.
        lane: LaneId,
        /// Its nominal arrival, from which response and deadline count.
        arrival: Time,
        /// Its absolute deadline.
        deadline: Time,
        /// Jobs of the task that are pending, this one included.
        pending: u64,
        /// The client's token; zero for a timer release.
        token: u64,
    }
}
record! {
    /// An arrival was refused; nothing is buffered.
    pub struct JobRefused(21) {
        /// The task.
        task: TaskId,
        /// Why.
        reason: Refusal,
        /// The earliest stamp at which the next arrival is legal, where that is the reason.
        legal_from: Time,
        /// Jobs of the task that are pending.
        pending: u64,
        /// The client's token; zero for a timer release.
        token: u64,
    }
}
record! {
    /// A segment was given its lane.
    pub struct SegmentDispatched(22) {
        /// The job.
        job: JobId,
        /// The lane.
        lane: LaneId,
        /// Which segment of the job.
        segment: SegmentIndex,
        /// The number that the completion flag must carry.
        dispatch: DispatchSeq,
        /// The occupancy budget C'.
        budget: Nanos,
        /// Why this job.
        reason: Reason,
    }
}
record! {
    /// The alternatives at a dispatch; emitted beside [`SegmentDispatched`] when more than one job was ready.
    pub struct Decided(23) {
        /// The lane.
        lane: LaneId,
        /// The job that was dispatched.
        job: JobId,
        /// Its key in the policy's class; smaller is more urgent.
        key: u64,
        /// The most urgent job that was not dispatched.
        runner_up: JobId,
        /// Its key.
        runner_up_key: u64,
        /// Jobs that were ready on the lane.
        ready: u64,
    }
}
record! {
    /// A segment ended and its lane is free.
    pub struct SegmentCompleted(24) {
        /// The job.
        job: JobId,
        /// The lane.
        lane: LaneId,
        /// Which segment of the job.
        segment: SegmentIndex,
        /// The dispatch that it ends.
        dispatch: DispatchSeq,
        /// From the dispatch's stamp to the completion's stamp.
        occupancy: Nanos,
        /// The occupancy budget C'.
        budget: Nanos,
    }
}
record! {
    /// A job ended.
    pub struct JobFinished(25) {
        /// The job.
        job: JobId,
        /// How.
        outcome: JobOutcome,
        /// From its arrival to its end.
        response: Nanos,
        /// The bound that applies: R(X) with the overrun X accumulated so far, `Nanos::MAX` if none.
        bound: Nanos,
        /// What the certificate says about it.
        standing: Standing,
        /// X: overrun accumulated on the lane since it last idled.
        overrun: Nanos,
    }
}
record! {
    /// A watched assumption broke.
    pub struct AssumptionBroken(26) {
        /// Which.
        assumption: Assumption,
        /// The lane whose certificate it touches.
        lane: LaneId,
        /// The job in which it broke.
        job: JobId,
        /// What was seen.
        seen: Nanos,
        /// What was assumed.
        limit: Nanos,
        /// What follows.
        consequence: Consequence,
    }
}
record! {
    /// A lane idled: its busy period ended and its certificate is whole again.
    pub struct LaneIdled(27) {
        /// The lane.
        lane: LaneId,
        /// When the busy period began.
        since: Time,
        /// Overrun accumulated in it.
        overrun: Nanos,
        /// Jobs that ended in it.
        jobs: u64,
    }
}

record! {
    /// A task's contract was certified.
    pub struct TaskAdmitted(40) {
        /// The task.
        task: TaskId,
        /// Its lane.
        lane: LaneId,
        /// Its worst-case response time from arrival.
        wcrt: Nanos,
        /// Its relative deadline.
        deadline: Nanos,
        /// The overrun that its lane tolerates.
        tolerance: Nanos,
        /// Jobs that may be pending at once.
        queue: u64,
    }
}
record! {
    /// Memory was reserved for a task.
    pub struct MemoryReserved(41) {
        /// The task.
        task: TaskId,
        /// Bytes reserved.
        bytes: Bytes,
        /// Bytes reserved on the device after it.
        reserved: Bytes,
        /// The device's capacity.
        capacity: Bytes,
    }
}
record! {
    /// A reservation ended.
    pub struct MemoryReleased(42) {
        /// The task.
        task: TaskId,
        /// Bytes given back.
        bytes: Bytes,
        /// Bytes reserved on the device after it.
        reserved: Bytes,
    }
}
record! {
    /// Memory was refused; nothing changed.
    pub struct MemoryRefused(43) {
        /// The task.
        task: TaskId,
        /// Bytes asked for.
        asked: Bytes,
        /// Bytes in use of the limit.
        used: Bytes,
        /// The limit.
        limit: Bytes,
    }
}

record! {
    /// A carrier ran a segment. For blame only: verdicts use the engine's stamps.
    pub struct SegmentRan(60) {
        /// The job.
        job: JobId,
        /// The lane.
        lane: LaneId,
        /// Which segment.
        segment: SegmentIndex,
        /// The dispatch.
        dispatch: DispatchSeq,
        /// When the launch call was entered.
        entered: Time,
        /// When its completion became visible on the carrier; on an asynchronous device when the carrier came to look, up
        /// to a visit to each other lane after the flag.
        left: Time,
    }
}

/// The schema of every record in this module, for the head of a trace.
pub const SCHEMAS: &[crate::Schema] = {
    use crate::Record;
    &[
        EngineStarted::SCHEMA,
        TickHandled::SCHEMA,
        ArrivalHandled::SCHEMA,
        CompletionHandled::SCHEMA,
        DecideHandled::SCHEMA,
        ControlHandled::SCHEMA,
        StallHandled::SCHEMA,
        JobReleased::SCHEMA,
        JobRefused::SCHEMA,
        SegmentDispatched::SCHEMA,
        Decided::SCHEMA,
        SegmentCompleted::SCHEMA,
        JobFinished::SCHEMA,
        AssumptionBroken::SCHEMA,
        LaneIdled::SCHEMA,
        TaskAdmitted::SCHEMA,
        MemoryReserved::SCHEMA,
        MemoryReleased::SCHEMA,
        MemoryRefused::SCHEMA,
        SegmentRan::SCHEMA,
    ]
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{RawRecord, Record};

    #[test]
    fn kinds_and_names_are_unique() {
        for (i, a) in SCHEMAS.iter().enumerate() {
            for b in &SCHEMAS[..i] {
                assert!(a.kind != b.kind && a.name != b.name, "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn a_word_out_of_range_is_refused() {
        let job = JobId::new(TaskId::new(3), 9);
        let finished = JobFinished {
            job,
            outcome: JobOutcome::Dropped,
            response: Nanos::new(7),
            bound: Nanos::MAX,
            standing: Standing::Void,
            overrun: Nanos::ZERO,
        };
        let mut raw = finished.at(Time::new(11)).placed(2, 0xFFFF_FFFF);
        assert_eq!(JobFinished::read(&raw), Some(finished));
        assert_eq!((raw.producer(), raw.sequence(), raw.kind()), (2, 0xFFFF_FFFF, 25));
        assert_eq!(RawRecord::from_bytes(&raw.to_bytes()), raw);
        raw.payload[1] = 99;
        assert_eq!(JobFinished::read(&raw), None);
    }
}
