//! The arena against a map of single bytes.

use aegis_memory::{Arena, ArenaError};
use aegis_types::{Bytes, Extent, TaskId};
use proptest::prelude::{Just, Strategy, prop_assert_eq, prop_oneof};

use crate::oracle::check;

const START: u64 = 40;
const LEN: u64 = 160;

#[derive(Clone, Copy, Debug)]
enum Step {
    Allocate { owner: u16, bytes: u64, align: u64, limit: u64 },
    Free(usize),
    FreeAll(u16),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let limit = prop_oneof![3 => Just(LEN), 1 => 0..LEN];
    let allocate = (0..3u16, 0..40u64, 0..5u32, limit)
        .prop_map(|(owner, bytes, shift, limit)| Step::Allocate { owner, bytes, align: 1 << shift, limit });
    let step = prop_oneof![6 => allocate, 5 => (0..64usize).prop_map(Step::Free), 1 => (0..3u16).prop_map(Step::FreeAll)];
    proptest::collection::vec(step, 0..80)
}

/// Who holds each byte.
struct ByteMap(Vec<Option<u16>>);

impl ByteMap {
    fn allocate(&mut self, owner: u16, bytes: u64, align: u64, limit: u64) -> Option<u64> {
        let free = |at: u64| (at..at + bytes).all(|byte| self.0[(byte - START) as usize].is_none());
        let last = START + limit;
        let at = (START..last).find(|&at| at % align == 0 && at + bytes <= last && free(at))?;
        (at..at + bytes).for_each(|byte| self.0[(byte - START) as usize] = Some(owner));
        Some(at)
    }

    fn release(&mut self, at: u64, bytes: u64) {
        (at..at + bytes).for_each(|byte| self.0[(byte - START) as usize] = None);
    }
}

fn extent(offset: u64, len: u64) -> Extent {
    Extent { offset: Bytes::new(offset), len: Bytes::new(len) }
}

#[test]
fn it_equals_a_map_of_bytes() {
    check("it_equals_a_map_of_bytes", 3000, steps(), |steps| {
        let mut arena = Arena::new(extent(START, LEN), 64);
        let mut map = ByteMap(vec![None; LEN as usize]);
        let mut lent: Vec<(u16, Extent)> = Vec::new();
        let mut high = 0;
        for step in steps {
            match step {
                Step::Allocate { bytes: 0, .. } => {}
                Step::Allocate { owner, bytes, align, limit } => {
                    let (size, align, limit) = (Bytes::new(bytes), Bytes::new(align), Bytes::new(limit));
                    let before = format!("{arena:?}");
                    let got = arena.allocate_within(TaskId::new(owner), size, align, limit);
                    let expected = map.allocate(owner, bytes, align.get(), limit.get());
                    prop_assert_eq!(got.ok().map(|e| e.offset.get()), expected);
                    match expected {
                        Some(at) => {
                            lent.push((owner, extent(at, bytes)));
                            high = high.max(at + bytes - START);
                        }
                        None => prop_assert_eq!(format!("{arena:?}"), before, "a refusal changed the arena"),
                    }
                }
                Step::Free(pick) if !lent.is_empty() => {
                    let (owner, extent) = lent.swap_remove(pick % lent.len());
                    let before = format!("{arena:?}");
                    let stranger = TaskId::new(owner + 1);
                    let not_lent = Err(ArenaError::NotLent { owner: stranger, extent });
                    prop_assert_eq!(arena.free(stranger, extent), not_lent);
                    prop_assert_eq!(format!("{arena:?}"), before);
                    prop_assert_eq!(arena.free(TaskId::new(owner), extent), Ok(()));
                    let twice = arena.free(TaskId::new(owner), extent);
                    prop_assert_eq!(twice, Err(ArenaError::NotLent { owner: TaskId::new(owner), extent }));
                    map.release(extent.offset.get(), extent.len.get());
                }
                Step::Free(_) => {}
                Step::FreeAll(owner) => {
                    let held: u64 = lent.iter().filter(|l| l.0 == owner).map(|l| l.1.len.get()).sum();
                    lent.retain(|l| l.0 != owner);
                    map.0.iter_mut().filter(|byte| **byte == Some(owner)).for_each(|byte| *byte = None);
                    prop_assert_eq!(arena.free_all(TaskId::new(owner)), Bytes::new(held));
                }
            }
            prop_assert_eq!(arena.used().get(), map.0.iter().flatten().count() as u64);
            prop_assert_eq!(arena.high_water().get(), high);
        }
        Ok(())
    });
}

#[test]
fn a_full_table_is_an_error_and_changes_nothing() {
    let (task, one, four) = (TaskId::new(0), Bytes::new(1), Bytes::new(4));
    let mut arena = Arena::new(extent(0, 64), 4);
    let blocks: Vec<Extent> =
        (0..3).map(|_| arena.allocate(task, four, four).expect("a line each")).collect();
    assert_eq!(arena.allocate(task, four, four), Err(ArenaError::TableFull { lines: 4 }));
    assert_eq!(arena.used(), Bytes::new(12));
    // The whole rest takes over the hole's line.
    let rest = arena.allocate(task, Bytes::new(52), one).expect("no line is needed");
    assert_eq!(rest, extent(12, 52));
    for block in blocks.into_iter().chain([rest]) {
        arena.free(task, block).expect("lent");
    }
    assert_eq!(arena.allocate(task, Bytes::new(64), one), Ok(extent(0, 64)), "holes were joined");
}

#[test]
fn odd_requests_are_answered() {
    let (task, bytes) = (TaskId::new(0), Bytes::new);
    let mut arena = Arena::new(extent(8, 8), 0);
    for align in [0, 3, u64::MAX] {
        assert_eq!(arena.allocate(task, bytes(1), bytes(align)), Err(ArenaError::BadAlign(bytes(align))));
    }
    let nothing = arena.allocate(task, Bytes::ZERO, bytes(16)).expect("nothing always fits");
    assert_eq!((nothing, arena.used()), (extent(16, 0), Bytes::ZERO));
    assert_eq!(arena.free(task, nothing), Ok(()));
    assert!(matches!(arena.allocate(task, Bytes::MAX, bytes(1)), Err(ArenaError::Full { .. })));
    assert!(arena.free(task, extent(u64::MAX, 2)).is_err());
    assert!(arena.free(task, extent(8, 8)).is_err(), "a hole is not lent");
    let mut huge = Arena::new(extent(u64::MAX - 4, 100), 9);
    assert!(matches!(huge.allocate(task, bytes(8), bytes(1)), Err(ArenaError::Full { .. })));
}
