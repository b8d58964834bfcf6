//! How far one task may grow in space while everybody else keeps what they have, and what more lanes would cost.
//!
//! Every size is rounded up to one alignment, so a placement without holes exists and the lower bound is attained: the
//! fleet fits exactly if the exclusive bytes of all tasks and the largest need of each lane add up to no more than the
//! capacity. Both answers are sums, therefore, and no search.

use std::cmp::Reverse;

use aegis_types::{Bytes, LaneId, TaskId};
use serde::{Deserialize, Serialize};

use crate::error::MemoryError;
use crate::orchestrator::MemoryOrchestrator;
use crate::plan::Demand;
use crate::shortage::Shortage;

/// The most that one task may ask for, each part on its own with the other two as they are demanded. One byte more of
/// it, and no plan fits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Headroom {
    /// The task.
    pub task: TaskId,
    /// Its lane.
    pub lane: LaneId,
    /// The largest persistent memory.
    pub persistent: Bytes,
    /// The largest exchange memory.
    pub exchange: Bytes,
    /// The largest need of any one segment.
    pub scratch: Bytes,
    /// The part of `scratch` that costs the device nothing, because the lane holds as much already for another task.
    pub scratch_free: Bytes,
    /// What the device has left with all demands as they are.
    pub spare: Bytes,
}

impl MemoryOrchestrator {
    /// How far `task` may grow while every other demand is met.
    ///
    /// ```
    /// use aegis_memory::{Demand, MemoryOrchestrator};
    /// use aegis_types::{Bytes, LaneId, TaskId};
    ///
    /// let task = |number, scratch| Demand {
    ///     task: TaskId::new(number),
    ///     lane: LaneId::new(0),
    ///     persistent: Bytes::new(640),
    ///     exchange: Bytes::new(64),
    ///     scratch: vec![Bytes::new(scratch)],
    /// };
    /// let fleet = [task(0, 1024), task(1, 512)];
    /// let found = MemoryOrchestrator::new().headroom(&fleet, TaskId::new(1), Bytes::new(4096))?;
    /// // 2 * 704 + 1024 are taken. Task 1 may grow by what is left, and its scratch to that of task 0 for nothing.
    /// assert_eq!((found.spare, found.persistent), (Bytes::new(1664), Bytes::new(640 + 1664)));
    /// assert_eq!((found.scratch_free, found.scratch), (Bytes::new(1024), Bytes::new(1024 + 1664)));
    /// # Ok::<(), aegis_memory::MemoryError>(())
    /// ```
    ///
    /// # Errors
    /// [`MemoryError::NoDemand`] if the task has none, [`MemoryError::Shortage`] if the demands do not fit as they are,
    /// and those of [`MemoryOrchestrator::plan`] for bad demands.
    pub fn headroom(
        &self,
        demands: &[Demand],
        task: TaskId,
        capacity: Bytes,
    ) -> Result<Headroom, MemoryError> {
        let rounded = self.round(demands)?;
        let found = rounded.binary_search_by_key(&task, |demand| demand.task);
        let own = &rounded[found.map_err(|_| MemoryError::NoDemand { task })?];
        let needed = needed(&rounded);
        if needed > capacity {
            return Err(MemoryError::Shortage(Box::new(Shortage::of(&rounded, needed, capacity))));
        }
        // Every size is a multiple of the alignment, so what is left below one is of no use.
        let spare = capacity.saturating_sub(needed).get();
        let spare = Bytes::new(spare - spare % self.align().get());
        let others = rounded.iter().filter(|other| other.lane == own.lane && other.task != task);
        let scratch_free = others.map(Demand::scratch_max).max().unwrap_or(Bytes::ZERO);
        let held = own.scratch_max().max(scratch_free);
        // No overflow: each is at most the capacity.
        let grown = |part: Bytes| Bytes::new(part.get() + spare.get());
        Ok(Headroom {
            task,
            lane: own.lane,
            persistent: grown(own.persistent),
            exchange: grown(own.exchange),
            scratch: grown(held),
            scratch_free,
            spare,
        })
    }
}

/// Exclusive bytes, and the largest need of each lane. The sum of all demands is known to be in range.
fn needed(demands: &[Demand]) -> Bytes {
    let mut lanes: Vec<(LaneId, Bytes)> =
        demands.iter().map(|demand| (demand.lane, demand.scratch_max())).collect();
    lanes.sort_unstable_by_key(|&(lane, need)| (lane, Reverse(need)));
    lanes.dedup_by_key(|(lane, _)| *lane);
    let exclusive = demands.iter().map(|demand| demand.persistent.get() + demand.exchange.get());
    Bytes::new(exclusive.chain(lanes.into_iter().map(|(_, need)| need.get())).sum())
}

/// The scratch of tasks that run on a number of lanes, whoever of them is on which.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LaneCount {
    /// Lanes in use: each has at least one task.
    pub lanes: usize,
    /// The scratch of all lanes together where the tasks are spread best: small needs have a lane for themselves.
    pub least: Bytes,
    /// And where they are spread worst: the largest needs are on lanes of their own.
    pub most: Bytes,
}

/// What sharing is worth for each number of lanes, for tasks with these scratch needs.
///
/// With `k` lanes in use the scratch is the sum of the `k` largest needs of the lanes. One of them is the largest need of
/// all, and the others are needs of `k - 1` further tasks: at least the `k - 1` smallest, at most the `k - 1` next
/// largest, and both are attained. There is no entry where a sum leaves 64 bits.
pub fn lane_counts(needs: &[Bytes], lanes: usize) -> Vec<LaneCount> {
    let mut sorted = needs.to_vec();
    sorted.sort_unstable();
    let Some((&largest, others)) = sorted.split_last() else { return Vec::new() };
    let (mut least, mut most) = (Some(largest), Some(largest));
    let mut found = Vec::new();
    for count in 1..=lanes.min(needs.len()) {
        if let Some(further) = count.checked_sub(2) {
            least = least.and_then(|sum| sum.checked_add(others[further]));
            most = most.and_then(|sum| sum.checked_add(others[others.len() - 1 - further]));
        }
        if let (Some(least), Some(most)) = (least, most) {
            found.push(LaneCount { lanes: count, least, most });
        }
    }
    found
}
