//! One record in words. The words are for people; programs read the records themselves or the JSON export.

use aegis_types::records::{
    AssumptionBroken, Consequence, Decided, JobFinished, JobOutcome, JobRefused, JobReleased, Reason,
    Refusal, SegmentCompleted, SegmentDispatched, SegmentRan, Standing, TaskAdmitted,
};
use aegis_types::{JobId, Nanos, RawRecord, SegmentIndex, TaskId};

use crate::error::TraceError;
use crate::gap::Gap;
use crate::read::Trace;
use crate::schema::Value;
use crate::segments::SegmentSpan;

/// Puts records of one trace into words, with the tasks' names.
#[derive(Debug)]
pub(crate) struct Teller<'a> {
    trace: &'a Trace,
    tasks: Vec<String>,
}

impl<'a> Teller<'a> {
    /// # Errors
    /// [`TraceError::Blob`] if the names of the tasks cannot be read.
    pub(crate) fn new(trace: &'a Trace) -> Result<Self, TraceError> {
        Ok(Self { trace, tasks: trace.tasks()? })
    }

    /// The name of a task, or its number.
    pub(crate) fn task(&self, task: TaskId) -> String {
        self.tasks.get(task.index()).cloned().unwrap_or_else(|| task.to_string())
    }

    /// A job by the name of its task and its number.
    pub(crate) fn job(&self, job: JobId) -> String {
        format!("{}#{}", self.task(job.task), job.number)
    }

    /// A field's value with the names of tasks put in.
    pub(crate) fn value(&self, value: &Value<'_>) -> String {
        match value {
            Value::Task(task) => self.task(*task),
            Value::Job(job) => self.job(*job),
            other => other.to_string(),
        }
    }

    /// A record in words. `decided` is what was weighed, if the record is a dispatch.
    pub(crate) fn record(&self, raw: &RawRecord, decided: Option<&Decided>) -> String {
        let trace = self.trace;
        if let Some(r) = trace.read::<SegmentDispatched>(raw) {
            self.dispatched(&r, decided)
        } else if let Some(r) = trace.read::<Decided>(raw) {
            self.passed_over(&r)
        } else if let Some(r) = trace.read::<JobReleased>(raw) {
            let (job, pending) = (self.job(r.job), r.pending);
            format!("{job} released on {}, due at {}, {pending} pending", r.lane, r.deadline)
        } else if let Some(r) = trace.read::<JobRefused>(raw) {
            self.refused(&r)
        } else if let Some(r) = trace.read::<SegmentCompleted>(raw) {
            self.completed(&r)
        } else if let Some(r) = trace.read::<JobFinished>(raw) {
            self.finished(&r)
        } else if let Some(r) = trace.read::<AssumptionBroken>(raw) {
            self.broken(&r)
        } else if let Some(r) = trace.read::<TaskAdmitted>(raw) {
            let (task, queue) = (self.task(r.task), r.queue);
            let bounds = format!("worst-case response {}, deadline {}", r.wcrt, r.deadline);
            format!(
                "{task} admitted on {}: {bounds}, tolerates {} of overrun, queue {queue}",
                r.lane, r.tolerance
            )
        } else if let Some(r) = trace.read::<SegmentRan>(raw) {
            let what = format!("{}{}", self.job(r.job), nth(r.segment));
            format!("{what} ran on the carrier of {} from {} to {}", r.lane, r.entered, r.left)
        } else {
            self.fields(raw)
        }
    }

    /// Any record, field by field.
    fn fields(&self, raw: &RawRecord) -> String {
        let mut text = self.trace.kind_name(raw);
        if let Some(schema) = self.trace.schema(raw.kind()) {
            for (name, value) in schema.values(raw) {
                text.push_str(&format!(" {name}={}", self.value(&value)));
            }
        }
        text
    }

    fn dispatched(&self, r: &SegmentDispatched, decided: Option<&Decided>) -> String {
        let what = format!("{}{}", self.job(r.job), nth(r.segment));
        let why = match r.reason {
            Reason::OnlyReady => "only job ready",
            Reason::MostUrgent => "most urgent",
            Reason::TieBreak => "first by number at equal urgency",
            Reason::Picked => "picked by the policy",
            Reason::NextSegment => "next segment of the most urgent job",
        };
        let others = decided.map_or_else(String::new, |d| {
            format!(" of {} ready (before {})", d.ready, self.job(d.runner_up))
        });
        format!("{what} dispatched on {}, budget {}, {why}{others}", r.lane, r.budget)
    }

    /// A decision as the one who came second sees it.
    fn passed_over(&self, r: &Decided) -> String {
        let keys = format!("key {} before {}, {} ready", r.key, r.runner_up_key, r.ready);
        format!(
            "{} waits: {} dispatched on {} first ({keys})",
            self.job(r.runner_up),
            self.job(r.job),
            r.lane
        )
    }

    fn refused(&self, r: &JobRefused) -> String {
        let why = match r.reason {
            Refusal::TooEarly => format!("too early, legal from {}", r.legal_from),
            Refusal::QueueFull => "its queue is full".to_owned(),
            Refusal::LaneVoid => "its lane's certificate is void until it idles".to_owned(),
            Refusal::Stopping => "the engine is stopping".to_owned(),
            Refusal::NotSporadic => "it takes no submissions".to_owned(),
        };
        format!("{} refused: {why}; {} pending", self.task(r.task), r.pending)
    }

    fn completed(&self, r: &SegmentCompleted) -> String {
        let what = format!("{}{}", self.job(r.job), nth(r.segment));
        let over = r.occupancy.saturating_sub(r.budget);
        let over = if over.is_zero() { String::new() } else { format!(", {over} over") };
        format!("{what} left {} after {} (budget {}{over})", r.lane, r.occupancy, r.budget)
    }

    fn finished(&self, r: &JobFinished) -> String {
        let how = match r.outcome {
            JobOutcome::Completed => "completed",
            JobOutcome::Failed => "failed",
            JobOutcome::Dropped => "dropped to bring its lane back to a certified state",
            JobOutcome::Stopped => "dropped because the engine stopped",
        };
        let bound = if r.bound == Nanos::MAX { "no bound".to_owned() } else { format!("bound {}", r.bound) };
        let standing = match r.standing {
            Standing::Covered => "covered by the certificate".to_owned(),
            Standing::Tolerated => format!("overrun {} tolerated", r.overrun),
            Standing::Void => "certificate void".to_owned(),
        };
        format!("{} {how}, response {}, {bound}, {standing}", self.job(r.job), r.response)
    }

    fn broken(&self, r: &AssumptionBroken) -> String {
        let then = match r.consequence {
            Consequence::DeadlinesHold => "deadlines still hold",
            Consequence::LaneVoid => "the lane's certificate is void until it idles",
            Consequence::DeviceVoid => "every lane's certificate is void until it idles",
            Consequence::JobVoid => "the bound of this job is void",
        };
        let place = format!("{} on {}", self.job(r.job), r.lane);
        format!(
            "assumption {:?} broke at {place}: {} seen, {} assumed; {then}",
            r.assumption, r.seen, r.limit
        )
    }

    /// What a job met when it was released.
    pub(crate) fn blocked(&self, job: JobId, by: &SegmentSpan) -> String {
        let blocker = format!("{} (budget {}, non-preemptive)", self.task(by.job.task), by.budget);
        let since =
            format!("{}{} in flight on {} since {}", self.job(by.job), nth(by.segment), by.lane, by.start);
        format!("{} blocked by {blocker}: {since}", self.job(job))
    }

    /// A gap, told so that nobody reads an absence as an answer.
    pub(crate) fn gap(&self, gap: &Gap) -> String {
        let producer = self.trace.producer_name(gap.producer);
        let from = gap.after.map_or_else(|| "the start".to_owned(), |t| t.to_string());
        let to = gap.before.map_or_else(|| "the end".to_owned(), |t| t.to_string());
        format!("unknown: {} records of `{producer}` were lost between {from} and {to}", gap.lost)
    }
}

/// Which segment, where it is not the first.
fn nth(segment: SegmentIndex) -> String {
    if segment.get() == 0 { String::new() } else { format!(" segment {}", segment.get()) }
}
