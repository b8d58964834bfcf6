//! From demands to a verified plan.
//!
//! Sharing is decided here and nowhere else: the scratch of all tasks of a lane becomes one buffer, as large as the
//! largest need of any one segment, because a lane has one segment in flight. All other bytes are exclusive buffers.

use std::collections::BTreeMap;

use aegis_types::{Bytes, Extent, LaneId, MemoryClass, TaskId};

use crate::error::MemoryError;
use crate::plan::{Demand, LaneScratch, MemoryPlan, PlanParts, TaskShare};
use crate::planner::Planner;
use crate::problem::{Buffer, BufferId, Placement, Problem};
use crate::shortage::Shortage;
use crate::verify::{check_demands, check_placement};

/// The alignment of every extent unless told otherwise: a cache line of the host, and what inference libraries ask of
/// an allocator there. Devices with other needs pass theirs.
pub const DEFAULT_ALIGN: Bytes = Bytes::new(64);

/// Plans the memory of a device for all its tasks together.
///
/// ```
/// use aegis_memory::{Demand, LowestOffsetFirst, MemoryOrchestrator};
/// use aegis_types::{Bytes, LaneId, TaskId};
///
/// let task = |number, scratch| Demand {
///     task: TaskId::new(number),
///     lane: LaneId::new(0),
///     persistent: Bytes::new(640),
///     exchange: Bytes::new(64),
///     scratch: vec![Bytes::new(scratch)],
/// };
/// let plan = MemoryOrchestrator::new().plan(&[task(0, 1024), task(1, 512)], Bytes::new(4096), &LowestOffsetFirst)?;
/// assert_eq!(plan.peak(), Bytes::new(2 * 704 + 1024));
/// assert_eq!(plan.tasks()[1].saved, Bytes::new(512));
/// # Ok::<(), aegis_memory::MemoryError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct MemoryOrchestrator {
    align: Bytes,
}

impl MemoryOrchestrator {
    /// An orchestrator with [`DEFAULT_ALIGN`].
    pub const fn new() -> Self {
        Self { align: DEFAULT_ALIGN }
    }

    /// An orchestrator that aligns every extent to `align`.
    ///
    /// # Errors
    /// [`MemoryError::BadAlign`] if it is no power of two.
    pub fn with_align(align: Bytes) -> Result<Self, MemoryError> {
        if align.get().is_power_of_two() {
            Ok(Self { align })
        } else {
            Err(MemoryError::BadAlign { place: "memory plan".into(), align })
        }
    }

    /// What every offset is a multiple of, and every size is rounded up to.
    pub const fn align(&self) -> Bytes {
        self.align
    }

    /// Plans all demands into one reservation of at most `capacity`. The result does not depend on their order.
    ///
    /// # Errors
    /// [`MemoryError::DuplicateTask`] and [`MemoryError::Overflow`] for bad demands, [`MemoryError::Shortage`] when
    /// no placement can fit, the planner's own error, and [`MemoryError::Rejected`] when its placement is illegal.
    pub fn plan(
        &self,
        demands: &[Demand],
        capacity: Bytes,
        planner: &dyn Planner,
    ) -> Result<MemoryPlan, MemoryError> {
        let rounded = self.round(demands)?;
        let holders = holders(&rounded);
        let problem = Problem::new(self.lower(&rounded, &holders), capacity)?;
        let needed = problem.lower_bound();
        if needed > capacity {
            return Err(MemoryError::Shortage(Box::new(Shortage::of(&rounded, needed, capacity))));
        }
        let placement = planner.place(&problem)?;
        let reject = |fault| MemoryError::Rejected { planner: planner.name().into(), fault: Box::new(fault) };
        let peak = check_placement(&problem, &placement).map_err(reject)?;
        let mut parts = PlanParts {
            capacity,
            align: self.align,
            planner: planner.name().into(),
            peak,
            lower_bound: needed,
            tasks: Vec::with_capacity(rounded.len()),
            lanes: Vec::with_capacity(holders.len()),
        };
        fill(&mut parts, &rounded, &holders, &pieces(&problem, &placement));
        check_demands(&parts, demands).map_err(reject)?;
        MemoryPlan::try_from(parts)
    }

    /// The demands by task, every size rounded up to the alignment.
    pub(crate) fn round(&self, demands: &[Demand]) -> Result<Vec<Demand>, MemoryError> {
        let mut rounded = BTreeMap::new();
        for (position, demand) in demands.iter().enumerate() {
            let task = demand.task;
            let up = |bytes: Bytes| {
                let overflow = || MemoryError::Overflow { place: task.to_string() };
                bytes.checked_align_up(self.align).ok_or_else(overflow)
            };
            let entry = Demand {
                task,
                lane: demand.lane,
                persistent: up(demand.persistent)?,
                exchange: up(demand.exchange)?,
                scratch: vec![up(demand.scratch_max())?],
            };
            if rounded.insert(task, entry).is_some() {
                return Err(MemoryError::DuplicateTask { position, task });
            }
        }
        let rounded: Vec<Demand> = rounded.into_values().collect();
        check_sum(&rounded)?;
        Ok(rounded)
    }

    /// Two buffers for each task, then one for each lane: the verifier numbers the pieces of a plan alike.
    fn lower(&self, demands: &[Demand], holders: &Holders) -> Vec<Buffer> {
        let tasks = demands.iter().flat_map(|demand| {
            [(MemoryClass::Persistent, demand.persistent), (MemoryClass::Exchange, demand.exchange)]
                .map(|(class, size)| (demand.task, demand.lane, class, size))
        });
        let lanes = holders.iter().map(|(&lane, &(size, task))| (task, lane, MemoryClass::Scratch, size));
        let numbered = (0..).map(BufferId).zip(tasks.chain(lanes));
        numbered
            .map(|(id, (owner, lane, class, size))| Buffer {
                id,
                size,
                align: self.align,
                lower: 0,
                upper: 1,
                owner,
                lane,
                class,
                fixed: None,
            })
            .collect()
    }
}

impl Default for MemoryOrchestrator {
    fn default() -> Self {
        Self::new()
    }
}

/// For each lane the largest need and the first task that has it.
type Holders = BTreeMap<LaneId, (Bytes, TaskId)>;

fn holders(demands: &[Demand]) -> Holders {
    let mut holders = Holders::new();
    for demand in demands {
        let need = demand.scratch_max();
        let held = holders.entry(demand.lane).or_insert((need, demand.task));
        if need > held.0 {
            *held = (need, demand.task);
        }
    }
    holders
}

/// With the sum of all demands in range, sums over parts of them need no check.
fn check_sum(demands: &[Demand]) -> Result<(), MemoryError> {
    let mut total = Bytes::ZERO;
    for demand in demands {
        for bytes in [demand.persistent, demand.exchange, demand.scratch_max()] {
            total = total
                .checked_add(bytes)
                .ok_or_else(|| MemoryError::Overflow { place: demand.task.to_string() })?;
        }
    }
    Ok(())
}

/// The extent of each buffer, and the bytes charged for it: from the end of whatever lies below it to its own end, so
/// that the charges add up to the peak. Buffers of no bytes are charged nothing.
fn pieces(problem: &Problem, placement: &Placement) -> Vec<(Extent, Bytes)> {
    let mut pieces =
        vec![(Extent { offset: Bytes::ZERO, len: Bytes::ZERO }, Bytes::ZERO); problem.buffers().len()];
    for placed in &placement.placed {
        let len = problem.buffers()[placed.buffer.index()].size;
        pieces[placed.buffer.index()].0 = Extent { offset: placed.offset, len };
    }
    let mut order: Vec<usize> = (0..pieces.len()).filter(|&i| !pieces[i].0.len.is_zero()).collect();
    order.sort_unstable_by_key(|&i| pieces[i].0.offset);
    let mut below = Bytes::ZERO;
    for at in order {
        let end = pieces[at].0.end().unwrap_or(Bytes::MAX);
        pieces[at].1 = end.saturating_sub(below);
        below = end;
    }
    pieces
}

fn fill(parts: &mut PlanParts, demands: &[Demand], holders: &Holders, pieces: &[(Extent, Bytes)]) {
    let (exclusive, lanes) = pieces.split_at(2 * demands.len());
    for (demand, pair) in demands.iter().zip(exclusive.chunks_exact(2)) {
        let shared = demand.scratch_max();
        let holds = holders.get(&demand.lane).is_some_and(|held| held.1 == demand.task);
        parts.tasks.push(TaskShare {
            task: demand.task,
            lane: demand.lane,
            persistent: pair[0].0,
            exchange: pair[1].0,
            private: Bytes::new(pair[0].1.get() + pair[1].1.get()),
            shared,
            saved: if holds { Bytes::ZERO } else { shared },
        });
    }
    for ((&lane, &(_, holder)), &(extent, charged)) in holders.iter().zip(lanes) {
        parts.lanes.push(LaneScratch { lane, extent, holder, charged });
    }
}
