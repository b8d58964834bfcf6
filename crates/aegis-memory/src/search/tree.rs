//! The exact search: depth first, without recursion, one decision at a time.
//!
//! A decision is "this buffer stays at its floor" or "it does not". Where the open buffers fall apart into ranges of
//! sections that share none of them, each range is searched on its own; a range without a completion refutes the
//! decision that made it, whatever the ranges beside it look like. Ranges that were refuted once are remembered, also
//! from one try to the next: what was refuted is a fact about the range, not about the order it was searched in.

use super::order::{self, Order};
use super::state::{NONE, State, Stuck};
use super::strip::{Range, Strip};

/// Refuted ranges that are remembered; a newer one takes the place of an older one.
const MEMORY: usize = 1 << 14;

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// Every buffer has a place.
    Found,
    /// There is no placement within the capacity.
    Refuted,
    /// The nodes are spent, or the try was given up.
    Spent,
}

/// One range under search.
#[derive(Clone, Copy, Debug)]
struct Frame {
    range: Range,
    /// The frame whose decision made the range.
    parent: u32,
    /// What is still to be searched when this range is done.
    agenda: u32,
    /// How long the agenda was.
    listed: usize,
    /// The state when the range was entered.
    entered: usize,
    /// The state before the decision under trial.
    branched: usize,
    reranked: usize,
    choice: u32,
    print: (u64, u64),
    nodes: u64,
}

/// A range that is still to be searched.
#[derive(Clone, Copy, Debug)]
struct Pending {
    range: Range,
    parent: u32,
    next: u32,
    /// Nothing changes in the range before its turn comes.
    print: (u64, u64),
}

/// A depth-first search over one strip, started and continued in steps.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    state: State,
    order: Order,
    rank: Vec<u32>,
    /// Ranks before they were changed.
    ranks: Vec<(u32, u32)>,
    frames: Vec<Frame>,
    agenda: Vec<Pending>,
    refuted: Vec<(u64, u64)>,
    /// Decisions tried since the tree was made.
    pub(super) nodes: u64,
    verdict: Option<Outcome>,
}

impl Tree {
    pub(super) fn new(strip: &Strip) -> Self {
        Self {
            state: State::new(strip),
            order: order::of(0, false),
            rank: vec![0; strip.len()],
            ranks: Vec::new(),
            frames: Vec::new(),
            agenda: Vec::new(),
            refuted: Vec::new(),
            nodes: 0,
            verdict: None,
        }
    }

    /// Offsets of all items, in units; meaningful after [`Outcome::Found`].
    pub(super) fn offsets(&self) -> &[u64] {
        &self.state.floor
    }

    /// Tells the placement that guided orders follow.
    pub(super) fn guide(&mut self, offsets: &[u64]) {
        self.state.known.copy_from_slice(offsets);
    }

    /// Begins a try. What was learnt in earlier tries stays. Noise other than zero disturbs the ranks.
    pub(super) fn start(&mut self, strip: &Strip, capacity: u64, order: Order, noise: u64) {
        self.frames.clear();
        self.agenda.clear();
        self.ranks.clear();
        self.order = order;
        let whole = (0, strip.sections as u32);
        self.verdict = match self.state.reset(strip, capacity) {
            Err(Stuck) => Some(Outcome::Refuted),
            Ok(()) => {
                self.rerank(strip, whole);
                self.disturb(noise);
                match self.enter(strip, whole, NONE, NONE) {
                    Err(Stuck) => Some(Outcome::Refuted),
                    Ok(()) => self.frames.is_empty().then_some(Outcome::Found),
                }
            }
        };
    }

    /// Whether the try is over, whatever it came to.
    pub(super) const fn is_over(&self) -> bool {
        self.verdict.is_some()
    }

    /// Continues the try for at most `nodes` decisions.
    pub(super) fn run(&mut self, strip: &Strip, nodes: u64) -> Outcome {
        let stop = self.nodes.saturating_add(nodes);
        while self.verdict.is_none() {
            if self.nodes >= stop {
                return Outcome::Spent;
            }
            self.verdict = self.advance(strip);
        }
        self.verdict.unwrap_or(Outcome::Spent)
    }

    fn advance(&mut self, strip: &Strip) -> Option<Outcome> {
        let at = self.frames.len() - 1;
        let frame = self.frames[at];
        let choice = match self.settle(strip, frame.range) {
            Ok(()) => order::choose(&self.state, strip, frame.range, self.order.rule, &self.rank),
            // The try ends here, and refutes nothing.
            Err(Stuck) if self.state.is_endless() => return Some(Outcome::Spent),
            Err(Stuck) => None,
        };
        let Some(item) = choice else { return self.refute(strip, at) };
        self.nodes += 1;
        let frame = &mut self.frames[at];
        (frame.branched, frame.reranked, frame.choice) = (self.state.mark(), self.ranks.len(), item as u32);
        let (range, agenda) = (frame.range, frame.agenda);
        let depth = self.frames.len();
        let entered =
            self.state.place(strip, item).and_then(|()| self.enter(strip, range, at as u32, agenda));
        match entered {
            Err(Stuck) => self.reject(strip, at),
            Ok(()) if self.frames.len() == depth => return Some(Outcome::Found),
            Ok(()) => {}
        }
        None
    }

    /// Draws conclusions until there are none.
    fn settle(&mut self, strip: &Strip, range: Range) -> Result<(), Stuck> {
        self.state.propagate(strip, range)?;
        while self.state.tighten(strip, range)? {
            self.state.propagate(strip, range)?;
        }
        Ok(())
    }

    /// The range has no completion: neither has the decision that made it.
    fn refute(&mut self, strip: &Strip, at: usize) -> Option<Outcome> {
        let frame = self.frames[at];
        if self.nodes > frame.nodes {
            if self.refuted.is_empty() {
                self.refuted = vec![(0, 0); MEMORY];
            }
            self.refuted[frame.print.0 as usize % MEMORY] = frame.print;
        }
        self.state.undo(strip, frame.entered);
        if frame.parent == NONE {
            return Some(Outcome::Refuted);
        }
        let parent = frame.parent as usize;
        self.frames.truncate(parent + 1);
        self.reject(strip, parent);
        None
    }

    /// The buffer that a frame tried does not stay at its floor.
    fn reject(&mut self, strip: &Strip, at: usize) {
        let frame = self.frames[at];
        self.state.undo(strip, frame.branched);
        self.agenda.truncate(frame.listed);
        for (item, rank) in self.ranks.drain(frame.reranked..).rev() {
            self.rank[item as usize] = rank;
        }
        self.state.pass(frame.choice as usize);
    }

    /// Splits what is open in a range, and begins the next range if anything is left to search.
    fn enter(&mut self, strip: &Strip, range: Range, parent: u32, mut agenda: u32) -> Result<(), Stuck> {
        let mut parts = self.split(strip, range)?;
        if parts.len() > 1 {
            parts.iter().for_each(|&(_, part)| self.rerank(strip, part));
        }
        // The largest is searched last: the small ones are refuted, if at all, at little cost.
        parts.sort_unstable_by_key(|&(count, part)| (std::cmp::Reverse(count), part));
        for &(_, part) in &parts {
            let print = self.print(strip, part);
            if self.is_refuted(print) {
                return Err(Stuck);
            }
            self.agenda.push(Pending { range: part, parent, next: agenda, print });
            agenda = self.agenda.len() as u32 - 1;
        }
        if agenda != NONE {
            let Pending { range, parent, next, print } = self.agenda[agenda as usize];
            let (entered, listed) = (self.state.mark(), self.agenda.len());
            let (branched, reranked) = (entered, self.ranks.len());
            self.frames.push(Frame {
                range,
                parent,
                agenda: next,
                listed,
                entered,
                branched,
                reranked,
                choice: NONE,
                print,
                nodes: self.nodes,
            });
        }
        Ok(())
    }

    /// The ranges into which the open buffers of a range fall, with their numbers. A buffer that overlaps nothing
    /// open is as good as placed.
    fn split(&self, strip: &Strip, (from, to): Range) -> Result<Vec<(usize, Range)>, Stuck> {
        let mut parts = Vec::new();
        let mut start = from;
        for section in from..to {
            if section + 1 < to && self.state.across(section as usize) > 0 {
                continue;
            }
            let part = (start, section + 1);
            start = section + 1;
            let (first, last) = strip.items_of(part);
            let mut open = self.state.open_between(first, last);
            match (open.next(), open.count()) {
                (None, _) => {}
                (Some(item), 0) if self.state.is_passed(item) => return Err(Stuck),
                (Some(_), 0) => {}
                (Some(_), others) => parts.push((others + 1, part)),
            }
        }
        Ok(parts)
    }

    fn rerank(&mut self, strip: &Strip, range: Range) {
        for (item, rank) in order::ranked(&self.state, strip, range, self.order.keys).into_iter().zip(0..) {
            self.ranks.push((item as u32, self.rank[item]));
            self.rank[item] = rank;
        }
    }

    /// Exchanges the ranks of some buffers that are near in time.
    fn disturb(&mut self, noise: u64) {
        let mut word = noise;
        for at in 1..if noise == 0 { 0 } else { self.rank.len() } {
            // A linear congruence; its high bits are good enough to break ties.
            word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            if word >> 58 < self.order.swaps() {
                self.rank.swap(at - 1, at);
            }
        }
    }

    fn print(&self, strip: &Strip, range: Range) -> (u64, u64) {
        let (first, last) = strip.items_of(range);
        self.state.fingerprint(first, last)
    }

    fn is_refuted(&self, print: (u64, u64)) -> bool {
        !self.refuted.is_empty() && self.refuted[print.0 as usize % MEMORY] == print
    }
}
