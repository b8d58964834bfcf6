//! The search for one strip that falls into no smaller ones: passes first, then tries, or repairs where it is large.

use super::greedy;
use super::order;
use super::repair::Repair;
use super::strip::Strip;
use super::tree::{Outcome, Tree};

/// Decisions of the shortest try.
const TRY: u64 = 500;

/// Where between the lower bound and the best known peak the tries aim, in eighths. The number of entries and that
/// of the orders have no common divisor, so that all pairs come up.
const LADDER: [u64; 7] = [8, 4, 6, 2, 7, 5, 0];

/// Beyond this number of buffers the sets of the exact search are too large, and repairs take its place.
const EXACT_MOST: usize = 2500;

/// From this number of buffers on the first try comes after all passes.
const TRIED_LATE: usize = 500;

/// A strip with the best that is known of it. Everything is counted in the strip's units.
#[derive(Clone, Debug)]
pub(super) struct Part {
    pub(super) strip: Strip,
    pub(super) offsets: Vec<u64>,
    pub(super) peak: u64,
    /// No placement has a lower peak.
    pub(super) bound: u64,
    /// The end of the highest wall: the peak is never lower.
    highest: u64,
    passes: usize,
    turns: u64,
    tries: u64,
    /// What is left of the try in progress, and its capacity.
    current: Option<(u64, u64)>,
    tree: Option<Box<Tree>>,
    repair: Option<Box<Repair>>,
    seed: u64,
}

impl Part {
    /// A part with a first placement.
    pub(super) fn new(strip: Strip, seed: u64) -> Self {
        let bound = strip.bound();
        let highest = strip.walls.iter().flatten().map(|wall| wall.1).max().unwrap_or(0);
        let (offsets, peak) = greedy::pass(&strip, 0, u64::MAX).unwrap_or_default();
        Self {
            strip,
            offsets,
            peak: peak.max(highest),
            bound: bound.max(highest),
            highest,
            passes: 1,
            turns: 0,
            tries: 0,
            current: None,
            tree: None,
            repair: None,
            seed,
        }
    }

    /// Works for about `nodes` decisions on a peak of at most `goal`, and not below `enough`, which is no more. Says
    /// how many decisions were made.
    pub(super) fn step(&mut self, goal: u64, enough: u64, nodes: u64) -> u64 {
        self.turns += 1;
        let low = enough.max(self.bound);
        // Three passes tell most of what passes can, and so does one that is close; the others come in between. Where one
        // try takes longer than all passes, they come first.
        let count = self.strip.len();
        let close = count > EXACT_MOST && self.peak.saturating_sub(low) <= low / 400;
        let early = if (TRIED_LATE..=EXACT_MOST).contains(&count) { greedy::PASSES } else { 3 };
        let early = self.passes < early && !close;
        if self.passes < greedy::PASSES && (early || self.turns.is_multiple_of(4)) {
            let better = greedy::pass(&self.strip, self.passes, self.peak);
            self.passes += 1;
            if let Some((offsets, peak)) = better {
                (self.offsets, self.peak) = (offsets, peak.max(self.highest));
            }
            return self.strip.len() as u64;
        }
        if self.strip.len() > EXACT_MOST {
            let repair = self.repair.get_or_insert_with(|| Box::new(Repair::new(self.seed)));
            let nodes = repair.step(&self.strip, &mut self.offsets, self.peak, low);
            self.peak = self.top();
            return nodes;
        }
        self.attempt(goal, low, nodes)
    }

    fn attempt(&mut self, goal: u64, low: u64, nodes: u64) -> u64 {
        let (capacity, left) =
            match self.current.filter(|&(capacity, _)| capacity < self.peak && capacity >= low) {
                Some(current) => current,
                None => self.begin(goal, low),
            };
        let Self { strip, tree, .. } = self;
        let tree = tree.get_or_insert_with(|| Box::new(Tree::new(strip)));
        let before = tree.nodes;
        let outcome = tree.run(strip, nodes.min(left).max(1));
        let spent = tree.nodes - before;
        self.current = (!tree.is_over() && spent < left).then(|| (capacity, left - spent));
        match outcome {
            Outcome::Spent => {}
            Outcome::Refuted => self.bound = self.bound.max(capacity + 1),
            Outcome::Found => {
                self.offsets.copy_from_slice(tree.offsets());
                self.peak = self.top();
            }
        }
        if self.peak <= low.max(self.bound) {
            self.tree = None;
        }
        spent.max(1)
    }

    /// Begins the next try. Says its capacity and how many decisions it may take.
    fn begin(&mut self, goal: u64, low: u64) -> (u64, u64) {
        let Self { strip, tree, .. } = self;
        let tree = tree.get_or_insert_with(|| Box::new(Tree::new(strip)));
        // Whether any lower peak is welcome, and not only one far below what is known.
        let improves = goal + 1 >= self.peak;
        // Most instances reach their bound, and one that does is solved soonest there: every order has its first try at
        // the bound. Other tries aim up and down the ladder.
        let (number, at_bound) = match self.tries {
            tries if !improves => (tries, false),
            tries if tries < 2 * order::ROUND => (tries / 2, tries.is_multiple_of(2)),
            tries => (tries - order::ROUND, false),
        };
        let eighths = if at_bound { 0 } else { LADDER[(number % LADDER.len() as u64) as usize] };
        let high = goal.min(self.peak - 1).max(low);
        let capacity = low + (high - low) / 8 * eighths + (high - low) % 8 * eighths / 8;
        let round = number / order::ROUND;
        let noise = if round < order::WARM { 0 } else { self.seed ^ (number << 20 | 1) };
        tree.guide(&self.offsets);
        tree.start(strip, capacity, order::of(number, improves), noise);
        self.tries += 1;
        // What is found under a chance order is found soon, so that many short tries are worth more than few long ones. Of
        // few buffers the shortest try may be all there is to search.
        let each = TRY.max(4 * strip.len() as u64);
        let most = match round.checked_sub(order::WARM) {
            Some(late) if improves && each > TRY => each / 2 * luby(late + 1),
            _ => each * luby(round + 1),
        };
        (capacity, most)
    }

    fn top(&self) -> u64 {
        let ends = self.offsets.iter().zip(&self.strip.size).map(|(offset, size)| offset + size);
        ends.max().unwrap_or(0).max(self.highest)
    }
}

/// The sequence 1 1 2 1 1 2 4 ... of Luby, Sinclair, Zuckerman (1993), from 1 on.
const fn luby(mut index: u64) -> u64 {
    loop {
        let bits = u64::BITS - index.leading_zeros();
        if index == u64::MAX >> (u64::BITS - bits) {
            return 1 << (bits - 1);
        }
        index -= (1 << (bits - 1)) - 1;
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_sequence_is_lubys() {
        let first: Vec<u64> = (1..=15).map(super::luby).collect();
        assert_eq!(first, [1, 1, 2, 1, 1, 2, 4, 1, 1, 2, 1, 1, 2, 4, 8]);
    }
}
