//! Groups of tasks: what each asks for beside what it may take, and what came of its agreement while it was served.
//!
//! # How a group is counted
//! **Utilisation** is the sum over its tasks, on whatever lanes, of the charged occupancy of one job over the period: what
//! the group can take of the lanes together, 1 being one lane all the time.
//!
//! **Memory** is what its tasks would need if the group had the device to itself: what each needs for itself (weights, I/O,
//! state, tensors between segments, staging), and for each lane the largest scratch of the group's tasks on it. Scratch
//! that a lane-mate of another group needs as well counts for both, so that what a group asks for does not depend on who
//! else is there; the sum over groups may therefore exceed the plan's peak. A task that was not measured and whose parts
//! together exceed its own budget, because each may turn out to be the large one, counts with its budget.
//!
//! Budgets of groups are a matter of admission. While a fleet is served, the budgets of its tasks are what is enforced and
//! the policy is what isolates: the engine knows no groups.

mod change;
pub mod observed;

use std::collections::BTreeMap;
use std::fmt;

use aegis_sched::{ModelError, TaskSet, charge};
use aegis_types::{Bytes, LaneId, Nanos, Severity, TaskId};

use crate::config::{Fleet, GroupConfig, Profile, Share};
use crate::error::RuntimeError;
use crate::system::System;

pub use change::Change;

/// Parts of a whole in which loads are counted.
const WHOLE: u128 = 1_000_000_000_000;
/// Parts in a millionth.
const MILLIONTH: u128 = 1_000_000;

/// Time of lanes that is taken, in lanes; kept in millionths of a millionth and rounded up, so that nothing is let in by
/// rounding.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Load(u128);

/// What one task needs of the memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// The task.
    pub task: TaskId,
    /// The lane whose scratch it uses.
    pub lane: LaneId,
    /// What it needs for itself.
    pub own: Bytes,
    /// The most that one of its segments needs of the lane's scratch.
    pub scratch: Bytes,
}

/// What a group asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupUse<'a> {
    /// The group.
    pub config: &'a GroupConfig,
    /// Its tasks, ascending; at least one.
    pub tasks: Vec<TaskId>,
    /// What they take of the lanes.
    pub load: Load,
    /// What they need of the memory; `None` where that was not asked.
    pub memory: Option<Bytes>,
}

/// A budget of a group that its tasks exceed: a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("group `{group}`: its tasks {asked}; most is taken by `{most}` ({share}){}", Fits(change))]
pub struct Excess {
    /// The group.
    pub group: String,
    /// What is exceeded, and by how much.
    pub asked: Asked,
    /// The task that asks for most.
    pub most: String,
    /// What it asks for, in words.
    pub share: String,
    /// The smallest change that fits, where there is one.
    pub change: Option<Change>,
}

/// What was asked for, and what may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Memory.
    Memory {
        /// Asked for.
        asks: Bytes,
        /// The group's budget.
        may: Bytes,
    },
    /// Time of lanes.
    Utilisation {
        /// Asked for.
        asks: Load,
        /// The group's budget.
        may: Share,
    },
}

impl Load {
    /// The load of jobs that occupy a lane for `cost` once in a `period` above zero.
    pub fn of(cost: Nanos, period: Nanos) -> Self {
        Self((u128::from(cost.get()) * WHOLE).div_ceil(u128::from(period.get()).max(1)))
    }

    /// Millionths, rounded up.
    pub fn ppm(self) -> u64 {
        u64::try_from(self.0.div_ceil(MILLIONTH)).unwrap_or(u64::MAX)
    }

    /// Whether a budget holds it.
    pub const fn is_within(self, share: Share) -> bool {
        self.0 <= share.ppm() as u128 * MILLIONTH
    }

    fn parts_of(share: Share) -> u128 {
        u128::from(share.ppm()) * MILLIONTH
    }
}

impl std::iter::Sum for Load {
    fn sum<I: Iterator<Item = Self>>(parts: I) -> Self {
        Self(parts.fold(0, |sum, part| sum.saturating_add(part.0)))
    }
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Share::new(self.ppm()).fmt(f)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory { asks, may } => {
                let over = asks.saturating_sub(*may);
                write!(f, "need {asks} of memory together, its budget is {may}: {over} too much")
            }
            Self::Utilisation { asks, may } => {
                write!(f, "ask for a utilisation of {asks} together, its budget is {may}")
            }
        }
    }
}

/// The words before a change, or nothing.
struct Fits<'a>(&'a Option<Change>);

impl fmt::Display for Fits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(change) => write!(f, "; would fit with {change}"),
            None => f.write_str("; no single change makes it fit"),
        }
    }
}

impl Excess {
    /// A fleet that asks for too much asks for it again.
    pub const fn severity(&self) -> Severity {
        Severity::Permanent
    }
}

impl GroupUse<'_> {
    /// Whether neither budget is exceeded.
    pub fn fits(&self) -> bool {
        self.is_light() && self.is_small()
    }

    /// Whether the budget of utilisation holds its load.
    pub fn is_light(&self) -> bool {
        self.config.utilisation.is_none_or(|may| self.load.is_within(may))
    }

    /// Whether the budget of memory holds its needs, where they were asked for.
    pub fn is_small(&self) -> bool {
        self.config.memory.zip(self.memory).is_none_or(|(may, asks)| asks <= may)
    }
}

/// What each group of a fleet asks for, in the order of the groups. Without `needs` memory is not asked.
///
/// # Errors
/// [`ModelError::Overflow`] if charging overheads leaves the range of time.
pub fn uses<'a>(
    fleet: &'a Fleet,
    set: &TaskSet,
    needs: Option<&[Need]>,
) -> Result<Vec<GroupUse<'a>>, ModelError> {
    let loads = if fleet.groups().is_empty() { Vec::new() } else { loads(set)? };
    let one = |(index, config): (usize, &'a GroupConfig)| {
        let tasks = members(fleet, set, index);
        let load = tasks.iter().filter_map(|task| loads.get(task.index())).copied().sum();
        let memory = needs.map(|needs| held(needs, &tasks));
        GroupUse { config, tasks, load, memory }
    };
    Ok(fleet.groups().iter().enumerate().map(one).collect())
}

/// The tasks of a set that belong to a group, by the fleet's names for them.
fn members(fleet: &Fleet, set: &TaskSet, group: usize) -> Vec<TaskId> {
    let belongs = |name: &str| fleet.task(name).is_some_and(|(_, task)| fleet.group_of(task) == Some(group));
    set.tasks().iter().filter(|task| belongs(&task.name)).map(|task| task.id).collect()
}

/// The load of each task of a set.
fn loads(set: &TaskSet) -> Result<Vec<Load>, ModelError> {
    let charged = charge(set)?;
    Ok(set.tasks().iter().zip(&charged).map(|(task, charged)| Load::of(cost(charged), task.period)).collect())
}

/// The charged occupancy of one job.
fn cost(charged: &aegis_sched::platform::ChargedTask) -> Nanos {
    charged.segments.iter().fold(Nanos::ZERO, |sum, segment| sum.saturating_add(*segment))
}

/// What these tasks need together.
pub fn held(needs: &[Need], tasks: &[TaskId]) -> Bytes {
    let mut lanes: BTreeMap<LaneId, Bytes> = BTreeMap::new();
    let mut own = 0u64;
    for need in needs.iter().filter(|need| tasks.contains(&need.task)) {
        own = own.saturating_add(need.own.get());
        let lane = lanes.entry(need.lane).or_default();
        *lane = (*lane).max(need.scratch);
    }
    Bytes::new(lanes.values().fold(own, |sum, scratch| sum.saturating_add(scratch.get())))
}

impl System {
    /// What each task needs of the memory, as its group counts it.
    ///
    /// # Errors
    /// As [`System::demands`].
    pub fn needs(&self, profile: Option<&Profile>, slots: &[u32]) -> Result<Vec<Need>, RuntimeError> {
        let (demands, staging) = (self.demands(profile, slots)?, self.staging(slots)?);
        let need =
            |((demand, staging), model): ((&aegis_memory::Demand, &Bytes), &crate::inventory::Model)| {
                let parts = [demand.exchange, *staging];
                let own =
                    parts.iter().fold(demand.persistent.get(), |sum, part| sum.saturating_add(part.get()));
                let (scratch, budget) = (demand.scratch_max(), model.config.budget.memory);
                let (task, lane) = (demand.task, demand.lane);
                // Of a task that was not measured, any part may turn out to be the large one, but never all of them.
                if own.saturating_add(scratch.get()) > budget.get() {
                    return Need { task, lane, own: budget, scratch: Bytes::ZERO };
                }
                Need { task, lane, own: Bytes::new(own), scratch }
            };
        Ok(demands.iter().zip(&staging).zip(self.models()).map(need).collect())
    }

    /// The first group that exceeds a budget of its own, with the smallest change that fits.
    ///
    /// # Errors
    /// [`RuntimeError::Group`] for that group; what keeps the needs from being known.
    pub fn check_groups(
        &self,
        set: &TaskSet,
        profile: Option<&Profile>,
        slots: &[u32],
    ) -> Result<(), RuntimeError> {
        if self.fleet().groups().is_empty() {
            return Ok(());
        }
        let needs = self.needs(profile, slots)?;
        let uses = uses(self.fleet(), set, Some(&needs))?;
        match uses.iter().flat_map(|group| self.excesses(group, set, profile, slots)).next() {
            Some(excess) => Err(RuntimeError::Group(Box::new(excess))),
            None => Ok(()),
        }
    }
}
