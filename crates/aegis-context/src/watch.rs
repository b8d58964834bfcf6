//! What a task used against what it was granted.

use aegis_types::{Bytes, Nanos, RawRecord, Record, ResourceBudget, Schema, Sink, TaskId, Time, record};

use crate::execution::MemoryUse;

record! {
    /// A model was loaded within its budget.
    pub struct ContextCreated(140) {
        /// The task.
        task: TaskId,
        /// Weights and what the backend made of them.
        persistent: Bytes,
        /// Inputs, outputs, state and tensors across segment boundaries.
        exchange: Bytes,
        /// The most scratch that a segment took while loading.
        scratch: Bytes,
        /// The memory budget.
        budget: Bytes,
    }
}
record! {
    /// A task used more memory than it was granted.
    pub struct MemoryExceeded(141) {
        /// The task.
        task: TaskId,
        /// Bytes in use.
        used: Bytes,
        /// Bytes granted.
        granted: Bytes,
    }
}
record! {
    /// A job occupied its lane for longer than its task was granted, as its carrier saw it. On an asynchronous device the
    /// carrier comes to look up to a visit to each other lane after the flag shows, once for each segment, so this may be
    /// told of a job that kept its budget: for blame only, the engine judges by the flag.
    pub struct ComputeExceeded(142) {
        /// The task.
        task: TaskId,
        /// Occupancy of the job so far.
        seen: Nanos,
        /// Occupancy granted.
        granted: Nanos,
    }
}

/// The schemas of this crate's records, for the head of a trace.
pub const SCHEMAS: &[Schema] = &[ContextCreated::SCHEMA, MemoryExceeded::SCHEMA, ComputeExceeded::SCHEMA];

/// A budget that was exceeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a breach concerns the guarantees of the task"]
pub enum Breach {
    /// More memory than granted.
    Memory(MemoryExceeded),
    /// A job longer than granted.
    Compute(ComputeExceeded),
}

impl Breach {
    /// The breach as a record.
    pub fn at(&self, stamp: Time) -> RawRecord {
        match self {
            Self::Memory(breach) => breach.at(stamp),
            Self::Compute(breach) => breach.at(stamp),
        }
    }
}

/// Watches one task. It sees what it is told and changes nothing; what follows from a breach is decided elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct BudgetWatch {
    task: TaskId,
    budget: ResourceBudget,
    /// Occupancy of the job that is running.
    seen: Nanos,
}

impl BudgetWatch {
    /// The watch of `task`.
    pub const fn new(task: TaskId, budget: ResourceBudget) -> Self {
        Self { task, budget, seen: Nanos::ZERO }
    }

    /// Records that the model was loaded.
    pub fn created(&self, used: &MemoryUse, now: Time, sink: &mut dyn Sink) {
        let record = ContextCreated {
            task: self.task,
            persistent: used.persistent,
            exchange: used.exchange,
            scratch: used.scratch,
            budget: self.budget.memory,
        };
        sink.emit(record.at(now));
    }

    /// Compares memory in use with the budget, and records a breach.
    pub fn memory(&self, used: &MemoryUse, now: Time, sink: &mut dyn Sink) -> Option<Breach> {
        let (used, granted) = (used.total(), self.budget.memory);
        let breach = Breach::Memory(MemoryExceeded { task: self.task, used, granted });
        (used > granted).then(|| tell(breach, now, sink))
    }

    /// Adds the occupancy of one segment to its job, and records a breach by the segment that crosses the budget; later
    /// ones of the job are not told again. `last` says that the job ended, however it did.
    pub fn ran(&mut self, occupancy: Nanos, last: bool, now: Time, sink: &mut dyn Sink) -> Option<Breach> {
        let granted = self.budget.compute;
        let before = self.seen;
        let seen = before.saturating_add(occupancy);
        self.seen = if last { Nanos::ZERO } else { seen };
        let breach = Breach::Compute(ComputeExceeded { task: self.task, seen, granted });
        (before <= granted && seen > granted).then(|| tell(breach, now, sink))
    }
}

fn tell(breach: Breach, now: Time, sink: &mut dyn Sink) -> Breach {
    sink.emit(breach.at(now));
    breach
}

#[cfg(test)]
mod tests {
    use super::*;

    fn watch() -> BudgetWatch {
        let budget = ResourceBudget { memory: Bytes::new(100), streams: 1, compute: Nanos::new(10) };
        BudgetWatch::new(TaskId::new(3), budget)
    }

    #[test]
    fn a_job_is_charged_for_all_its_segments_and_told_once() {
        let mut watch = watch();
        let mut sink = Vec::new();
        let mut ran = |ns, last| watch.ran(Nanos::new(ns), last, Time::new(5), &mut sink).is_some();
        assert_eq!([ran(6, false), ran(4, true)], [false, false], "exactly the budget is within it");
        assert_eq!([ran(6, false), ran(5, false), ran(9, true)], [false, true, false]);
        assert_eq!([ran(10, true), ran(11, true)], [false, true]);
        let seen: Vec<Option<Nanos>> =
            sink.iter().map(|raw| ComputeExceeded::read(raw).map(|it| it.seen)).collect();
        assert_eq!(seen, [Some(Nanos::new(11)), Some(Nanos::new(11))]);
    }

    #[test]
    fn memory_is_the_sum_of_its_classes() {
        let used = |persistent, exchange, scratch| MemoryUse {
            persistent: Bytes::new(persistent),
            exchange: Bytes::new(exchange),
            scratch: Bytes::new(scratch),
        };
        let mut sink = Vec::new();
        assert_eq!(watch().memory(&used(40, 30, 30), Time::ZERO, &mut sink), None);
        let breach = watch().memory(&used(40, 30, 31), Time::ZERO, &mut sink);
        assert!(matches!(breach, Some(Breach::Memory(it)) if it.used == Bytes::new(101)));
        assert_eq!(used(u64::MAX, 1, 0).total(), Bytes::MAX);
        assert_eq!(sink.len(), 1);
    }
}
