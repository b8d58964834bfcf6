//! Placements in one pass: the first answer, and often the best.
//!
//! Two families. *Lowest offset first*: the buffer that can go lowest goes next, a rank breaks ties. *By size*: the
//! largest goes first, to the lowest gap that holds it among those placed before (first fit decreasing; the order of
//! several deployed planners). Both end early when they cannot beat what is known.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;

use super::strip::Strip;
use crate::skyline::Skyline;

/// Passes that [`pass`] knows.
pub(super) const PASSES: usize = RANKS.len() + 1;

/// Placement by size compares each buffer with all placed ones; beyond this number it takes too long.
const BY_SIZE_MOST: usize = 6000;

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
        Some(&rank) => lowest_first(strip, &ranked(strip, rank), limit),
        None if strip.len() <= BY_SIZE_MOST => by_size(strip, limit),
        None => None,
    }
}

fn ranked(strip: &Strip, rank: [Key; 3]) -> Vec<u32> {
    let mut totals = Skyline::new(strip.sections);
    for (section, load) in strip.load().into_iter().enumerate() {
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

/// The lowest offset of an item only grows while others are placed, so a key in the heap is never too large: an item
/// whose key is still right has the lowest of all.
fn lowest_first(strip: &Strip, order: &[u32], limit: u64) -> Option<(Vec<u64>, u64)> {
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

fn by_size(strip: &Strip, limit: u64) -> Option<(Vec<u64>, u64)> {
    let mut order: Vec<usize> = (0..strip.len()).collect();
    order.sort_unstable_by_key(|&item| (Reverse(strip.size[item]), strip.lo[item], item));
    let mut offsets = vec![0; strip.len()];
    // By rising offset: where it starts, where it ends, who it is.
    let mut placed: Vec<(u64, u64, usize)> = Vec::with_capacity(strip.len());
    let mut peak = 0;
    for item in order {
        let mut at = strip.settle(item, 0);
        for &(start, end, other) in &placed {
            if end <= at || !overlaps(strip, item, other) {
                continue;
            }
            if start >= at + strip.size[item] {
                break;
            }
            at = strip.settle(item, end);
        }
        let end = at + strip.size[item];
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
