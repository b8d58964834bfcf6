//! Slow, obvious answers, random problems, and the runner of all properties.

use std::fmt::Debug;

use aegis_memory::{Buffer, BufferId, Placed, Placement, Problem};
use aegis_types::{Bytes, LaneId, MemoryClass, TaskId};
use proptest::prelude::{Just, Strategy, prop_oneof};
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};

/// Runs a property on `cases` random values; a failure prints the smallest one and the command that repeats it.
pub fn check<S: Strategy>(
    name: &str,
    cases: u32,
    strategy: S,
    property: impl Fn(S::Value) -> Result<(), TestCaseError>,
) where
    S::Value: Debug,
{
    let seed =
        std::env::var("AEGIS_SEED").ok().map_or(1, |text| text.parse().expect("AEGIS_SEED is a number"));
    let rng_seed = RngSeed::Fixed(seed);
    let config = Config { cases, rng_seed, failure_persistence: None, ..Config::default() };
    if let Err(error) = TestRunner::new(config).run(&strategy, property) {
        panic!("{error}\nrepeat: AEGIS_SEED={seed} cargo test -p aegis-memory --test memory {name}");
    }
}

/// Random buffers on up to three lanes; every fifth or so is exclusive.
pub fn buffers(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Buffer>> {
    let class = prop_oneof![
        8 => Just(MemoryClass::Scratch),
        1 => Just(MemoryClass::Persistent),
        1 => Just(MemoryClass::Exchange),
    ];
    let buffer = (0..=24u64, 0..4u32, 0..8u64, 1..5u64, 0..4u16, 0..3u16, class);
    proptest::collection::vec(buffer, count).prop_map(|rows| {
        (0..)
            .zip(rows)
            .map(|(id, (size, shift, lower, width, owner, lane, class))| Buffer {
                id: BufferId(id),
                size: Bytes::new(size),
                align: Bytes::new(1 << shift),
                lower,
                upper: lower + width,
                owner: TaskId::new(owner),
                lane: LaneId::new(lane),
                class,
                fixed: None,
            })
            .collect()
    })
}

pub fn problem(buffers: &[Buffer], capacity: u64) -> Problem {
    Problem::new(buffers.to_vec(), Bytes::new(capacity)).expect("a legal problem")
}

pub fn placement(offsets: &[u64]) -> Placement {
    let placed = (0..).zip(offsets).map(|(id, &o)| Placed { buffer: BufferId(id), offset: Bytes::new(o) });
    Placement { placed: placed.collect() }
}

/// The sharing rule, spelled out a second time.
pub fn may_share(a: &Buffer, b: &Buffer) -> bool {
    let scratch = a.class == MemoryClass::Scratch && b.class == MemoryClass::Scratch;
    let apart = (a.lower..a.upper).all(|instant| !(b.lower..b.upper).contains(&instant));
    scratch && a.lane == b.lane && apart
}

fn touch(a: &Buffer, at: u64, b: &Buffer, bt: u64) -> bool {
    (at..at + a.size.get()).any(|byte| (bt..bt + b.size.get()).contains(&byte))
}

/// Whether a complete placement is legal: every pair, byte by byte.
pub fn is_legal(buffers: &[Buffer], offsets: &[u64], capacity: u64) -> bool {
    let alone = buffers.iter().zip(offsets).all(|(b, &offset)| {
        offset % b.align.get() == 0
            && offset + b.size.get() <= capacity
            && b.fixed.is_none_or(|fixed| fixed.get() == offset)
    });
    let pairs = (0..buffers.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
    let mut clash = pairs.filter(|&(a, b)| {
        !may_share(&buffers[a], &buffers[b]) && touch(&buffers[a], offsets[a], &buffers[b], offsets[b])
    });
    alone && clash.next().is_none()
}

/// The best placement there is: some order of the buffers, each at its lowest legal offset, attains it.
pub fn optimum(buffers: &[Buffer]) -> (u64, Vec<u64>) {
    let mut best = (u64::MAX, Vec::new());
    permute(&mut (0..buffers.len()).collect::<Vec<_>>(), 0, &mut |order| {
        let mut offsets: Vec<Option<u64>> = vec![None; buffers.len()];
        for &next in order {
            let free = |&at: &u64| {
                offsets.iter().zip(buffers).all(|(&offset, other)| {
                    offset.is_none_or(|offset| {
                        may_share(&buffers[next], other) || !touch(&buffers[next], at, other, offset)
                    })
                })
            };
            let step = buffers[next].align.get() as usize;
            offsets[next] = Some((0..).step_by(step).find(free).expect("space is endless"));
        }
        let offsets: Vec<u64> =
            offsets.into_iter().map(|offset| offset.expect("every one is placed")).collect();
        let peak = buffers.iter().zip(&offsets).filter(|(b, _)| !b.size.is_zero());
        let peak = peak.map(|(b, offset)| b.size.get() + offset).max().unwrap_or(0);
        if peak < best.0 {
            best = (peak, offsets);
        }
    });
    best
}

fn permute(items: &mut [usize], fixed: usize, visit: &mut impl FnMut(&[usize])) {
    if fixed == items.len() {
        return visit(items);
    }
    for next in fixed..items.len() {
        items.swap(fixed, next);
        permute(items, fixed + 1, visit);
        items.swap(fixed, next);
    }
}
