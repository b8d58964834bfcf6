//! Placements in one pass: the first answer, and often the best.
//!
//! Two families. *Lowest offset first*: the buffer that can go lowest goes next, a rank breaks ties. *In turn*: each goes to
//! a gap that holds it among those placed before; the largest first to the lowest (first fit decreasing; the order of several
//! deployed planners), or the earliest first to the tightest (what an allocator does that is asked in time). Both end early
//! when they cannot beat what is known.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::strip::Strip;
use crate::skyline::Skyline;

/// Passes that [`pass`] knows.
pub(super) const PASSES: usize = RANKS.len() + 2;

/// Placement in turn compares each buffer with all placed ones; beyond this number it takes too long.
const IN_TURN_MOST: usize = 6000;

/// Up to this number a walk along all open buffers takes no longer than a heap does, and where most of them overlap, where
/// a heap is sorted anew for each, a tenth.
const BY_ROW_MOST: usize = 2500;

/// A buffer that has no place yet.
struct Open {
    /// Where it can go.
    offset: u64,
    /// In the rank.
    position: u32,
    lo: u32,
    hi: u32,
}

/// What a rank compares; larger goes first.
#[derive(Clone, Copy)]
enum Key {
    Area,
    Total,
    Width,
    Lower,
}

const RANKS: [[Key; 3]; 6] = [
    [Key::Width, Key::Area, Key::Total],
    [Key::Total, Key::Area, Key::Width],
    [Key::Total, Key::Width, Key::Area],
    [Key::Area, Key::Width, Key::Total],
    [Key::Total, Key::Lower, Key::Width],
    [Key::Area, Key::Total, Key::Width],
];

/// Offsets and peak of one pass, in units; `None` if the peak would reach `limit`.
pub(super) fn pass(strip: &Strip, number: usize, limit: u64) -> Option<(Vec<u64>, u64)> {
    match RANKS.get(number) {
        Some(&rank) if strip.len() <= BY_ROW_MOST => by_row(strip, &ranked(strip, rank), limit),
        Some(&rank) => by_heap(strip, &ranked(strip, rank), limit),
        None if strip.len() > IN_TURN_MOST => None,
        None if number == RANKS.len() => {
            in_turn(strip, |item| (Reverse(strip.size[item]), strip.lo[item]), false, limit)
        }
        None => in_turn(strip, |item| (strip.lo[item], Reverse(strip.size[item])), true, limit),
    }
}

fn ranked(strip: &Strip, rank: [Key; 3]) -> Vec<u32> {
    let mut totals = Skyline::new(strip.sections);
    for (section, load) in strip.load.iter().copied().enumerate() {
        totals.raise(section, section + 1, load);
    }
    let key = |item: usize, key: Key| {
        let width = u64::from(strip.hi[item] - strip.lo[item]);
        match key {
            Key::Area => width.saturating_mul(strip.size[item]),
            Key::Total => totals.highest(strip.lo[item] as usize, strip.hi[item] as usize),
            Key::Width => width,
            Key::Lower => u64::MAX - u64::from(strip.lo[item]),
        }
    };
    let items = 0..strip.len() as u32;
    let mut order: Vec<_> = items.map(|item| (Reverse(rank.map(|k| key(item as usize, k))), item)).collect();
    order.sort_unstable();
    order.into_iter().map(|(_, item)| item).collect()
}

/// Every placement raises what it overlaps and finds the next in one walk along a short row, in the same order as
/// [`by_heap`] does.
fn by_row(strip: &Strip, order: &[u32], limit: u64) -> Option<(Vec<u64>, u64)> {
    let mut offsets = vec![0; strip.len()];
    let mut peak = 0;
    let mut open: Vec<Open> = order
        .iter()
        .zip(0..)
        .map(|(&item, position)| {
            let (lo, hi) = (strip.lo[item as usize], strip.hi[item as usize]);
            Open { offset: strip.settle(item as usize, 0), position, lo, hi }
        })
        .collect();
    let mut first = open.iter().zip(0..).min_by_key(|(entry, _)| (entry.offset, entry.position));
    while let Some((_, at)) = first {
        let placed = open.swap_remove(at);
        let item = order[placed.position as usize] as usize;
        let end = placed.offset + strip.size[item];
        if end >= limit {
            return None;
        }
        peak = peak.max(end);
        offsets[item] = placed.offset;
        for entry in &mut open {
            let hulls = entry.lo < placed.hi && placed.lo < entry.hi;
            let other = order[entry.position as usize] as usize;
            if hulls && entry.offset < end && overlaps(strip, item, other) {
                entry.offset = strip.settle(other, end);
            }
        }
        first = open.iter().zip(0..).min_by_key(|(entry, _)| (entry.offset, entry.position));
    }
    Some((offsets, peak))
}

/// The lowest offset of an item only grows while others are placed, so a key in the heap is never too large: an item
/// whose key is still right has the lowest of all.
fn by_heap(strip: &Strip, order: &[u32], limit: u64) -> Option<(Vec<u64>, u64)> {
    let mut sky = Skyline::new(strip.sections);
    let mut offsets = vec![0; strip.len()];
    let mut peak = 0;
    let start = |(&item, position): (&u32, u32)| Reverse((strip.settle(item as usize, 0), position));
    let mut heap: BinaryHeap<_> = order.iter().zip(0..).map(start).collect();
    while let Some(mut first) = heap.peek_mut() {
        let Reverse((offset, position)) = *first;
        let item = order[position as usize] as usize;
        let spans = || strip.live[item].iter().map(|&(from, to)| (from as usize, to as usize));
        let top = spans().map(|(from, to)| sky.highest(from, to)).max().unwrap_or(0);
        let lowest = strip.settle(item, top);
        if lowest > offset {
            // In place: one way down the heap, where taking it out and putting it back would be two.
            *first = Reverse((lowest, position));
            continue;
        }
        PeekMut::pop(first);
        let end = offset + strip.size[item];
        if end >= limit {
            return None;
        }
        peak = peak.max(end);
        offsets[item] = offset;
        spans().for_each(|(from, to)| sky.raise(from, to, end));
    }
    Some((offsets, peak))
}

/// Each buffer, in the order of a key, to the lowest gap that holds it, or to the tightest.
fn in_turn<K: Ord>(
    strip: &Strip,
    key: impl Fn(usize) -> K,
    tightest: bool,
    limit: u64,
) -> Option<(Vec<u64>, u64)> {
    let mut order: Vec<usize> = (0..strip.len()).collect();
    order.sort_by_key(|&item| key(item));
    let mut offsets = vec![0; strip.len()];
    // By rising offset: where it starts, where it ends, who it is.
    let mut placed: Vec<(u64, u64, usize)> = Vec::with_capacity(strip.len());
    let mut peak = 0;
    for item in order {
        let size = strip.size[item];
        let mut at = strip.settle(item, 0);
        // What a gap leaves, and where it begins.
        let mut gap: Option<(u64, u64)> = None;
        for &(start, end, other) in &placed {
            if end <= at || !overlaps(strip, item, other) {
                continue;
            }
            if start >= at + size {
                gap = gap.into_iter().chain([(start - at - size, at)]).min();
                if !tightest {
                    break;
                }
            }
            at = strip.settle(item, end);
        }
        let at = gap.map_or(at, |(_, at)| at);
        let end = at + size;
        if end >= limit {
            return None;
        }
        peak = peak.max(end);
        offsets[item] = at;
        placed.insert(placed.partition_point(|entry| entry.0 < at), (at, end, item));
    }
    Some((offsets, peak))
}

/// Whether two items are live in a common section.
pub(super) fn overlaps(strip: &Strip, a: usize, b: usize) -> bool {
    let hulls = strip.lo[a] < strip.hi[b] && strip.lo[b] < strip.hi[a];
    let single = strip.live[a].len() == 1 && strip.live[b].len() == 1;
    hulls && (single || strip.live[a].iter().any(|x| strip.live[b].iter().any(|y| x.0 < y.1 && y.0 < x.1)))
}

#[cfg(test)]
mod tests {
    use super::super::strip::Item;
    use super::*;

    #[test]
    fn a_row_places_as_a_heap_does() {
        let mut word = 1u64;
        let mut below = |count: u64| {
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (word >> 33) % count
        };
        for round in 0..200 {
            let items: Vec<Item> = (0..2 + below(40))
                .map(|_| {
                    let lower = below(30);
                    let middle = lower + 1 + below(9);
                    let live = match below(4) {
                        0 => vec![(lower, middle), (middle + 1 + below(4), middle + 6)],
                        _ => vec![(lower, middle)],
                    };
                    let align = 1 << below(4);
                    let fixed = (round % 3 == 0 && below(9) == 0).then(|| align * below(20));
                    Item { size: 1 + below(20), align, live, fixed }
                })
                .collect();
            let strip = Strip::new(&items);
            for rank in RANKS {
                let order = ranked(&strip, rank);
                assert_eq!(
                    by_row(&strip, &order, u64::MAX),
                    by_heap(&strip, &order, u64::MAX),
                    "round {round}: {items:?}"
                );
            }
        }
    }
}
