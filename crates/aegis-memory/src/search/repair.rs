//! Large instances: free what lies around the peak, place it again exactly, keep the rest (large neighbourhood search,
//! Shaw 1998).
//!
//! The buffers that end above a target are its *offenders*. The neighbourhood of one is what is live in a window of
//! sections around it; all others become walls. A repair never makes an offender, so their number only falls, and a
//! placement whose offenders are all repaired has a peak no higher than the target.

use super::greedy;
use super::order;
use super::strip::{Item, Strip};
use super::tree::{Outcome, Tree};

/// Decisions of one repair beyond those that place every buffer once.
const REPAIR: u64 = 100;

/// Buffers of the largest neighbourhood.
const FREED_MOST: usize = 400;

#[derive(Clone, Debug)]
pub(super) struct Repair {
    draw: u64,
    /// Sections on each side of an offender, four times as many after every failure.
    margin: u32,
    failures: u64,
}

impl Repair {
    pub(super) const fn new(seed: u64) -> Self {
        Self { draw: seed, margin: 0, failures: 0 }
    }

    /// One repair. Says how many decisions it took.
    pub(super) fn step(&mut self, strip: &Strip, offsets: &mut [u64], peak: u64, low: u64) -> u64 {
        let high = peak.saturating_sub(1).max(low);
        // From the best imaginable peak to any lower one, as failures add up.
        let target = low + (high - low) / 8 * (self.failures / 6 % 9).min(8);
        let end = |offsets: &[u64], item: usize| offsets[item] + strip.size[item];
        let offenders: Vec<usize> = (0..strip.len()).filter(|&item| end(offsets, item) > target).collect();
        let Some(&offender) = offenders.get(self.below(offenders.len())) else { return 1 };
        let freed = self.neighbourhood(strip, offender);
        let (items, sources) = subproblem(strip, offsets, &freed, target);
        let small = Strip::new(&items);
        let mut tree = Tree::new(&small);
        let order = order::of(self.failures, false);
        let noise = if self.failures < order::ROUND { 0 } else { self.next() | 1 };
        tree.start(&small, target / small.unit, order, noise);
        if tree.run(&small, freed.len() as u64 + REPAIR) == Outcome::Found {
            for (at, &item) in small.source.iter().enumerate() {
                offsets[sources[item as usize]] = tree.offsets()[at] * small.unit;
            }
            (self.margin, self.failures) = (0, 0);
        } else {
            self.margin = if freed.len() >= FREED_MOST { 0 } else { self.margin * 4 + 3 };
            self.failures += 1;
        }
        tree.nodes.max(1)
    }

    /// The offender and what is live around it; of too many, those that chance picks.
    fn neighbourhood(&mut self, strip: &Strip, offender: usize) -> Vec<usize> {
        let from = strip.lo[offender].saturating_sub(self.margin);
        let to = strip.hi[offender].saturating_add(self.margin);
        let mut freed: Vec<usize> = (0..strip.len())
            .filter(|&item| item != offender && strip.lo[item] < to && from < strip.hi[item])
            .collect();
        while freed.len() > FREED_MOST {
            let at = self.below(freed.len());
            freed.swap_remove(at);
        }
        freed.push(offender);
        freed.sort_unstable();
        freed
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    const fn next(&mut self) -> u64 {
        self.draw = self.draw.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut word = self.draw;
        word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        word ^ (word >> 31)
    }

    const fn below(&mut self, count: usize) -> usize {
        if count == 0 { 0 } else { (self.next() % count as u64) as usize }
    }
}

/// The freed items, then walls for what they overlap, cut off at the target; and which item each one was.
fn subproblem(strip: &Strip, offsets: &[u64], freed: &[usize], target: u64) -> (Vec<Item>, Vec<usize>) {
    let live =
        |item: usize| strip.live[item].iter().map(|&(from, to)| (u64::from(from), u64::from(to))).collect();
    let mut items: Vec<Item> = freed
        .iter()
        .map(|&item| Item { size: strip.size[item], align: strip.align[item], live: live(item), fixed: None })
        .collect();
    let mut sources = freed.to_vec();
    let reach =
        freed.iter().map(|&item| strip.lo[item]).min().zip(freed.iter().map(|&item| strip.hi[item]).max());
    let (from, to) = reach.unwrap_or_default();
    for (item, &offset) in offsets.iter().enumerate() {
        let outside = strip.lo[item] >= to || strip.hi[item] <= from || freed.binary_search(&item).is_ok();
        if outside || offset >= target || !freed.iter().any(|&other| greedy::overlaps(strip, item, other)) {
            continue;
        }
        let size = strip.size[item].min(target - offset);
        items.push(Item { size, align: 1, live: live(item), fixed: Some(offset) });
        sources.push(item);
    }
    for (section, walls) in strip.walls.iter().enumerate().take(to as usize).skip(from as usize) {
        for &(start, end) in walls.iter().filter(|wall| wall.0 < target) {
            let live = vec![(section as u64, section as u64 + 1)];
            items.push(Item { size: end.min(target) - start, align: 1, live, fixed: Some(start) });
            sources.push(usize::MAX);
        }
    }
    (items, sources)
}
