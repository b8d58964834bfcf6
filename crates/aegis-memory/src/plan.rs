//! What tasks demand and what they are given: plain values, to be printed, stored and compared.

use aegis_types::{Bytes, Extent, LaneId, TaskId};
use serde::{Deserialize, Serialize};

use crate::error::MemoryError;
use crate::verify::check_plan;

/// The memory that one task needs on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Demand {
    /// The task.
    pub task: TaskId,
    /// The lane on which its segments run.
    pub lane: LaneId,
    /// Weights and what the backend prepares from them.
    pub persistent: Bytes,
    /// I/O slots, recurrent state, tensors across a segment boundary, chain outputs.
    pub exchange: Bytes,
    /// What each segment needs while it runs and no longer. Only the largest entry counts.
    pub scratch: Vec<Bytes>,
}

impl Demand {
    /// The largest need of any one segment; nothing for a task without segments.
    pub fn scratch_max(&self) -> Bytes {
        self.scratch.iter().copied().max().unwrap_or(Bytes::ZERO)
    }
}

/// What one task gets. All sizes are rounded up to the plan's alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskShare {
    /// The task.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// Its persistent memory; exclusive.
    pub persistent: Extent,
    /// Its exchange memory; exclusive.
    pub exchange: Extent,
    /// Bytes that nobody else can use: both extents, and the gaps that the placement left below them.
    pub private: Bytes,
    /// Bytes at the start of its lane's scratch that it may use.
    pub shared: Bytes,
    /// The part of `shared` that costs nothing, because another task of the lane needs as much.
    pub saved: Bytes,
}

/// The scratch of one lane, shared by its tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneScratch {
    /// The lane.
    pub lane: LaneId,
    /// Where it lies: the largest need of any segment of the lane.
    pub extent: Extent,
    /// The task with that need; of several, the one with the smallest number.
    pub holder: TaskId,
    /// Bytes charged: the extent, and the gap that the placement left below it.
    pub charged: Bytes,
}

/// The contents of a [`MemoryPlan`], open to be read and stored. Only the verifier makes a plan of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanParts {
    /// The capacity that the plan was made for.
    pub capacity: Bytes,
    /// Every offset is a multiple of it, and sizes are rounded up to one.
    pub align: Bytes,
    /// The planner that placed the extents.
    pub planner: String,
    /// Size of the one reservation that holds everything.
    pub peak: Bytes,
    /// A peak that no plan can beat under the same sharing rule.
    pub lower_bound: Bytes,
    /// One entry for each task, by rising number.
    pub tasks: Vec<TaskShare>,
    /// One entry for each lane with a task, by rising number.
    pub lanes: Vec<LaneScratch>,
}

/// A verified plan for all tasks of a device in one reservation. Nothing changes one afterwards; a plan that is
/// read back is verified again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "PlanParts", into = "PlanParts")]
pub struct MemoryPlan(PlanParts);

impl MemoryPlan {
    /// Everything in it.
    pub const fn parts(&self) -> &PlanParts {
        &self.0
    }

    /// Size of the one reservation that holds everything.
    pub const fn peak(&self) -> Bytes {
        self.0.peak
    }

    /// A peak that no plan can beat under the same sharing rule.
    pub const fn lower_bound(&self) -> Bytes {
        self.0.lower_bound
    }

    /// The table of tasks: private, shared and saved bytes.
    pub fn tasks(&self) -> &[TaskShare] {
        &self.0.tasks
    }

    /// The lanes' scratch.
    pub fn lanes(&self) -> &[LaneScratch] {
        &self.0.lanes
    }

    /// The share of one task.
    pub fn task(&self, task: TaskId) -> Option<&TaskShare> {
        self.0.tasks.binary_search_by_key(&task, |share| share.task).ok().map(|at| &self.0.tasks[at])
    }
}

impl TryFrom<PlanParts> for MemoryPlan {
    type Error = MemoryError;

    fn try_from(parts: PlanParts) -> Result<Self, MemoryError> {
        if !parts.align.get().is_power_of_two() {
            return Err(MemoryError::BadAlign { place: "memory plan".into(), align: parts.align });
        }
        match check_plan(&parts) {
            Ok(()) => Ok(Self(parts)),
            Err(fault) => Err(MemoryError::PlanRejected(Box::new(fault))),
        }
    }
}

impl From<MemoryPlan> for PlanParts {
    fn from(plan: MemoryPlan) -> Self {
        plan.0
    }
}
