//! The planner of the house: lowest offset first, under several orders, best result wins.
//!
//! Lanes never share, so each lane's scratch is placed on its own and the results are stacked; exclusive buffers fill
//! what is left, first fit. Inside a lane the buffer that can go lowest goes next, and a rank breaks ties. No
//! single rank is good on every instance, and trying five costs little; the search ends early at the lower bound.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use aegis_types::{Bytes, LaneId, MemoryClass};

use crate::error::MemoryError;
use crate::planner::Planner;
use crate::problem::{Buffer, Placed, Placement, Problem};
use crate::skyline::Skyline;

/// Deterministic greedy planner for any [`Problem`]. Time: O(n log n) per rank in the common case.
///
/// Source: the family of lowest-offset heuristics for dynamic storage allocation; the ranks follow the orders that
/// complete searches for the same problem use.
#[derive(Clone, Copy, Debug, Default)]
pub struct LowestOffsetFirst;

impl Planner for LowestOffsetFirst {
    fn name(&self) -> &str {
        "lowest-offset-first"
    }

    fn place(&self, problem: &Problem) -> Result<Placement, MemoryError> {
        finish(self.name(), problem, &self.offsets(problem))
    }
}

impl LowestOffsetFirst {
    /// An offset for each buffer, within the capacity or not. Gaps and orders between lanes are not used.
    pub(crate) fn offsets(self, problem: &Problem) -> Vec<u64> {
        let buffers = problem.buffers();
        let mut offsets: Vec<u64> = buffers.iter().map(|b| b.fixed.map_or(0, Bytes::get)).collect();
        let mut taken = Taken::default();
        let open = |b: &&Buffer| b.fixed.is_none() && !b.size.is_zero();
        buffers.iter().filter(|b| b.fixed.is_some() && !is_scratch(b)).for_each(|b| taken.add(b, &offsets));

        let lanes: BTreeSet<LaneId> = buffers.iter().filter(|b| is_scratch(b)).map(|b| b.lane).collect();
        for lane in lanes {
            let mut avoid = taken.clone();
            let foreign = buffers.iter().filter(|b| b.fixed.is_some() && is_scratch(b) && b.lane != lane);
            foreign.for_each(|b| avoid.add(b, &offsets));
            let ours = || buffers.iter().filter(|b| is_scratch(b) && b.lane == lane);
            let pinned = ours().filter(|b| b.fixed.is_some()).copied().collect();
            Lane::new(ours().filter(open).collect(), pinned, avoid).solve(&mut offsets);
            ours().for_each(|b| taken.add(b, &offsets));
        }

        let mut exclusive: Vec<&Buffer> = buffers.iter().filter(|b| !is_scratch(b)).filter(open).collect();
        exclusive.sort_unstable_by_key(|b| (Reverse(b.align), Reverse(b.size), b.id));
        for buffer in exclusive {
            offsets[buffer.id.index()] = taken.first_fit(0, buffer);
            taken.add(buffer, &offsets);
        }
        offsets
    }
}

const fn is_scratch(buffer: &Buffer) -> bool {
    matches!(buffer.class, MemoryClass::Scratch)
}

fn finish(planner: &str, problem: &Problem, offsets: &[u64]) -> Result<Placement, MemoryError> {
    let ends = problem.buffers().iter().zip(offsets).map(|(b, offset)| offset + b.size.get());
    let peak = Bytes::new(ends.max().unwrap_or(0));
    let capacity = problem.capacity();
    if peak > capacity {
        return Err(MemoryError::NoPlacement { planner: planner.into(), peak, capacity });
    }
    let placed = problem.buffers().iter().zip(offsets);
    Ok(Placement {
        placed: placed.map(|(b, &offset)| Placed { buffer: b.id, offset: Bytes::new(offset) }).collect(),
    })
}

/// Bytes that a buffer must stay clear of at all times: sorted ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default)]
struct Taken {
    ranges: Vec<(u64, u64)>,
}

impl Taken {
    fn add(&mut self, buffer: &Buffer, offsets: &[u64]) {
        let start = offsets[buffer.id.index()];
        let end = start + buffer.size.get();
        if start == end {
            return;
        }
        let first = self.ranges.partition_point(|range| range.1 < start);
        let last = self.ranges.partition_point(|range| range.0 <= end);
        let touched = &self.ranges[first..last];
        let start = touched.first().map_or(start, |range| range.0.min(start));
        let end = touched.last().map_or(end, |range| range.1.max(end));
        self.ranges.splice(first..last, [(start, end)]);
    }

    /// The lowest legal offset that is not below `from`. No sum overflows: `Problem::new` bounds them all.
    fn first_fit(&self, from: u64, buffer: &Buffer) -> u64 {
        let mut at = from.next_multiple_of(buffer.align.get());
        let first = self.ranges.partition_point(|range| range.1 <= at);
        for &(start, end) in &self.ranges[first..] {
            if at + buffer.size.get() <= start {
                break;
            }
            at = at.max(end).next_multiple_of(buffer.align.get());
        }
        at
    }
}

/// What a rank compares; larger goes first.
#[derive(Clone, Copy)]
enum Key {
    /// Size times lifetime.
    Area,
    /// The largest load of an instant at which the buffer is live.
    Total,
    /// Lifetime.
    Width,
    /// Earliest start.
    Lower,
}

/// Orders in which complete searches for the same problem succeed; which one is best differs from instance to instance.
const RANKS: [[Key; 3]; 5] = [
    [Key::Total, Key::Width, Key::Area],
    [Key::Total, Key::Area, Key::Width],
    [Key::Width, Key::Area, Key::Total],
    [Key::Area, Key::Width, Key::Total],
    [Key::Total, Key::Lower, Key::Width],
];

/// The scratch of one lane.
struct Lane<'a> {
    items: Vec<&'a Buffer>,
    /// Where each item lies on the compressed time axis, half open.
    spans: Vec<(usize, usize)>,
    /// The load of each instant.
    load: Skyline,
    columns: usize,
    /// Buffers of this lane with a fixed offset: to be avoided only while live.
    pinned: Vec<Buffer>,
    avoid: Taken,
}

impl<'a> Lane<'a> {
    fn new(items: Vec<&'a Buffer>, pinned: Vec<Buffer>, avoid: Taken) -> Self {
        let mut instants: Vec<u64> = items.iter().flat_map(|b| [b.lower, b.upper]).collect();
        instants.sort_unstable();
        instants.dedup();
        let column = |instant| instants.partition_point(|&i| i < instant);
        let spans: Vec<_> = items.iter().map(|b| (column(b.lower), column(b.upper))).collect();
        let columns = instants.len().saturating_sub(1);
        let load = load(&items, &spans, columns);
        Self { items, spans, load, columns, pinned, avoid }
    }

    /// Writes the best of all ranks into `offsets`.
    fn solve(&self, offsets: &mut [u64]) {
        if self.items.is_empty() {
            return;
        }
        let bound = self.load.highest(0, self.columns);
        let mut best: Option<(u64, Vec<u64>)> = None;
        for rank in RANKS {
            let limit = best.as_ref().map_or(u64::MAX, |found| found.0);
            best = self.fill(&self.order(rank), limit).or(best);
            if best.as_ref().is_some_and(|found| found.0 <= bound) {
                break;
            }
        }
        if let Some((_, found)) = best {
            for (item, offset) in self.items.iter().zip(found) {
                offsets[item.id.index()] = offset;
            }
        }
    }

    /// The position of each item in the rank; equal keys go by number.
    fn order(&self, rank: [Key; 3]) -> Vec<usize> {
        let keys: Vec<[u128; 3]> =
            (0..self.items.len()).map(|item| rank.map(|key| self.key(item, key))).collect();
        let mut sequence: Vec<usize> = (0..self.items.len()).collect();
        sequence.sort_by_key(|&item| (Reverse(keys[item]), item));
        let mut positions = vec![0; sequence.len()];
        for (position, item) in sequence.into_iter().enumerate() {
            positions[item] = position;
        }
        positions
    }

    fn key(&self, item: usize, key: Key) -> u128 {
        let buffer = self.items[item];
        let width = u128::from(buffer.upper - buffer.lower);
        match key {
            Key::Area => width * u128::from(buffer.size.get()),
            Key::Total => self.load.highest(self.spans[item].0, self.spans[item].1).into(),
            Key::Width => width,
            Key::Lower => u128::from(u64::MAX - buffer.lower),
        }
    }

    /// Places every item; `None` as soon as the peak reaches `limit`.
    ///
    /// An item's lowest offset only grows while others are placed, so a key in the heap is never too large: an item
    /// whose key is still right when it comes to the top is the next one.
    fn fill(&self, position: &[usize], limit: u64) -> Option<(u64, Vec<u64>)> {
        let mut sky = Skyline::new(self.columns);
        let mut offsets = vec![0; self.items.len()];
        let mut peak = 0;
        let mut heap: BinaryHeap<_> = (0..self.items.len())
            .map(|item| Reverse((self.lowest(0, self.items[item]), position[item], item)))
            .collect();
        while let Some(Reverse((offset, place, item))) = heap.pop() {
            let (from, to) = self.spans[item];
            let lowest = self.lowest(sky.highest(from, to), self.items[item]);
            if lowest > offset {
                heap.push(Reverse((lowest, place, item)));
                continue;
            }
            let end = offset + self.items[item].size.get();
            if end >= limit {
                return None;
            }
            peak = peak.max(end);
            offsets[item] = offset;
            sky.raise(from, to, end);
        }
        Some((peak, offsets))
    }

    /// The lowest legal offset from `floor` on. Ends because each round passes the end of a pinned buffer.
    fn lowest(&self, floor: u64, buffer: &Buffer) -> u64 {
        let mut from = floor;
        loop {
            let at = self.avoid.first_fit(from, buffer);
            let end = at + buffer.size.get();
            let blocking = self.pinned.iter().filter_map(|pin| {
                let start = pin.fixed?.get();
                let pin_end = start + pin.size.get();
                let live = pin.lower < buffer.upper && buffer.lower < pin.upper;
                (live && start < end && at < pin_end).then_some(pin_end)
            });
            match blocking.max() {
                Some(pin_end) => from = pin_end,
                None => return at,
            }
        }
    }
}

fn load(items: &[&Buffer], spans: &[(usize, usize)], columns: usize) -> Skyline {
    let mut rise = vec![0u64; columns + 1];
    let mut fall = vec![0u64; columns + 1];
    for (item, &(from, to)) in items.iter().zip(spans) {
        rise[from] += item.size.get();
        fall[to] += item.size.get();
    }
    let mut load = Skyline::new(columns);
    let mut live = 0;
    for column in 0..columns {
        live = live + rise[column] - fall[column];
        load.raise(column, column + 1, live);
    }
    load
}
