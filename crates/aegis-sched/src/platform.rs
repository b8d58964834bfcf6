//! What the runtime itself costs: overheads measured by calibration, charged by the analysis, never hidden in code.
//!
//! The charges are those of the theorem in `docs/model.md`:
//!
//! ```text
//! C'_s = G + handoff + (M-1) l + C^B_s + (G + look + w)        J'_i = J_i + d_client + (G + look + w)
//! look = poll + n_cli d_arr + M d_cmp + d_ctl
//! G    = look + n_rel d_rel + M (d_dec + d_disp)
//! ```
//!
//! with M lanes, l the longest hold of the launch lock, and w the wake-up latency of a driver that blocks (zero for
//! one that spins). The look is the part of a cycle that may come before its stamp.

use aegis_types::{LaneId, Nanos, PartitionId};
use serde::{Deserialize, Serialize};

use crate::error::ModelError;
use crate::model::{Arrival, Task, TaskSet};

/// Durations of the runtime's own steps: high-water marks of a calibration, all on the host clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Overheads {
    /// One look at every source of events.
    pub poll: Nanos,
    /// Handling one timer release.
    pub release: Nanos,
    /// Handling one client submission.
    pub arrival: Nanos,
    /// Handling one completion.
    pub completion: Nanos,
    /// One decision.
    pub decision: Nanos,
    /// Handing one dispatch to its lane, on the driver's side.
    pub dispatch: Nanos,
    /// Handling one command of the operator.
    pub control: Nanos,
    /// From the end of the driver's dispatch to the entry of the launch call on the lane's thread.
    pub handoff: Nanos,
    /// Longest hold of the launch lock; zero where launches need none.
    pub launch_lock: Nanos,
    /// From an event to the driver looking, where the driver blocks; zero where it spins.
    pub wakeup: Nanos,
    /// From a client's call to the submission being visible to the driver.
    pub client: Nanos,
    /// From the end of a job to its client seeing it.
    pub notify: Nanos,
    /// Largest stall of the driver's thread seen in calibration: declared, not charged; a longer one is a broken
    /// assumption.
    pub stall: Nanos,
}

/// A partition as the analysis sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartitionModel {
    /// Its name.
    pub name: String,
    /// How many lanes it has; at least one.
    pub lanes: u16,
}

/// Partitions, lanes and overheads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Platform {
    /// The partitions, by [`PartitionId`]; lanes are numbered through them in order.
    pub partitions: Vec<PartitionModel>,
    /// What the runtime costs.
    pub overheads: Overheads,
    /// Whether the driver's thread may run on a core that carries a lane. Its interference then lies inside the
    /// measured budgets, and the certificate says so.
    pub decider_shares_cores: bool,
}

impl Platform {
    /// Validates and makes a platform.
    ///
    /// # Errors
    /// [`ModelError::Platform`] without a partition, with one without a lane, or with more than 65,535 lanes.
    pub fn new(partitions: Vec<PartitionModel>, overheads: Overheads) -> Result<Self, ModelError> {
        let platform = Self { partitions, overheads, decider_shares_cores: false };
        platform.check()?;
        Ok(platform)
    }

    /// Checks what [`Platform::new`] checks, for a platform that was read from a file.
    ///
    /// # Errors
    /// As [`Platform::new`].
    pub fn check(&self) -> Result<(), ModelError> {
        let fail = |reason: String| Err(ModelError::Platform { reason });
        if self.partitions.is_empty() {
            return fail("there is no partition; at least one is needed".into());
        }
        if let Some(empty) = self.partitions.iter().find(|partition| partition.lanes == 0) {
            return fail(format!("partition `{}` has no lane; at least one is needed", empty.name));
        }
        let lanes: usize = self.partitions.iter().map(|partition| usize::from(partition.lanes)).sum();
        if lanes > usize::from(u16::MAX) {
            return fail(format!("{lanes} lanes; at most {}", u16::MAX));
        }
        Ok(())
    }

    /// M: lanes of all partitions.
    pub fn lanes(&self) -> usize {
        self.partitions.iter().map(|partition| usize::from(partition.lanes)).sum()
    }

    /// The partition that a lane belongs to, or `None` if there is no such lane.
    pub fn partition_of(&self, lane: LaneId) -> Option<PartitionId> {
        let mut first = 0usize;
        for (index, partition) in self.partitions.iter().enumerate() {
            first += usize::from(partition.lanes);
            if lane.index() < first {
                return u16::try_from(index).ok().map(PartitionId::new);
            }
        }
        None
    }

    /// G: the longest cycle of the decider with these tasks, or `None` on overflow. At most one event of each source
    /// is handled in a cycle, so the sum is structural: no flood of arrivals raises it.
    pub fn decider_cycle(&self, tasks: &[Task]) -> Option<Nanos> {
        let o = &self.overheads;
        let timers = tasks.len() as u64 - clients(tasks);
        let lane = o.decision.checked_add(o.dispatch)?;
        let handling = o.release.checked_mul(timers)?.checked_add(lane.checked_mul(self.lanes() as u64)?)?;
        self.decider_look(tasks)?.checked_add(handling)
    }

    /// The part of a cycle of the decider that may come before its stamp, or `None` on overflow: looking at every
    /// source and taking what is there. What follows the stamp, timers and decisions, is not in it.
    pub fn decider_look(&self, tasks: &[Task]) -> Option<Nanos> {
        let o = &self.overheads;
        [o.arrival.checked_mul(clients(tasks))?, o.completion.checked_mul(self.lanes() as u64)?, o.control]
            .into_iter()
            .try_fold(o.poll, Nanos::checked_add)
    }
}

/// Tasks whose jobs are submitted by clients.
fn clients(tasks: &[Task]) -> u64 {
    tasks.iter().filter(|task| task.arrival == Arrival::Sporadic).count() as u64
}

/// A task as analysis, referee and engine see it: every overhead charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChargedTask {
    /// C': occupancy budget of each segment, from dispatch stamp to completion stamp.
    pub segments: Vec<Nanos>,
    /// J': latest release stamp after the nominal arrival.
    pub jitter: Nanos,
}

/// Charges the platform's overheads to every task of a set, in order.
///
/// # Errors
/// [`ModelError::Overflow`] naming the task.
pub fn charge(set: &TaskSet) -> Result<Vec<ChargedTask>, ModelError> {
    let charges = Charges::of(set);
    let charged = |task: &Task| charges.and_then(|charges| charges.charge(task));
    set.tasks()
        .iter()
        .map(|task| charged(task).ok_or_else(|| ModelError::Overflow { task: task.name.clone() }))
        .collect()
}

/// What every task of a set is charged alike.
#[derive(Clone, Copy)]
struct Charges {
    /// G + look + w: from an event to its stamp.
    detection: Nanos,
    /// What a segment occupies its lane with besides its own budget.
    launch: Nanos,
    /// Latency of a client's submission.
    client: Nanos,
}

impl Charges {
    fn of(set: &TaskSet) -> Option<Self> {
        let (platform, o) = (set.platform(), &set.platform().overheads);
        let cycle = platform.decider_cycle(set.tasks())?;
        let look = platform.decider_look(set.tasks())?;
        let detection = cycle.checked_add(look)?.checked_add(o.wakeup)?;
        let others = (platform.lanes() as u64).saturating_sub(1);
        let locks = o.launch_lock.checked_mul(others)?;
        let launch = cycle.checked_add(o.handoff)?.checked_add(locks)?.checked_add(detection)?;
        Some(Self { detection, launch, client: o.client })
    }

    fn charge(&self, task: &Task) -> Option<ChargedTask> {
        let attempts = u64::from(task.retries) + 1;
        let occupancy = |bound: Nanos| bound.checked_add(self.launch)?.checked_mul(attempts);
        let segments = task.segments.iter().map(|segment| occupancy(segment.bound)).collect::<Option<_>>()?;
        let client = if task.arrival == Arrival::Sporadic { self.client } else { Nanos::ZERO };
        let jitter = task.jitter.checked_add(client)?.checked_add(self.detection)?;
        Some(ChargedTask { segments, jitter })
    }
}
