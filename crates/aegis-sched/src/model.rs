//! The task model: what a fleet promises and what its platform charges.
//!
//! A [`TaskSet`] is validated once and immutable. Charging turns it into the numbers that analysis, referee and
//! engine share: occupancy budgets C' and jitters J' (see [`crate::platform`]).

use aegis_types::{LaneId, Nanos, TaskId};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::platform::Platform;

/// How jobs of a task arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Arrival {
    /// Released by the engine's timer: first at `offset` after the start, then once a period.
    Periodic {
        /// When the first job arrives, from the engine's start.
        offset: Nanos,
    },
    /// Submitted by a client, at least a period apart.
    Sporadic,
}

impl Arrival {
    /// When the first job arrives, from the engine's start; `None` where a client decides that.
    pub const fn offset(self) -> Option<Nanos> {
        match self {
            Self::Periodic { offset } => Some(offset),
            Self::Sporadic => None,
        }
    }
}

/// How much it matters that a task keeps running when load must be shed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Criticality {
    /// Shed first.
    Low,
    /// Shed after low.
    #[default]
    Medium,
    /// Shed last.
    High,
}

/// What happens to a task's queued jobs when its lane's overrun exceeds the tolerance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnOverrun {
    /// Drop them, and refuse new arrivals until the lane idles.
    #[default]
    Skip,
    /// Keep them.
    Keep,
}

/// Where a budget comes from: what confidence in a bound can be at most.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Basis {
    /// Stated by the user or the backend; nothing was measured.
    Declared,
    /// A contended occupancy budget: the largest of `samples` occupancies, times one plus the margin.
    Measured {
        /// Confirm samples, none of which exceeded the budget.
        samples: u64,
        /// Margin on the high-water mark, in millionths.
        margin_ppm: u64,
        /// Contention under which it was measured, for people.
        level: String,
    },
}

/// The occupancy budget C^B of one segment: launch-call entry to completion visible, under contention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OccupancyBudget {
    /// The budget.
    pub bound: Nanos,
    /// Where it comes from.
    pub basis: Basis,
}

/// One graph with a contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its number: its position in the task set.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// The lane that its jobs run on.
    pub lane: LaneId,
    /// T: minimum time between arrivals.
    pub period: Nanos,
    /// D: relative deadline, from the nominal arrival. May exceed the period.
    pub deadline: Nanos,
    /// J: latest release after the nominal arrival, without the runtime's own latencies.
    pub jitter: Nanos,
    /// How jobs arrive.
    pub arrival: Arrival,
    /// Occupancy budgets of its segments, in order; at least one.
    pub segments: Vec<OccupancyBudget>,
    /// Explicit priority for the `fp` policy; 0 is the most urgent.
    pub priority: Option<u32>,
    /// What is shed first.
    pub criticality: Criticality,
    /// What is done when the lane's tolerance is exceeded.
    pub on_overrun: OnOverrun,
    /// How often a launch that failed before anything ran is tried again; charged `retries + 1` times.
    pub retries: u32,
    /// Segments that it may run in one turn, under a policy of turns; at least one. Other policies ignore it.
    #[serde(default = "one")]
    pub weight: u32,
    /// Tasks that it must not run beside; one side of a pair is enough. Budgets include the waiting that this costs:
    /// see [`Exclusion::beside`](crate::exclusion::Exclusion::beside).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub excludes: Vec<TaskId>,
}

/// The weight of a task that names none.
const fn one() -> u32 {
    1
}

/// Tasks on a platform, validated: dense ids, unique names, lanes that exist, no zero where zero has no meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Parts", into = "Parts")]
pub struct TaskSet {
    tasks: Vec<Task>,
    platform: Platform,
}

#[derive(Clone, Serialize, Deserialize)]
struct Parts {
    tasks: Vec<Task>,
    platform: Platform,
}

impl TaskSet {
    /// The largest number of tasks; far beyond what a device serves, small enough that every sum of counts fits.
    pub const TASKS_MAX: usize = 10_000;

    /// Validates tasks against a platform.
    ///
    /// # Errors
    /// [`ModelError`] naming the task, the field, the value and what would be legal.
    pub fn new(tasks: Vec<Task>, platform: Platform) -> Result<Self, ModelError> {
        if tasks.len() > Self::TASKS_MAX {
            return Err(ModelError::TooManyTasks { count: tasks.len(), max: Self::TASKS_MAX });
        }
        let mut names = std::collections::BTreeSet::new();
        for (position, task) in tasks.iter().enumerate() {
            check_task(task, position, tasks.len(), &platform)?;
            if !names.insert(task.name.as_str()) {
                return Err(ModelError::DuplicateName { task: task.name.clone() });
            }
        }
        Ok(Self { tasks, platform })
    }

    /// The tasks, by [`TaskId`].
    pub fn tasks(&self) -> &[Task] {
        &self.tasks
    }

    /// The task of that number, if there is one.
    pub fn task(&self, id: TaskId) -> Option<&Task> {
        self.tasks.get(id.index())
    }

    /// The platform.
    pub const fn platform(&self) -> &Platform {
        &self.platform
    }

    /// The tasks of a lane, by [`TaskId`].
    pub fn on_lane(&self, lane: LaneId) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(move |task| task.lane == lane)
    }
}

impl TryFrom<Parts> for TaskSet {
    type Error = ModelError;

    fn try_from(parts: Parts) -> Result<Self, ModelError> {
        Self::new(parts.tasks, parts.platform)
    }
}

impl From<TaskSet> for Parts {
    fn from(set: TaskSet) -> Self {
        Self { tasks: set.tasks, platform: set.platform }
    }
}

fn check_task(task: &Task, position: usize, tasks: usize, platform: &Platform) -> Result<(), ModelError> {
    let bad = |field: &'static str, value: String, legal: String| {
        Err(ModelError::BadField { task: task.name.escape_debug().to_string(), field, value, legal })
    };
    // Traces come from anyone, and a terminal obeys control characters.
    if task.name.is_empty() || task.name.contains(char::is_control) {
        let legal = "at least one character, and no control characters";
        return bad("name", format!("{:?}", task.name), legal.into());
    }
    if task.id.index() != position {
        return bad("id", task.id.to_string(), format!("its position, {position}"));
    }
    for (field, value) in [("period", task.period), ("deadline", task.deadline)] {
        if value.is_zero() {
            return bad(field, value.to_string(), "a span above zero".into());
        }
    }
    if task.lane.index() >= platform.lanes() {
        return bad(
            "lane",
            task.lane.to_string(),
            format!("lane0 to lane{}", platform.lanes().saturating_sub(1)),
        );
    }
    if task.segments.is_empty() || task.segments.len() > usize::from(u16::MAX) {
        return bad("segments", task.segments.len().to_string(), format!("1 to {} segments", u16::MAX));
    }
    if let Some(index) = task.segments.iter().position(|segment| segment.bound.is_zero()) {
        return bad("segments", format!("0ns for segment {index}"), "a budget above zero".into());
    }
    if task.weight == 0 {
        return bad("weight", "0".into(), "a weight of at least one segment a turn".into());
    }
    match task.excludes.iter().find(|other| other.index() == position || other.index() >= tasks) {
        Some(other) => bad("excludes", other.to_string(), format!("other tasks, task0 to below task{tasks}")),
        None => Ok(()),
    }
}
