//! The planner for hard problems: exact where that is possible, better and better where it is not.
//!
//! A [`Search`] has a placement from its start on and improves it in steps whose size the caller chooses. It has no
//! clock and no thread: who wants either calls [`Search::step`] in a loop of their own, several searches with several
//! seeds if they like. Equal problems, seeds and steps give equal placements.
//!
//! How it works, from the outside in. Lanes never share, so each lane's scratch is a *layer* of its own, and
//! exclusive bytes lie above. A layer falls into *parts* that share no instant. Each part gets one greedy pass after
//! another, then tries of the exact search under several orders, whose lengths follow Luby's sequence, at capacities
//! from the lower bound to just below the best known; a part that is too large for that is repaired around its peak.
//! To minimise, every order begins with a try at the bound, and later ones follow the best placement that is known.
//! The work goes to the part that makes the peak.
//!
//! Sources: canonical placements, section bounds and decomposition as in Moffitt (2023); orders, the rule of the
//! tightest section, remembered refutations and the bound of passed buffers are explained where they are made.
//!
//! | module | what it holds |
//! |---|---|
//! | `strip` | an instance, scaled and cut |
//! | `greedy` | placements in one pass |
//! | `state`, `order`, `tree` | the exact search: what is placed, what comes next, what was refuted |
//! | `tight` | what follows where no room is left to waste |
//! | `repair` | large neighbourhood search |
//! | `part` | who works when |

mod greedy;
mod order;
mod part;
mod repair;
mod state;
mod strip;
mod tight;
mod tree;

use aegis_types::{Bytes, LaneId, MemoryClass};

use crate::error::MemoryError;
use crate::lowest_offset::LowestOffsetFirst;
use crate::planner::Planner;
use crate::problem::{Buffer, Placed, Placement, Problem};
use crate::verify::check_placement;
use part::Part;
use strip::{Item, Strip};

/// When a search is content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goal {
    /// With the lowest peak there is.
    Least,
    /// With any peak within the capacity.
    Within,
}

/// What a search can say of its problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// The placement is within the capacity, and no placement has a lower peak.
    Optimal,
    /// The placement is within the capacity; no placement has a peak below `bound`.
    Feasible {
        /// A peak that no placement can beat.
        bound: Bytes,
    },
    /// Proven: there is no placement within the capacity.
    Infeasible {
        /// A peak that no placement can beat, above the capacity.
        bound: Bytes,
    },
    /// No placement within the capacity is known, and none is ruled out. A larger budget may decide, unless offsets are
    /// fixed that contradict each other.
    Timeout {
        /// A peak that no placement can beat.
        bound: Bytes,
    },
}

/// One lane's scratch, or everything where offsets are fixed.
#[derive(Clone, Debug)]
struct Layer {
    /// The largest alignment in it: that of its base.
    align: u64,
    unit: u64,
    /// For each part, the buffer behind each item.
    buffers: Vec<Vec<u32>>,
    parts: Vec<Part>,
}

impl Layer {
    fn new(members: &[(u32, Item)], seed: u64) -> Self {
        let items: Vec<Item> = members.iter().map(|(_, item)| item.clone()).collect();
        let whole = Strip::new(&items);
        let (mut buffers, mut parts) = (Vec::new(), Vec::new());
        for part in whole.parts() {
            let source = |&item: &u32| members[whole.source[item as usize] as usize].0;
            buffers.push(part.source.iter().map(source).collect());
            parts.push(Part::new(part, seed));
        }
        let align = items.iter().map(|item| item.align).max().unwrap_or(1);
        Self { align, unit: whole.unit, buffers, parts }
    }

    fn peak(&self) -> u64 {
        self.parts.iter().map(|part| part.peak).max().unwrap_or(0)
    }

    fn bound(&self) -> u64 {
        self.parts.iter().map(|part| part.bound).max().unwrap_or(0)
    }

    fn is_done(&self) -> bool {
        self.peak() <= self.bound()
    }

    /// Works on the part that makes the peak.
    fn step(&mut self, goal: u64, nodes: u64) -> u64 {
        let enough = self.bound();
        let highest = self.parts.iter_mut().rev().max_by_key(|part| part.peak);
        highest.map_or(1, |part| part.step(goal, enough, nodes))
    }
}

/// A search for a placement, continued in steps.
///
/// ```
/// use aegis_memory::search::{Goal, Search, Status};
/// use aegis_memory::{Buffer, BufferId, Problem};
/// use aegis_types::{Bytes, LaneId, MemoryClass, TaskId};
///
/// let buffer = |id, lower, upper, size| Buffer {
///     id: BufferId(id), size: Bytes::new(size), align: Bytes::new(1), lower, upper,
///     owner: TaskId::new(0), lane: LaneId::new(0), class: MemoryClass::Scratch, fixed: None,
/// };
/// let buffers = vec![buffer(0, 0, 3, 4), buffer(1, 3, 9, 4), buffer(2, 0, 9, 4), buffer(3, 9, 21, 8)];
/// let mut search = Search::new(&Problem::new(buffers, Bytes::new(12))?, Goal::Least, 0);
/// while !search.step(1000) {}
/// assert_eq!((search.status(), search.peak()), (Status::Optimal, Bytes::new(8)));
/// # Ok::<(), aegis_memory::MemoryError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Search {
    problem: Problem,
    goal: Goal,
    layers: Vec<Layer>,
    /// Offsets where layers are of no use: fixed offsets among several lanes.
    given: Option<Vec<u64>>,
    /// Whether the bounds of layers add up to a bound of the whole.
    additive: bool,
    /// [`Problem::lower_bound`].
    load: Bytes,
    /// Bytes above all layers, without what alignment adds.
    stacked: u64,
    peak: Bytes,
    turn: usize,
    nodes: u64,
}

impl Search {
    /// Begins a search with a first placement. The seed chooses among equals; any is as good as another.
    pub fn new(problem: &Problem, goal: Goal, seed: u64) -> Self {
        let mut search = Self {
            problem: problem.clone(),
            goal,
            layers: Vec::new(),
            given: None,
            additive: !problem.has_windows() && problem.order().is_empty(),
            load: problem.lower_bound(),
            stacked: 0,
            peak: Bytes::ZERO,
            turn: 0,
            nodes: problem.buffers().len() as u64,
        };
        search.stacked = search.stacked().map(|buffer| buffer.size.get()).sum();
        let buffers = problem.buffers();
        let mut lanes: Vec<LaneId> = buffers.iter().filter(|b| is_scratch(b)).map(|b| b.lane).collect();
        lanes.sort_unstable();
        lanes.dedup();
        let fixed = buffers.iter().any(|buffer| buffer.fixed.is_some());
        if fixed && lanes.len() > 1 {
            search.given = Some(LowestOffsetFirst.offsets(problem));
        } else if fixed {
            search.layers.push(Layer::new(&search.members(|_| true), seed));
        } else {
            for lane in lanes {
                let layer = Layer::new(&search.members(|b| is_scratch(b) && b.lane == lane), seed);
                search.layers.push(layer);
            }
            // Holes that alignment leaves in one layer could be filled by another.
            let holes = buffers.iter().any(|b| !b.size.get().is_multiple_of(b.align.get()));
            search.additive &= !holes || search.layers.len() + usize::from(search.stacked > 0) < 2;
        }
        search.peak = search.measured();
        search
    }

    fn members(&self, of: impl Fn(&Buffer) -> bool) -> Vec<(u32, Item)> {
        let buffers = self.problem.buffers();
        let start = buffers.iter().map(|buffer| buffer.lower).min().unwrap_or(0);
        let end = buffers.iter().map(|buffer| buffer.upper).max().unwrap_or(1);
        let chosen = buffers.iter().filter(|buffer| of(buffer));
        chosen
            .map(|buffer| {
                let live = if is_scratch(buffer) { self.problem.live(buffer) } else { vec![(start, end)] };
                let fixed = buffer.fixed.map(Bytes::get);
                (buffer.id.0, Item { size: buffer.size.get(), align: buffer.align.get(), live, fixed })
            })
            // What is live at no time conflicts with nothing, wherever it lies.
            .filter(|(_, item)| !item.live.is_empty())
            .collect()
    }

    /// Continues for about `nodes` placements of one buffer, at least one; a greedy pass or a repair is not
    /// interrupted. Returns whether there is nothing left to do.
    pub fn step(&mut self, nodes: u64) -> bool {
        let stop = self.nodes.saturating_add(nodes.max(1));
        while !self.is_done() {
            if self.nodes >= stop {
                return false;
            }
            let capacity = self.problem.capacity().get();
            let single = self.layers.len() == 1 && self.goal == Goal::Within && self.stacked == 0;
            let count = self.layers.len();
            let open = (0..count).map(|at| (self.turn + at) % count).find(|&at| !self.layers[at].is_done());
            let Some(at) = open else { return true };
            self.turn = at + 1;
            let layer = &mut self.layers[at];
            let before = layer.peak();
            let goal = if single { capacity / layer.unit } else { before.saturating_sub(1) };
            self.nodes += layer.step(goal, stop - self.nodes);
            if layer.peak() < before {
                self.peak = self.measured();
            }
        }
        true
    }

    fn is_done(&self) -> bool {
        let (peak, bound, capacity) = (self.peak(), self.bound(), self.problem.capacity());
        let content = self.goal == Goal::Within && (peak <= capacity || bound > capacity);
        content || peak <= bound || self.layers.iter().all(Layer::is_done)
    }

    /// Placements of one buffer tried so far.
    pub const fn nodes(&self) -> u64 {
        self.nodes
    }

    /// The peak of the best placement so far, within the capacity or not.
    pub const fn peak(&self) -> Bytes {
        self.peak
    }

    fn measured(&self) -> Bytes {
        let offsets = self.offsets();
        let buffers = self.problem.buffers().iter().filter(|buffer| !buffer.size.is_zero());
        let ends = buffers.map(|buffer| offsets[buffer.id.index()] + buffer.size.get());
        Bytes::new(ends.max().unwrap_or(0))
    }

    /// A peak that no placement can beat, as far as is known.
    pub fn bound(&self) -> Bytes {
        if !self.additive || self.given.is_some() {
            return self.load;
        }
        let layers = self.layers.iter().map(|layer| layer.bound().saturating_mul(layer.unit));
        self.load.max(Bytes::new(layers.fold(self.stacked, u64::saturating_add)))
    }

    /// What is known of the problem.
    pub fn status(&self) -> Status {
        let (peak, bound, capacity) = (self.peak(), self.bound(), self.problem.capacity());
        match (peak <= capacity && self.is_legal(), bound) {
            (true, bound) if peak <= bound => Status::Optimal,
            (true, bound) => Status::Feasible { bound },
            (false, bound) if bound > capacity => Status::Infeasible { bound },
            (false, bound) => Status::Timeout { bound },
        }
    }

    /// Whether the best placement is one. Offsets that are fixed may contradict each other, or leave no room that the
    /// search finds; the verifier says so. Without them every placement of the search is legal by construction.
    fn is_legal(&self) -> bool {
        let fixed = self.problem.buffers().iter().any(|buffer| buffer.fixed.is_some());
        !fixed || check_placement(&self.problem, &self.placement()).is_ok()
    }

    /// The best placement so far, within the capacity or not.
    pub fn placement(&self) -> Placement {
        let offsets = self.offsets();
        let place =
            |buffer: &Buffer| Placed { buffer: buffer.id, offset: Bytes::new(offsets[buffer.id.index()]) };
        Placement { placed: self.problem.buffers().iter().map(place).collect() }
    }

    /// Buffers that no layer holds: exclusive ones, where no offset is fixed.
    fn stacked(&self) -> impl Iterator<Item = &Buffer> {
        let fixed = self.problem.buffers().iter().any(|buffer| buffer.fixed.is_some());
        self.problem
            .buffers()
            .iter()
            .filter(move |buffer| !fixed && !is_scratch(buffer) && !buffer.size.is_zero())
    }

    fn offsets(&self) -> Vec<u64> {
        if let Some(given) = &self.given {
            return given.clone();
        }
        let mut offsets: Vec<u64> =
            self.problem.buffers().iter().map(|buffer| buffer.fixed.map_or(0, Bytes::get)).collect();
        let mut layers: Vec<&Layer> = self.layers.iter().collect();
        layers.sort_by_key(|layer| std::cmp::Reverse(layer.align));
        let mut top = 0u64;
        for layer in layers {
            let base = top.next_multiple_of(layer.align);
            for (part, buffers) in layer.parts.iter().zip(&layer.buffers) {
                for (&buffer, offset) in buffers.iter().zip(&part.offsets) {
                    offsets[buffer as usize] = base + offset * layer.unit;
                }
            }
            top = base + layer.peak() * layer.unit;
        }
        let mut stacked: Vec<&Buffer> = self.stacked().collect();
        stacked.sort_by_key(|buffer| std::cmp::Reverse(buffer.align));
        for buffer in stacked {
            let offset = top.next_multiple_of(buffer.align.get());
            offsets[buffer.id.index()] = offset;
            top = offset + buffer.size.get();
        }
        offsets
    }
}

const fn is_scratch(buffer: &Buffer) -> bool {
    matches!(buffer.class, MemoryClass::Scratch)
}

/// The search as a [`Planner`] with a budget.
#[derive(Clone, Copy, Debug)]
pub struct Portfolio {
    /// Chooses among equals.
    pub seed: u64,
    /// Placements of one buffer that it may try.
    pub nodes: u64,
}

impl Default for Portfolio {
    fn default() -> Self {
        Self { seed: 0, nodes: 200_000 }
    }
}

impl Planner for Portfolio {
    fn name(&self) -> &str {
        "portfolio"
    }

    fn place(&self, problem: &Problem) -> Result<Placement, MemoryError> {
        let mut search = Search::new(problem, Goal::Least, self.seed);
        search.step(self.nodes);
        let (peak, capacity) = (search.peak(), problem.capacity());
        if peak > capacity || !search.is_legal() {
            return Err(MemoryError::NoPlacement { planner: self.name().into(), peak, capacity });
        }
        Ok(search.placement())
    }
}
