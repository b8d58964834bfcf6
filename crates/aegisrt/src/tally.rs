//! Counts what the engine decided, job by job, while it runs: the source of live lines, summary and exit code.

use aegis_sched::engine::OverrunRunning;
use aegis_sched::{Certificate, TaskSet};
use aegis_types::records::{
    Assumption, AssumptionBroken, Consequence, JobFinished, JobOutcome, JobRefused, JobReleased, Refusal,
    StallHandled, Standing,
};
use aegis_types::{LaneId, Nanos, RawRecord, Record, Sink};
use hdrhistogram::Histogram;
use serde::Serialize;

use crate::live::Live;

/// Responses above this are counted in the last bucket of the histogram; the exact maximum is kept beside it.
const RESPONSE_MAX: u64 = 3_600_000_000_000;

/// Counts of one task.
#[derive(Clone, Debug)]
pub struct TaskTally {
    /// The task's name.
    pub name: String,
    /// Its lane.
    pub lane: LaneId,
    /// T.
    pub period: Nanos,
    /// D.
    pub deadline: Nanos,
    /// R.
    pub wcrt: Nanos,
    /// Jobs accepted.
    pub released: u64,
    /// Jobs by [`JobOutcome`], in its order.
    pub outcomes: [u64; 4],
    /// Ended jobs by [`Standing`], in its order.
    pub standings: [u64; 3],
    /// Arrivals refused, by [`Refusal`], in its order.
    pub refusals: [u64; 5],
    /// Completed jobs whose response exceeded the deadline.
    pub misses: u64,
    /// Misses in busy periods whose assumptions held: each is a defect of the certificate or of the runtime.
    pub certified_misses: u64,
    /// Covered or tolerated jobs whose response exceeded the bound that was claimed for them.
    pub bound_violations: u64,
    /// Longest response of a completed job.
    pub response_max: Nanos,
    /// Longest response of a completed job in a busy period without a broken assumption.
    pub covered_max: Nanos,
    /// Broken assumptions in jobs of this task, by [`Assumption`], in its order.
    pub broken: [u64; 5],
    /// The largest excess over a budget seen in a job of this task.
    pub excess_max: Nanos,
    /// Segments that were told of while they ran beyond their budget.
    pub running_over: u64,
    /// Responses of completed jobs, in nanoseconds, to three significant digits.
    pub responses: Histogram<u64>,
}

impl TaskTally {
    /// Completed jobs.
    pub const fn completed(&self) -> u64 {
        self.outcomes[JobOutcome::Completed as usize]
    }

    /// Jobs that never met their deadline: failed, dropped, never ended, or never released because the queue was full
    /// or the lane void.
    pub fn lost(&self) -> u64 {
        let ended: u64 = self.outcomes.iter().sum();
        let unserved = self.refusals[Refusal::QueueFull as usize] + self.refusals[Refusal::LaneVoid as usize];
        let abandoned =
            self.outcomes[JobOutcome::Failed as usize] + self.outcomes[JobOutcome::Dropped as usize];
        abandoned + unserved + self.released.saturating_sub(ended)
    }

    /// Jobs that ended in a busy period without a broken assumption.
    pub const fn covered(&self) -> u64 {
        self.standings[Standing::Covered as usize]
    }

    /// Share of ended jobs that were covered; 1 if none ended.
    pub fn covered_fraction(&self) -> f64 {
        let ended: u64 = self.standings.iter().sum();
        if ended == 0 { 1.0 } else { self.covered() as f64 / ended as f64 }
    }
}

/// Counts of a run.
#[derive(Clone, Debug)]
pub struct Tally {
    tasks: Vec<TaskTally>,
    device_void: u64,
    stalls: u64,
    stall_max: Nanos,
}

/// How a run ended, by the exit code that says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every job that ended met its deadline.
    Kept,
    /// Deadlines were missed, or jobs failed or were dropped, each in a busy period in which an assumption broke.
    Explained,
    /// A deadline was missed, or a bound exceeded, although every assumption held.
    Violated,
}

impl Outcome {
    /// The documented exit code.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Kept => 0,
            Self::Violated => 1,
            Self::Explained => 4,
        }
    }
}

impl Tally {
    /// A tally of nothing yet.
    pub fn new(set: &TaskSet, certificate: &Certificate) -> Self {
        let tasks = set.tasks().iter().map(|task| {
            let wcrt = certificate.task(task.id).map_or(Nanos::MAX, |(lane, at)| lane.tasks()[at].wcrt);
            TaskTally {
                name: task.name.clone(),
                lane: task.lane,
                period: task.period,
                deadline: task.deadline,
                wcrt,
                released: 0,
                outcomes: [0; 4],
                standings: [0; 3],
                refusals: [0; 5],
                misses: 0,
                certified_misses: 0,
                bound_violations: 0,
                response_max: Nanos::ZERO,
                covered_max: Nanos::ZERO,
                broken: [0; 5],
                excess_max: Nanos::ZERO,
                running_over: 0,
                responses: histogram(),
            }
        });
        Self { tasks: tasks.collect(), device_void: 0, stalls: 0, stall_max: Nanos::ZERO }
    }

    /// The tasks, by number.
    pub fn tasks(&self) -> &[TaskTally] {
        &self.tasks
    }

    /// How often breaches on two lanes at once voided every certificate.
    pub const fn device_voids(&self) -> u64 {
        self.device_void
    }

    /// How often the driver was stalled for longer than declared, and the longest stall.
    pub const fn stalls(&self) -> (u64, Nanos) {
        (self.stalls, self.stall_max)
    }

    /// How the run ended so far.
    pub fn outcome(&self) -> Outcome {
        let any = |count: fn(&TaskTally) -> u64| self.tasks.iter().any(|task| count(task) > 0);
        if any(|task| task.certified_misses) || any(|task| task.bound_violations) {
            Outcome::Violated
        } else if any(|task| task.misses) || any(TaskTally::lost) {
            Outcome::Explained
        } else {
            Outcome::Kept
        }
    }

    fn finished(&mut self, record: &JobFinished) {
        let Some(task) = self.tasks.get_mut(record.job.task.index()) else { return };
        task.outcomes[record.outcome as usize] += 1;
        task.standings[record.standing as usize] += 1;
        if record.outcome != JobOutcome::Completed {
            return;
        }
        task.responses.saturating_record(record.response.get().max(1));
        task.response_max = task.response_max.max(record.response);
        if record.standing == Standing::Covered {
            task.covered_max = task.covered_max.max(record.response);
        }
        let claimed = record.standing != Standing::Void;
        if record.response > task.deadline {
            task.misses += 1;
            task.certified_misses += u64::from(claimed);
        }
        task.bound_violations += u64::from(claimed && record.response > record.bound);
    }

    fn broken(&mut self, record: &AssumptionBroken) {
        // A stall breaks it on every busy lane; it is counted once, as the input that told of it.
        if record.assumption == Assumption::HostStall {
            return;
        }
        self.device_void += u64::from(record.consequence == Consequence::DeviceVoid);
        if let Some(task) = self.tasks.get_mut(record.job.task.index()) {
            task.broken[record.assumption as usize] += 1;
            task.excess_max = task.excess_max.max(record.seen.saturating_sub(record.limit));
        }
    }
}

impl Sink for Tally {
    fn emit(&mut self, raw: RawRecord) {
        if let Some(record) = JobFinished::read(&raw) {
            self.finished(&record);
        } else if let Some(record) = JobReleased::read(&raw) {
            if let Some(task) = self.tasks.get_mut(record.job.task.index()) {
                task.released += 1;
            }
        } else if let Some(record) = StallHandled::read(&raw) {
            self.stalls += 1;
            self.stall_max = self.stall_max.max(record.gap);
        } else if let Some(record) = AssumptionBroken::read(&raw) {
            self.broken(&record);
        } else if let Some(record) = JobRefused::read(&raw)
            && let Some(task) = self.tasks.get_mut(record.task.index())
        {
            task.refusals[record.reason as usize] += 1;
        } else if let Some(record) = OverrunRunning::read(&raw)
            && let Some(task) = self.tasks.get_mut(record.job.task.index())
        {
            task.running_over += 1;
        }
    }
}

/// A task's counts as they stand at the end of a trace.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of TaskTally, with their units in their names")]
pub struct TaskSummary {
    pub task: String,
    pub lane: u16,
    pub period_ns: u64,
    pub deadline_ns: u64,
    pub wcrt_ns: u64,
    pub released: u64,
    pub completed: u64,
    pub failed: u64,
    pub dropped: u64,
    pub stopped: u64,
    pub refused: u64,
    pub covered: u64,
    pub tolerated: u64,
    pub void: u64,
    pub covered_fraction: f64,
    pub misses: u64,
    pub certified_misses: u64,
    pub bound_violations: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    pub covered_max_ns: u64,
    pub budget_overruns: u64,
    pub late_releases: u64,
    pub late_decisions: u64,
    pub failures: u64,
    pub excess_max_ns: u64,
    pub running_over: u64,
    /// The histogram of responses, in the V2 encoding of HdrHistogram with deflate left out, as hexadecimal digits.
    pub histogram: String,
}

/// A run's counts as they stand at the end of a trace.
#[derive(Clone, Debug, Serialize)]
#[expect(missing_docs, reason = "the fields are those of Tally, with their units in their names")]
pub struct Summary {
    pub outcome: Outcome,
    pub tasks: Vec<TaskSummary>,
    pub device_voids: u64,
    pub stalls: u64,
    pub stall_max_ns: u64,
}

impl TaskTally {
    fn summary(&self) -> TaskSummary {
        let quantile =
            |q: f64| if self.responses.is_empty() { 0 } else { self.responses.value_at_quantile(q) };
        let broken = |assumption: Assumption| self.broken[assumption as usize];
        TaskSummary {
            task: self.name.clone(),
            lane: self.lane.get(),
            period_ns: self.period.get(),
            deadline_ns: self.deadline.get(),
            wcrt_ns: self.wcrt.get(),
            released: self.released,
            completed: self.completed(),
            failed: self.outcomes[JobOutcome::Failed as usize],
            dropped: self.outcomes[JobOutcome::Dropped as usize],
            stopped: self.outcomes[JobOutcome::Stopped as usize],
            refused: self.refusals.iter().sum(),
            covered: self.covered(),
            tolerated: self.standings[Standing::Tolerated as usize],
            void: self.standings[Standing::Void as usize],
            covered_fraction: self.covered_fraction(),
            misses: self.misses,
            certified_misses: self.certified_misses,
            bound_violations: self.bound_violations,
            p50_ns: quantile(0.5),
            p99_ns: quantile(0.99),
            p999_ns: quantile(0.999),
            max_ns: self.response_max.get(),
            covered_max_ns: self.covered_max.get(),
            budget_overruns: broken(Assumption::OccupancyBudget),
            late_releases: broken(Assumption::PromptRelease),
            late_decisions: broken(Assumption::PromptDecision),
            failures: broken(Assumption::SegmentSucceeds),
            excess_max_ns: self.excess_max.get(),
            running_over: self.running_over,
            histogram: encode(&self.responses),
        }
    }
}

impl Tally {
    /// The counts as plain numbers.
    pub fn summary(&self) -> Summary {
        Summary {
            outcome: self.outcome(),
            tasks: self.tasks.iter().map(TaskTally::summary).collect(),
            device_voids: self.device_void,
            stalls: self.stalls,
            stall_max_ns: self.stall_max.get(),
        }
    }
}

fn encode(histogram: &Histogram<u64>) -> String {
    use hdrhistogram::serialization::{Serializer, V2Serializer};
    let mut bytes = Vec::new();
    // A histogram of these bounds always fits; an empty text would say that it did not.
    match V2Serializer::new().serialize(histogram, &mut bytes) {
        Ok(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
        Err(_) => String::new(),
    }
}

/// Counts for the live lines and for the summary, then hands on.
pub struct Counted<'a, S> {
    /// Who counts for the live lines.
    pub live: &'a Live,
    /// Who counts for the summary.
    pub tally: &'a mut Tally,
    /// Where the record goes.
    pub next: &'a mut S,
}

impl<S: Sink> Sink for Counted<'_, S> {
    fn emit(&mut self, record: RawRecord) {
        self.live.see(&record);
        self.tally.emit(record);
        self.next.emit(record);
    }
}

/// An empty histogram of responses: 1 ns to an hour, three significant digits, never resized.
fn histogram() -> Histogram<u64> {
    let mut empty = Histogram::new_with_bounds(1, RESPONSE_MAX, 3)
        .expect("the bounds are constants that satisfy the library's rules");
    // Writes every counter, so that its memory is there before the first job and not when a response is the first of its
    // size. The optimiser must not know that they are zero already.
    std::hint::black_box(&mut empty).reset();
    empty
}

/// Names of the refusals, for tables.
pub fn refusal_name(index: usize) -> &'static str {
    match Refusal::ALL.get(index) {
        Some(Refusal::TooEarly) => "too early",
        Some(Refusal::QueueFull) => "queue full",
        Some(Refusal::LaneVoid) => "lane void",
        Some(Refusal::Stopping) => "stopping",
        Some(Refusal::NotSporadic) => "not sporadic",
        None => "unknown",
    }
}
