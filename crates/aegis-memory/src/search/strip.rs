//! What the search works on: buffers of one time axis, scaled and cut to what matters.
//!
//! Sizes, alignments and fixed offsets are divided by their greatest common divisor. Time is cut to *sections*, the
//! maximal cliques of the interval graph: whatever holds in every section holds at every instant, and no section can
//! be left out. Buffers are numbered by section, so that those of a range of sections are close together.

use std::cmp::Reverse;

/// A range of sections, half open.
pub(super) type Range = (u32, u32);

/// A buffer before it is scaled: what is live when.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) size: u64,
    pub(super) align: u64,
    /// Half-open intervals at which it is live: rising, disjoint, at least one.
    pub(super) live: Vec<(u64, u64)>,
    /// The offset that it must have, if it must.
    pub(super) fixed: Option<u64>,
}

/// A scaled instance. Items are those without a fixed offset and with bytes; the others are walls.
#[derive(Clone, Debug, Default)]
pub(super) struct Strip {
    /// Bytes of one unit of space.
    pub(super) unit: u64,
    pub(super) sections: usize,
    pub(super) size: Vec<u64>,
    pub(super) align: Vec<u64>,
    /// What each item takes: its size, up to a multiple of the smallest alignment. Nothing else can begin in the rest.
    pub(super) room: Vec<u64>,
    /// What items take in each section.
    pub(super) load: Vec<u64>,
    /// What the highest item of each section need not take, at most: the largest difference of room and size.
    pub(super) spare: Vec<u64>,
    /// First section of each item; rising.
    pub(super) lo: Vec<u32>,
    /// Behind the last section of each item.
    pub(super) hi: Vec<u32>,
    /// Where each item is live; one range unless it has gaps.
    pub(super) live: Vec<Vec<Range>>,
    /// Places that are taken in each section by walls: rising and disjoint; no list at all where there is no wall.
    pub(super) walls: Vec<Vec<(u64, u64)>>,
    /// The same for each item: everything that it must stay clear of.
    pub(super) blocked: Vec<Vec<(u64, u64)>>,
    /// The position of each item in what the strip was made of.
    pub(super) source: Vec<u32>,
}

impl Strip {
    /// Cuts and scales. `extra` joins the common divisor: a capacity that is to be met exactly.
    pub(super) fn new(items: &[Item]) -> Self {
        let unit = items.iter().fold(0, |unit, item| {
            let unit = gcd(gcd(unit, item.size), item.align);
            gcd(unit, item.fixed.unwrap_or(0))
        });
        let unit = unit.max(1);
        let (sections, ranges) = cut(items);
        let mut order: Vec<usize> =
            (0..items.len()).filter(|&i| items[i].fixed.is_none() && items[i].size > 0).collect();
        order.sort_by_key(|&i| {
            (ranges[i][0].0, Reverse(ranges[i].last().map(|range| range.1)), items[i].size, i)
        });
        let mut strip = Self { unit, sections, ..Self::default() };
        for &i in &order {
            strip.size.push(items[i].size / unit);
            strip.align.push((items[i].align / unit).max(1));
            strip.lo.push(ranges[i][0].0);
            strip.hi.push(ranges[i].last().map_or(0, |range| range.1));
            strip.live.push(ranges[i].clone());
            strip.source.push(i as u32);
        }
        if items.iter().any(|item| item.fixed.is_some()) {
            strip.build_walls(items, &ranges);
        }
        strip.fill()
    }

    fn build_walls(&mut self, items: &[Item], ranges: &[Vec<Range>]) {
        self.walls = vec![Vec::new(); self.sections];
        for (item, ranges) in items.iter().zip(ranges) {
            let Some(offset) = item.fixed else { continue };
            let wall = (offset / self.unit, (offset + item.size) / self.unit);
            for section in ranges.iter().flat_map(|&(from, to)| from..to).filter(|_| item.size > 0) {
                self.walls[section as usize].push(wall);
            }
        }
        self.walls.iter_mut().for_each(merge);
        self.blocked = self
            .live
            .iter()
            .map(|live| {
                let sections = live.iter().flat_map(|&(from, to)| from..to);
                let mut blocked: Vec<_> =
                    sections.flat_map(|s| self.walls[s as usize].iter().copied()).collect();
                merge(&mut blocked);
                blocked
            })
            .collect();
    }

    pub(super) fn len(&self) -> usize {
        self.size.len()
    }

    /// Items whose first section lies in the range.
    pub(super) fn items_of(&self, (from, to): Range) -> (usize, usize) {
        (self.lo.partition_point(|&lo| lo < from), self.lo.partition_point(|&lo| lo < to))
    }

    /// The lowest offset from `from` on at which the item hits no wall and keeps its alignment.
    pub(super) fn settle(&self, item: usize, from: u64) -> u64 {
        let align = self.align[item];
        let up = |at: u64| if align == 1 { at } else { at.next_multiple_of(align) };
        let mut at = up(from);
        let Some(blocked) = self.blocked.get(item) else { return at };
        for &(start, end) in &blocked[blocked.partition_point(|wall| wall.1 <= at)..] {
            if at + self.size[item] <= start {
                break;
            }
            at = up(at.max(end));
        }
        at
    }

    /// Bytes of walls in a section above an offset, in units.
    pub(super) fn walls_above(&self, section: usize, offset: u64) -> u64 {
        let walls = self.walls.get(section).map_or(&[][..], Vec::as_slice);
        walls.iter().map(|&(start, end)| end.saturating_sub(start.max(offset))).sum()
    }

    /// A peak that no placement can beat: in any section what is live takes its room, and so do those of it that have a
    /// large alignment; or the end of the highest wall.
    pub(super) fn bound(&self) -> u64 {
        let walls = |section| self.walls_above(section, 0);
        let loaded = self.load.iter().zip(&self.spare).enumerate();
        let bound = loaded.map(|(section, (load, spare))| load + walls(section) - spare).max().unwrap_or(0);
        if !self.walls.is_empty() {
            return bound;
        }
        let mut grains = self.align.clone();
        grains.sort_unstable();
        grains.dedup();
        let coarse = grains.into_iter().skip(1).flat_map(|grain| {
            let (load, spare) = self.taken(grain);
            load.into_iter().zip(spare).map(|(load, spare)| load - spare)
        });
        coarse.max().unwrap_or(0).max(bound)
    }

    /// With what items take. A wall may begin anywhere, so that beside walls it is their size.
    fn fill(mut self) -> Self {
        let grain = if self.walls.is_empty() { self.align.iter().copied().min() } else { None };
        let grain = grain.unwrap_or(1);
        self.room = self.size.iter().map(|size| size.next_multiple_of(grain)).collect();
        (self.load, self.spare) = self.taken(grain);
        self
    }

    /// For each section the sizes of items with at least this alignment, up to multiples of it, and the most that one of
    /// them was raised by: the highest of them ends with its size, and every other where the next can begin.
    fn taken(&self, grain: u64) -> (Vec<u64>, Vec<u64>) {
        let (mut load, mut spare) = (vec![0; self.sections], vec![0; self.sections]);
        for item in (0..self.len()).filter(|&item| self.align[item] >= grain) {
            let room = self.size[item].next_multiple_of(grain);
            for &(from, to) in &self.live[item] {
                load[from as usize..to as usize].iter_mut().for_each(|load| *load += room);
                let spare = &mut spare[from as usize..to as usize];
                spare.iter_mut().for_each(|spare| *spare = (room - self.size[item]).max(*spare));
            }
        }
        (load, spare)
    }

    /// Parts that share no section, each an instance of its own: `source` then names items of `self`.
    pub(super) fn parts(&self) -> Vec<Self> {
        let mut parts = Vec::new();
        let mut first = 0;
        let mut reach = 0;
        for item in 0..self.len() {
            if item > first && self.lo[item] >= reach {
                parts.push(self.part(first, item, reach));
                first = item;
            }
            reach = reach.max(self.hi[item]);
        }
        if first < self.len() {
            parts.push(self.part(first, self.len(), reach));
        }
        parts
    }

    fn part(&self, first: usize, last: usize, end: u32) -> Self {
        let start = self.lo[first];
        let shift = |live: &Vec<Range>| live.iter().map(|&(from, to)| (from - start, to - start)).collect();
        let slice = |rows: &Vec<Vec<(u64, u64)>>, from: usize, to: usize| {
            rows.get(from..to).map_or_else(Vec::new, <[_]>::to_vec)
        };
        Self {
            unit: self.unit,
            sections: (end - start) as usize,
            size: self.size[first..last].to_vec(),
            align: self.align[first..last].to_vec(),
            lo: self.lo[first..last].iter().map(|lo| lo - start).collect(),
            hi: self.hi[first..last].iter().map(|hi| hi - start).collect(),
            live: self.live[first..last].iter().map(shift).collect(),
            walls: slice(&self.walls, start as usize, end as usize),
            blocked: slice(&self.blocked, first, last),
            source: (first as u32..last as u32).collect(),
            ..Self::default()
        }
        .fill()
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

fn merge(walls: &mut Vec<(u64, u64)>) {
    walls.sort_unstable();
    walls.dedup_by(|next, last| {
        let joined = next.0 <= last.1;
        if joined {
            last.1 = last.1.max(next.1);
        }
        joined
    });
}

/// The number of maximal cliques, and for each item the ranges of them at which it is live.
///
/// Walking through all ends and starts in order, a clique is maximal where an end follows a start (Gavril 1972).
fn cut(items: &[Item]) -> (usize, Vec<Vec<Range>>) {
    let mut steps: Vec<(u64, bool, u32)> = Vec::new();
    for (item, at) in items.iter().zip(0..) {
        steps.extend(item.live.iter().flat_map(|&(lower, upper)| [(lower, true, at), (upper, false, at)]));
    }
    // Ends sort before starts of the same instant: intervals are half open.
    steps.sort_unstable();
    let mut ranges: Vec<Vec<Range>> = vec![Vec::new(); items.len()];
    let (mut section, mut grown) = (0, false);
    for (_, starts, item) in steps {
        let ranges = &mut ranges[item as usize];
        if starts {
            grown = true;
            ranges.push((section, section));
        } else {
            section += u32::from(std::mem::take(&mut grown));
            if let Some(last) = ranges.last_mut() {
                last.1 = section;
            }
        }
    }
    // Intervals that touch, or whose gap holds nothing, are one.
    for ranges in &mut ranges {
        ranges.dedup_by(|next, last| {
            let joined = next.0 <= last.1;
            if joined {
                last.1 = next.1;
            }
            joined
        });
    }
    (section as usize, ranges)
}
