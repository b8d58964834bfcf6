//! The independent verifier: small, obvious, and sharing no code with any planner.
//!
//! Two sweeps find every illegal overlap in O(n log n). Scratch of one lane forms a group, every exclusive piece is a
//! group of its own, and different groups may not touch: a sweep over offsets decides that. Inside a lane's group,
//! pieces may share bytes at different times: a sweep over time decides that. Where lanes are ordered by edges, their
//! scratch is one group, and every pair of two lanes that shares bytes is looked up in the closure of the edges.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use aegis_types::{Bytes, Extent, LaneId, MemoryClass, TaskId};

use crate::happens_before::HappensBefore;
use crate::plan::{Demand, PlanParts, TaskShare};
use crate::problem::{Buffer, BufferId, Conflict, Edge, Placement, Problem};

/// A buffer with the place that it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Party {
    /// The buffer.
    pub buffer: BufferId,
    /// The task that it is charged to.
    pub owner: TaskId,
    /// The lane of the owner.
    pub lane: LaneId,
    /// What it holds.
    pub class: MemoryClass,
    /// Where it lies.
    pub extent: Extent,
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { buffer, owner, lane, class, extent } = self;
        write!(f, "{buffer} ({owner} on {lane}, {class:?}, {} + {})", extent.offset.get(), extent.len.get())
    }
}

/// What is wrong with a placement or a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A buffer has no place.
    #[error("{0} has no place")]
    Missing(BufferId),
    /// A buffer has two places.
    #[error("{0} has two places")]
    Duplicate(BufferId),
    /// The problem has no such buffer.
    #[error("{0} is not part of the problem")]
    Unknown(BufferId),
    /// An offset is off its alignment.
    #[error("{party} does not lie at a multiple of {}", .align.get())]
    Misaligned {
        /// The buffer.
        party: Party,
        /// Its alignment.
        align: Bytes,
    },
    /// A buffer ends beyond the capacity.
    #[error("{party} ends beyond the capacity of {}", .capacity.get())]
    BeyondCapacity {
        /// The buffer.
        party: Party,
        /// The capacity.
        capacity: Bytes,
    },
    /// A buffer with a fixed offset lies elsewhere.
    #[error("{party} must lie at {}", .fixed.get())]
    Moved {
        /// The buffer.
        party: Party,
        /// The offset that it must have.
        fixed: Bytes,
    },
    /// Two buffers share bytes and must not.
    #[error("{first} and {second} share bytes: {why}")]
    Overlap {
        /// The one with the lower offset, or the earlier one.
        first: Party,
        /// The other.
        second: Party,
        /// Why they must not.
        why: Conflict,
    },
    /// The orders between lanes contradict each other.
    #[error(
        "{} waits at {} for {} at {}, and that waits for the first: legal are edges without a cycle",
        .0.after.0, .0.after.1, .0.before.0, .0.before.1
    )]
    Cycle(Edge),
    /// A task has less than it demands.
    #[error("{task}: {class:?} memory: the plan holds {has} of the {needs} needed")]
    TooSmall {
        /// The task.
        task: TaskId,
        /// What there is too little of.
        class: MemoryClass,
        /// What the plan holds.
        has: Bytes,
        /// What the task needs.
        needs: Bytes,
    },
    /// A task's lane is not in the plan.
    #[error("{task} runs on {lane}, which the plan does not list")]
    NoLane {
        /// The task.
        task: TaskId,
        /// Its lane.
        lane: LaneId,
    },
    /// A task has memory and demands none.
    #[error("the plan holds memory for {0}, which has no demand")]
    Stranger(TaskId),
    /// Tasks or lanes are not listed once each in rising order.
    #[error("entry {position} of the {table} table is not above the entry before")]
    Order {
        /// `task` or `lane`.
        table: &'static str,
        /// Position of the entry.
        position: usize,
    },
    /// A total is not the sum of its parts.
    #[error("{total} says {}, but the parts give {}", .says.get(), .parts.get())]
    Total {
        /// Which total.
        total: &'static str,
        /// What the plan says.
        says: Bytes,
        /// What the parts give.
        parts: Bytes,
    },
}

/// A party with its interval.
#[derive(Clone, Copy)]
struct Piece {
    party: Party,
    lower: u64,
    upper: u64,
}

impl Piece {
    const fn start(&self) -> u64 {
        self.party.extent.offset.get()
    }

    /// No overflow: the capacity is checked before any sweep.
    const fn end(&self) -> u64 {
        self.party.extent.offset.get() + self.party.extent.len.get()
    }

    const fn is_scratch(&self) -> bool {
        matches!(self.party.class, MemoryClass::Scratch)
    }
}

/// Judges a placement and returns its peak.
///
/// # Errors
/// The first [`Fault`] of: unknown, duplicate or missing buffers, then fixed offsets, alignment and capacity by
/// number, then overlaps between groups by offset, then overlaps inside lanes by lane and time.
pub fn check_placement(problem: &Problem, placement: &Placement) -> Result<Bytes, Fault> {
    let mut offsets: Vec<Option<Bytes>> = vec![None; problem.buffers().len()];
    for placed in &placement.placed {
        let slot = offsets.get_mut(placed.buffer.index()).ok_or(Fault::Unknown(placed.buffer))?;
        if slot.replace(placed.offset).is_some() {
            return Err(Fault::Duplicate(placed.buffer));
        }
    }
    let mut pieces = Vec::with_capacity(offsets.len());
    for (buffer, offset) in problem.buffers().iter().zip(offsets) {
        let extent = Extent { offset: offset.ok_or(Fault::Missing(buffer.id))?, len: buffer.size };
        let party =
            Party { buffer: buffer.id, owner: buffer.owner, lane: buffer.lane, class: buffer.class, extent };
        if let Some(fixed) = buffer.fixed.filter(|&fixed| fixed != extent.offset) {
            return Err(Fault::Moved { party, fixed });
        }
        check_place(party, buffer.align, problem.capacity())?;
        pieces.push(Piece { party, lower: buffer.lower, upper: buffer.upper });
    }
    let order = HappensBefore::new(problem.order()).map_err(Fault::Cycle)?;
    let ordered = !problem.order().is_empty();
    check_groups(&pieces, |a, b| ordered || a.party.lane == b.party.lane)?;
    if ordered {
        check_pairs(&pieces, &order)?;
    }
    let peak = peak(&pieces);
    if !problem.gaps().is_empty() {
        pieces = pieces
            .iter()
            .zip(problem.buffers())
            .flat_map(|(piece, buffer)| lived(problem, *piece, buffer))
            .collect();
    }
    check_lanes(&pieces)?;
    Ok(peak)
}

/// A piece for each time between gaps, and one for each gap with a window.
fn lived(problem: &Problem, piece: Piece, buffer: &Buffer) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut from = piece.lower;
    for gap in problem.gaps_of(buffer.id) {
        pieces.extend((from < gap.lower).then_some(Piece { lower: from, upper: gap.lower, ..piece }));
        if let Some((first, behind)) = gap.window {
            // No overflow: the window lies inside the piece.
            let offset = Bytes::new(piece.start() + first.get());
            let extent = Extent { offset, len: behind.saturating_sub(first) };
            let party = Party { extent, ..piece.party };
            pieces.push(Piece { party, lower: gap.lower, upper: gap.upper });
        }
        from = gap.upper;
    }
    pieces.extend((from < piece.upper).then_some(Piece { lower: from, ..piece }));
    pieces
}

/// Judges a plan on its own: places, overlaps, scratch for every task of a lane, and totals.
///
/// # Errors
/// The first [`Fault`] found.
pub fn check_plan(plan: &PlanParts) -> Result<(), Fault> {
    check_rising("task", plan.tasks.iter().map(|share| share.task.get()))?;
    check_rising("lane", plan.lanes.iter().map(|lane| lane.lane.get()))?;
    let pieces = plan_pieces(plan);
    for piece in &pieces {
        check_place(piece.party, plan.align, plan.capacity)?;
    }
    check_groups(&pieces, |a, b| a.party.lane == b.party.lane)?;
    for share in &plan.tasks {
        check_share(plan, share)?;
    }
    for lane in &plan.lanes {
        check_at_least("bytes charged for a lane's scratch", lane.charged, lane.extent.len)?;
    }
    let charged = plan.tasks.iter().map(|share| share.private);
    let charged = charged.chain(plan.lanes.iter().map(|lane| lane.charged));
    let charged = charged.fold(Bytes::ZERO, |sum, bytes| sum.checked_add(bytes).unwrap_or(Bytes::MAX));
    check_total("peak", plan.peak, peak(&pieces))?;
    check_total("peak", plan.peak, charged)?;
    check_at_least("peak beside the lower bound", plan.peak, plan.lower_bound)
}

/// Judges whether a plan gives every task what it demands, and nothing to others.
///
/// # Errors
/// [`Fault::TooSmall`] for a task with too little, [`Fault::Stranger`] for a task without a demand.
pub fn check_demands(plan: &PlanParts, demands: &[Demand]) -> Result<(), Fault> {
    let demanding: BTreeSet<TaskId> = demands.iter().map(|demand| demand.task).collect();
    if let Some(share) = plan.tasks.iter().find(|share| !demanding.contains(&share.task)) {
        return Err(Fault::Stranger(share.task));
    }
    for demand in demands {
        let found = plan.tasks.binary_search_by_key(&demand.task, |share| share.task);
        let share = found.ok().map(|at| &plan.tasks[at]).filter(|share| share.lane == demand.lane);
        let has = |pick: fn(&TaskShare) -> Bytes| share.map_or(Bytes::ZERO, pick);
        let task = demand.task;
        check_size(task, MemoryClass::Persistent, has(|s| s.persistent.len), demand.persistent)?;
        check_size(task, MemoryClass::Exchange, has(|s| s.exchange.len), demand.exchange)?;
        for &segment in &demand.scratch {
            check_size(task, MemoryClass::Scratch, has(|s| s.shared), segment)?;
        }
    }
    Ok(())
}

fn check_share(plan: &PlanParts, share: &TaskShare) -> Result<(), Fault> {
    let TaskShare { task, lane, shared, .. } = *share;
    let at = plan.lanes.binary_search_by_key(&lane, |entry| entry.lane);
    let scratch = &plan.lanes[at.map_err(|_| Fault::NoLane { task, lane })?];
    check_size(task, MemoryClass::Scratch, scratch.extent.len, shared)?;
    let exclusive = share.persistent.len.checked_add(share.exchange.len).unwrap_or(Bytes::MAX);
    check_at_least("private bytes of a task", share.private, exclusive)?;
    let saved = if scratch.holder == task { Bytes::ZERO } else { shared };
    check_total("saved bytes of a task", share.saved, saved)
}

fn check_place(party: Party, align: Bytes, capacity: Bytes) -> Result<(), Fault> {
    // A remainder of zero, written so that an alignment of zero is a fault and no division.
    if party.extent.offset.get().checked_rem(align.get()) != Some(0) {
        return Err(Fault::Misaligned { party, align });
    }
    if party.extent.end().is_none_or(|end| end > capacity) {
        return Err(Fault::BeyondCapacity { party, capacity });
    }
    Ok(())
}

fn check_size(task: TaskId, class: MemoryClass, has: Bytes, needs: Bytes) -> Result<(), Fault> {
    if has < needs { Err(Fault::TooSmall { task, class, has, needs }) } else { Ok(()) }
}

fn check_total(total: &'static str, says: Bytes, parts: Bytes) -> Result<(), Fault> {
    if says == parts { Ok(()) } else { Err(Fault::Total { total, says, parts }) }
}

fn check_at_least(total: &'static str, says: Bytes, parts: Bytes) -> Result<(), Fault> {
    if says >= parts { Ok(()) } else { Err(Fault::Total { total, says, parts }) }
}

fn check_rising(table: &'static str, ids: impl Iterator<Item = u16>) -> Result<(), Fault> {
    let mut last = None;
    for (position, id) in ids.enumerate() {
        if last.is_some_and(|last| last >= id) {
            return Err(Fault::Order { table, position });
        }
        last = Some(id);
    }
    Ok(())
}

fn peak(pieces: &[Piece]) -> Bytes {
    let ends = pieces.iter().filter(|piece| piece.start() < piece.end()).map(Piece::end);
    Bytes::new(ends.max().unwrap_or(0))
}

/// Numbered as the orchestrator numbers buffers: two for each task, then one for each lane.
fn plan_pieces(plan: &PlanParts) -> Vec<Piece> {
    let tasks = plan.tasks.iter().flat_map(|share| {
        [(MemoryClass::Persistent, share.persistent), (MemoryClass::Exchange, share.exchange)]
            .map(|(class, extent)| (share.task, share.lane, class, extent))
    });
    let lanes = plan.lanes.iter().map(|lane| (lane.holder, lane.lane, MemoryClass::Scratch, lane.extent));
    (0..)
        .map(BufferId)
        .zip(tasks.chain(lanes))
        .map(|(buffer, (owner, lane, class, extent))| Piece {
            party: Party { buffer, owner, lane, class, extent },
            lower: 0,
            upper: 1,
        })
        .collect()
}

/// Different groups are disjoint. Sorted by offset, a piece must start behind the farthest end so far unless that end
/// belongs to its own group. Farther back there is nothing to hit: when the farthest piece was first of its group to
/// reach beyond, it started behind the end of all others.
fn check_groups(pieces: &[Piece], together: impl Fn(&Piece, &Piece) -> bool) -> Result<(), Fault> {
    let mut order: Vec<&Piece> = pieces.iter().filter(|piece| piece.start() < piece.end()).collect();
    order.sort_unstable_by_key(|piece| (piece.start(), piece.party.buffer));
    let mut farthest: Option<&Piece> = None;
    for piece in order {
        let Some(far) = farthest else {
            farthest = Some(piece);
            continue;
        };
        let scratch = far.is_scratch() && piece.is_scratch();
        let same_group = scratch && together(far, piece);
        if !same_group && far.end() > piece.start() {
            let why = if scratch { Conflict::Lanes } else { Conflict::Exclusive };
            return Err(Fault::Overlap { first: far.party, second: piece.party, why });
        }
        if piece.end() > far.end() {
            farthest = Some(piece);
        }
    }
    Ok(())
}

/// Scratch of two lanes that shares bytes is ordered one way or the other. Gaps do not count here: an edge speaks of a
/// whole life. Looks at every such pair: O(n log n) plus the number of pairs.
fn check_pairs(pieces: &[Piece], order: &HappensBefore) -> Result<(), Fault> {
    let mut by_offset: Vec<&Piece> =
        pieces.iter().filter(|piece| piece.is_scratch() && piece.start() < piece.end()).collect();
    by_offset.sort_unstable_by_key(|piece| (piece.start(), piece.party.buffer));
    let mut reaching: Vec<&Piece> = Vec::new();
    for piece in by_offset {
        reaching.retain(|below| below.end() > piece.start());
        let clash = reaching.iter().find(|below| {
            let (a, b) = (below.party.lane, piece.party.lane);
            a != b
                && !order.holds((a, below.upper), (b, piece.lower))
                && !order.holds((b, piece.upper), (a, below.lower))
        });
        if let Some(below) = clash {
            return Err(Fault::Overlap { first: below.party, second: piece.party, why: Conflict::Lanes });
        }
        reaching.push(piece);
    }
    Ok(())
}

/// Scratch of one lane that is live together is disjoint: the live pieces, kept by offset, are disjoint before each
/// insertion, so a new one can only hit its two neighbours.
fn check_lanes(pieces: &[Piece]) -> Result<(), Fault> {
    let scratch =
        pieces.iter().enumerate().filter(|(_, piece)| piece.is_scratch() && piece.start() < piece.end());
    // Ends sort before starts of the same instant: intervals are half open.
    let mut steps: Vec<(LaneId, u64, bool, usize)> = Vec::new();
    for (at, piece) in scratch {
        let lane = piece.party.lane;
        steps.extend([(lane, piece.lower, true, at), (lane, piece.upper, false, at)]);
    }
    steps.sort_unstable();
    let mut live: BTreeMap<u64, Piece> = BTreeMap::new();
    for (_, _, starts, at) in steps {
        let piece = pieces[at];
        if !starts {
            live.remove(&piece.start());
            continue;
        }
        let below = live.range(..piece.start()).next_back().filter(|(_, below)| below.end() > piece.start());
        let above = live.range(piece.start()..).next().filter(|(_, above)| above.start() < piece.end());
        if let Some((_, other)) = below.or(above) {
            let (first, second) = (other.party, piece.party);
            return Err(Fault::Overlap { first, second, why: Conflict::Interval });
        }
        live.insert(piece.start(), piece);
    }
    Ok(())
}
