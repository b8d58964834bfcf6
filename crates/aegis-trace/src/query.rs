//! Questions to a trace: what happened to a task and why, and which records match.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;

use aegis_types::records::{
    AssumptionBroken, Consequence, Decided, JobReleased, SegmentDispatched, TaskAdmitted,
};
use aegis_types::{JobId, LaneId, RawRecord, TaskId, Time};

use crate::error::TraceError;
use crate::rationale::Teller;
use crate::read::Trace;

/// A task, by name or by number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskSelector {
    /// The task of this name in the fleet.
    Name(String),
    /// The task of this number.
    Id(TaskId),
}

/// One thing that happened to a task, in words. Displayed with its stamp in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rationale {
    /// When.
    pub at: Time,
    /// What, and why.
    pub text: String,
    /// The record that tells it: of a blocking the dispatch of the one that blocks, of a gap none.
    pub record: Option<RawRecord>,
}

/// Which records to look at. What is not set matches everything.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    kind: Option<String>,
    producer: Option<String>,
    task: Option<TaskSelector>,
    range: Option<Range<Time>>,
}

impl Trace {
    /// What happened to `task` in `[start, end)`, by stamp: its records in words, who blocked its jobs when they were
    /// released, which decisions went against it, broken assumptions on its lanes, and what cannot be known because
    /// records are missing.
    ///
    /// # Errors
    /// [`TraceError::Unknown`] if the trace has no task of that name; [`TraceError::Blob`] if the names of the tasks
    /// cannot be read.
    pub fn query(
        &self,
        task: impl Into<TaskSelector>,
        range: Range<Time>,
    ) -> Result<Vec<Rationale>, TraceError> {
        let task = self.task_id(&task.into())?;
        let teller = Teller::new(self)?;
        let lanes = self.lanes_of(task);
        let timeline = self.timeline();
        let weighed = self.weighed(range.clone());
        let mut answers = Vec::new();
        for position in self.positions(range.clone()) {
            let raw = &self.records()[position];
            let tell = |text| Rationale { at: raw.stamp, text, record: Some(*raw) };
            if let Some(dispatched) = self.read::<SegmentDispatched>(raw) {
                if dispatched.job.task == task {
                    let decided = weighed.get(&(raw.stamp, dispatched.lane, dispatched.job));
                    answers.push(tell(teller.record(raw, decided)));
                }
            } else if let Some(decided) = self.read::<Decided>(raw) {
                // The winner's side is told with its dispatch.
                if decided.runner_up.task == task && decided.job.task != task {
                    answers.push(tell(teller.record(raw, None)));
                }
            } else if self.names_task(raw, task) || self.breaks_lane(raw, &lanes) {
                answers.push(tell(teller.record(raw, None)));
            }
            if let Some(released) = self.read::<JobReleased>(raw)
                && released.job.task == task
                && let Some(span) = timeline.in_flight(released.lane, position)
            {
                let record = Some(self.records()[span.position]);
                answers.push(Rationale { at: raw.stamp, text: teller.blocked(released.job, span), record });
            }
        }
        for gap in self.gaps().iter().filter(|gap| gap.touches(range.start, range.end)) {
            let at = gap.after.unwrap_or(range.start).max(range.start);
            answers.push(Rationale { at, text: teller.gap(gap), record: None });
        }
        answers.sort_by_key(|answer| answer.at);
        Ok(answers)
    }

    /// The records that match `filter`, in the order of [`Trace::records`].
    ///
    /// # Errors
    /// [`TraceError::Unknown`] if the filter names a kind, a producer or a task that the trace does not have;
    /// [`TraceError::Blob`] if the names of the tasks cannot be read.
    pub fn matching(&self, filter: &Filter) -> Result<impl Iterator<Item = &RawRecord>, TraceError> {
        let kind = filter.kind.as_deref().map(|name| self.kind_number(name)).transpose()?;
        let producer = filter.producer.as_deref().map(|name| self.producer_number(name)).transpose()?;
        let task = filter.task.as_ref().map(|task| self.task_id(task)).transpose()?;
        let records = filter.range.clone().map_or(self.records(), |range| self.between(range));
        Ok(records.iter().filter(move |raw| {
            kind.is_none_or(|kind| raw.kind() == kind)
                && producer.is_none_or(|producer| raw.producer() == producer)
                && task.is_none_or(|task| self.names_task(raw, task))
        }))
    }

    /// The task's number.
    ///
    /// # Errors
    /// [`TraceError::Unknown`] if the trace has no task of that name; [`TraceError::Blob`] if the names of the tasks
    /// cannot be read.
    pub fn task_id(&self, task: &TaskSelector) -> Result<TaskId, TraceError> {
        let name = match task {
            TaskSelector::Id(id) => return Ok(*id),
            TaskSelector::Name(name) => name,
        };
        let tasks = self.tasks()?;
        let index = tasks.iter().position(|t| t == name).and_then(|index| u16::try_from(index).ok());
        index.map(TaskId::new).ok_or_else(|| unknown("task", name, tasks.iter().map(String::as_str)))
    }

    /// The lanes on which jobs of `task` were released or for which it was admitted.
    pub fn lanes_of(&self, task: TaskId) -> BTreeSet<LaneId> {
        let released = self.all::<JobReleased>().filter(|(_, r)| r.job.task == task).map(|(_, r)| r.lane);
        let admitted = self.all::<TaskAdmitted>().filter(|(_, r)| r.task == task).map(|(_, r)| r.lane);
        released.chain(admitted).collect()
    }

    /// What was weighed at each dispatch, by stamp, lane and the job that was dispatched.
    fn weighed(&self, range: Range<Time>) -> BTreeMap<(Time, LaneId, JobId), Decided> {
        let decisions =
            self.between(range).iter().filter_map(|raw| Some((raw.stamp, self.read::<Decided>(raw)?)));
        decisions.map(|(stamp, decided)| ((stamp, decided.lane, decided.job), decided)).collect()
    }

    /// Whether `raw` tells of a broken assumption that voids more than one job on one of `lanes`.
    fn breaks_lane(&self, raw: &RawRecord, lanes: &BTreeSet<LaneId>) -> bool {
        self.read::<AssumptionBroken>(raw).is_some_and(|broken| match broken.consequence {
            Consequence::DeviceVoid => true,
            Consequence::LaneVoid | Consequence::DeadlinesHold => lanes.contains(&broken.lane),
            Consequence::JobVoid => false,
        })
    }

    fn kind_number(&self, name: &str) -> Result<u16, TraceError> {
        let schema = self.schema_named(name);
        schema.map(|s| s.kind).ok_or_else(|| unknown("kind", name, self.schemas().map(|s| s.name.as_str())))
    }

    fn producer_number(&self, name: &str) -> Result<u16, TraceError> {
        let index = self.producers().position(|p| p == name).and_then(|index| u16::try_from(index).ok());
        index.ok_or_else(|| unknown("producer", name, self.producers()))
    }
}

impl Filter {
    /// Only records of the kind with this name.
    #[must_use]
    pub fn kind(mut self, name: &str) -> Self {
        self.kind = Some(name.to_owned());
        self
    }

    /// Only records that came through the producer with this name.
    #[must_use]
    pub fn producer(mut self, name: &str) -> Self {
        self.producer = Some(name.to_owned());
        self
    }

    /// Only records that name this task, by itself or through a job.
    #[must_use]
    pub fn task(mut self, task: impl Into<TaskSelector>) -> Self {
        self.task = Some(task.into());
        self
    }

    /// Only records stamped in `[start, end)`.
    #[must_use]
    pub fn between(mut self, range: Range<Time>) -> Self {
        self.range = Some(range);
        self
    }
}

impl From<&str> for TaskSelector {
    fn from(name: &str) -> Self {
        Self::Name(name.to_owned())
    }
}

impl From<String> for TaskSelector {
    fn from(name: String) -> Self {
        Self::Name(name)
    }
}

impl From<TaskId> for TaskSelector {
    fn from(id: TaskId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for Rationale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>14}  {}", self.at, self.text)
    }
}

fn unknown<'a>(what: &'static str, name: &str, legal: impl Iterator<Item = &'a str>) -> TraceError {
    let legal: Vec<_> = legal.map(|name| format!("`{name}`")).collect();
    let legal = if legal.is_empty() { "none".to_owned() } else { legal.join(", ") };
    TraceError::Unknown { what, name: name.to_owned(), legal }
}
