//! One thousand plans, each broken in every way that matters: the verifier has to find all of it.
//!
//! Placements are made here, legal by construction and without any planner: space is cut into slabs, and the slabs of
//! a lane, or of lanes in a row of edges, are used by one buffer after another. So it is known of every break that it
//! is one, and which.

use aegis_memory::verify::check_placement;
use aegis_memory::{Buffer, BufferId, Conflict, Edge, Fault, Placement, Problem};
use aegis_types::{Bytes, LaneId, MemoryClass, TaskId};

use crate::oracle::placement;
use crate::verifier::scratch;

const SEEDS: u64 = 1000;

/// SplitMix64 (Steele, Lea and Flood 2014): enough to tell cases apart.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % sides
    }
}

/// A legal placement, with pairs that share bytes.
#[derive(Clone)]
struct Legal {
    buffers: Vec<Buffer>,
    offsets: Vec<u64>,
    edges: Vec<Edge>,
    capacity: u64,
    /// Buffers of one lane that follow each other in one slab.
    follow: Vec<(usize, usize)>,
    /// Buffers of two lanes in one slab, and the edge that lets them share it.
    ordered: Vec<(usize, usize, usize)>,
}

impl Legal {
    /// Every slab has a size, and each buffer in it is as large or smaller, at its start.
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let edges = Vec::new();
        let mut legal = Self {
            buffers: Vec::new(),
            offsets: Vec::new(),
            edges,
            capacity: 0,
            follow: Vec::new(),
            ordered: Vec::new(),
        };
        // Lane 1 waits at instant 10 for all that lane 0 does before it, lane 3 for lane 2: lanes 0 and 2 are free.
        for (before, after) in [(0, 1), (2, 3)] {
            let edge = Edge { before: (LaneId::new(before), 10), after: (LaneId::new(after), 10) };
            legal.edges.push(edge);
        }
        for lane in 0..4 {
            for _ in 0..1 + dice.roll(3) {
                legal.slab_of_one_lane(&mut dice, lane);
            }
        }
        for edge in 0..2 {
            for _ in 0..1 + dice.roll(3) {
                legal.slab_of_two_lanes(&mut dice, edge);
            }
        }
        for _ in 0..dice.roll(4) {
            let upper = 1 + dice.roll(5);
            let at = legal.add(&mut dice, 0, 0, upper, 64);
            legal.buffers[at].class = [MemoryClass::Persistent, MemoryClass::Exchange][dice.roll(2) as usize];
            legal.capacity += 64;
        }
        legal
    }

    /// A buffer at the start of the slab that is being filled.
    fn add(&mut self, dice: &mut Dice, lane: u16, lower: u64, upper: u64, slab: u64) -> usize {
        let at = self.buffers.len();
        let align = 1 << dice.roll(4);
        let size = Bytes::new(slab - dice.roll(slab / 2));
        let number = u16::try_from(at).expect("a few dozen");
        let buffer = Buffer { size, align: Bytes::new(align), ..scratch(number, lane, lower, upper, 1) };
        self.buffers.push(buffer);
        self.offsets.push(self.capacity);
        at
    }

    fn slab_of_one_lane(&mut self, dice: &mut Dice, lane: u16) {
        let slab = 16 + 16 * dice.roll(6);
        let mut lower = dice.roll(3);
        let mut last = None;
        for _ in 0..2 + dice.roll(4) {
            let upper = lower + 1 + dice.roll(3);
            let at = self.add(dice, lane, lower, upper, slab);
            self.follow.extend(last.map(|last| (last, at)));
            last = Some(at);
            lower = upper + dice.roll(2);
        }
        self.capacity += slab;
    }

    fn slab_of_two_lanes(&mut self, dice: &mut Dice, edge: usize) {
        let slab = 16 + 16 * dice.roll(6);
        let Edge { before, after } = self.edges[edge];
        let (lower, begin) = (dice.roll(9), after.1 + dice.roll(5));
        let upper = lower + 1 + dice.roll(before.1 - lower);
        let first = self.add(dice, before.0.get(), lower, upper, slab);
        let end = begin + 1 + dice.roll(4);
        let second = self.add(dice, after.0.get(), begin, end, slab);
        self.ordered.push((first, second, edge));
        self.capacity += slab;
    }

    fn judged(&self) -> Result<Bytes, Fault> {
        let problem = Problem::new(self.buffers.clone(), Bytes::new(self.capacity)).expect("a legal problem");
        let placement: Placement = placement(&self.offsets);
        check_placement(&problem.with_order(self.edges.clone()), &placement)
    }

    fn pick<T: Copy>(dice: &mut Dice, of: &[T]) -> T {
        of[dice.roll(of.len() as u64) as usize]
    }
}

/// Breaks every legal placement, and wants every break found.
fn every(name: &str, broken: impl Fn(&mut Legal, &mut Dice), found: impl Fn(&Fault) -> bool) {
    for seed in 0..SEEDS {
        let mut legal = Legal::new(seed);
        let repeat = format!("seed {seed}: cargo test -p aegis-memory --test memory faults::{name}");
        assert!(legal.judged().is_ok(), "the generator is wrong: {:?}; {repeat}", legal.judged());
        broken(&mut legal, &mut Dice(!seed));
        let verdict = legal.judged();
        assert!(verdict.as_ref().is_err_and(&found), "{verdict:?}; {repeat}");
    }
}

fn overlap(why: Conflict) -> impl Fn(&Fault) -> bool {
    move |fault| matches!(fault, Fault::Overlap { why: found, .. } if *found == why)
}

#[test]
fn every_overlap_is_found() {
    // Two buffers that follow each other in one slab are in use together, wherever they begin in it.
    let broken = |legal: &mut Legal, dice: &mut Dice| {
        let (first, second) = Legal::pick(dice, &legal.follow);
        legal.buffers[second].lower = legal.buffers[first].lower;
        legal.buffers[second].upper = legal.buffers[first].upper;
    };
    every("every_overlap_is_found", broken, overlap(Conflict::Interval));
}

#[test]
fn every_moved_buffer_that_hits_an_exclusive_one_is_found() {
    let broken = |legal: &mut Legal, dice: &mut Dice| {
        let at = dice.roll(legal.buffers.len() as u64) as usize;
        let (size, align) = (legal.buffers[at].size, Bytes::new(8));
        let number = legal.buffers.len();
        let class = MemoryClass::Persistent;
        let intruder = Buffer { size, align, class, ..scratch(number as u16, 0, 0, 1, 1) };
        legal.buffers.push(Buffer {
            id: BufferId(number as u32),
            owner: TaskId::new(number as u16),
            ..intruder
        });
        // Any byte of the other will do, where the alignment allows it.
        let inside = dice.roll(size.get()) / 8 * 8;
        legal.offsets.push(legal.offsets[at] + inside);
        legal.capacity += 256;
    };
    every("every_moved_buffer_that_hits_an_exclusive_one_is_found", broken, overlap(Conflict::Exclusive));
}

#[test]
fn every_wrong_alignment_is_found() {
    let broken = |legal: &mut Legal, dice: &mut Dice| {
        let at = dice.roll(legal.buffers.len() as u64) as usize;
        let align = 2 << dice.roll(6);
        legal.buffers[at].align = Bytes::new(align);
        legal.capacity += 256;
        // An offset that is off by anything but whole steps.
        legal.offsets[at] = legal.offsets[at].next_multiple_of(align) + 1 + dice.roll(align - 1);
    };
    every("every_wrong_alignment_is_found", broken, |fault| matches!(fault, Fault::Misaligned { .. }));
}

#[test]
fn every_byte_beyond_the_capacity_is_found() {
    let broken = |legal: &mut Legal, dice: &mut Dice| {
        let ends = legal.buffers.iter().zip(&legal.offsets);
        let peak = ends.map(|(buffer, offset)| buffer.size.get() + offset).max().expect("some buffer");
        legal.capacity = peak - 1 - dice.roll(8);
    };
    every("every_byte_beyond_the_capacity_is_found", broken, |fault| {
        matches!(fault, Fault::BeyondCapacity { .. })
    });
}

#[test]
fn every_missing_edge_is_found() {
    let broken = |legal: &mut Legal, dice: &mut Dice| {
        let (first, second, edge) = Legal::pick(dice, &legal.ordered);
        let (ends, begins) = (legal.buffers[first].upper, legal.buffers[second].lower);
        match dice.roll(4) {
            0 => {
                let _removed = legal.edges.remove(edge);
            }
            // It waits for less than the first use.
            1 => legal.edges[edge].before.1 = dice.roll(ends),
            // It holds back less than the second use.
            2 => legal.edges[edge].after.1 = begins + 1 + dice.roll(3),
            // It stands the wrong way round.
            _ => {
                let Edge { before, after } = legal.edges[edge];
                legal.edges[edge] = Edge { before: after, after: before };
            }
        }
    };
    every("every_missing_edge_is_found", broken, overlap(Conflict::Lanes));
}

#[test]
fn every_wrong_lifetime_is_found() {
    let broken = |legal: &mut Legal, dice: &mut Dice| {
        if dice.roll(2) == 0 {
            // It is in use when the next one of its slab begins, or the one before ends.
            let (first, second) = Legal::pick(dice, &legal.follow);
            match dice.roll(2) {
                0 => legal.buffers[first].upper = legal.buffers[second].lower + 1,
                _ => legal.buffers[second].lower = legal.buffers[first].upper - 1,
            }
        } else {
            let (first, second, edge) = Legal::pick(dice, &legal.ordered);
            match dice.roll(2) {
                0 => legal.buffers[first].upper = legal.edges[edge].before.1 + 1 + dice.roll(3),
                _ => legal.buffers[second].lower = legal.edges[edge].after.1 - 1 - dice.roll(9),
            }
        }
    };
    every("every_wrong_lifetime_is_found", broken, |fault| {
        matches!(fault, Fault::Overlap { why: Conflict::Interval | Conflict::Lanes, .. })
    });
}

#[test]
fn every_wrong_lane_is_found() {
    let broken = |legal: &mut Legal, dice: &mut Dice| {
        let (first, second) = Legal::pick(dice, &legal.follow);
        let moved = if dice.roll(2) == 0 { first } else { second };
        // A lane without any edge.
        legal.buffers[moved].lane = LaneId::new(4 + dice.roll(9) as u16);
    };
    every("every_wrong_lane_is_found", broken, overlap(Conflict::Lanes));
}
