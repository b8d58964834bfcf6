//! The verifier against every pair, byte by byte, and against seeded faults.

use std::cell::Cell;

use aegis_memory::verify::check_placement;
use aegis_memory::{Buffer, BufferId, Conflict, Fault, LowestOffsetFirst, Placed, Planner};
use aegis_types::{Bytes, LaneId, MemoryClass, TaskId};
use proptest::prelude::prop_assert_eq;

use crate::oracle::{buffers, check, is_legal, placement, problem};

/// Scratch without alignment; the owner has the buffer's number.
pub fn scratch(id: u16, lane: u16, lower: u64, upper: u64, size: u64) -> Buffer {
    Buffer {
        id: BufferId(id.into()),
        size: Bytes::new(size),
        align: Bytes::new(1),
        lower,
        upper,
        owner: TaskId::new(id),
        lane: LaneId::new(lane),
        class: MemoryClass::Scratch,
        fixed: None,
    }
}

#[test]
fn it_agrees_with_every_pair() {
    let offsets = proptest::collection::vec(0..96u64, 9);
    let (legal, illegal) = (Cell::new(0u32), Cell::new(0u32));
    check("it_agrees_with_every_pair", 6000, (buffers(0..=9), offsets), |(buffers, offsets)| {
        let offsets: Vec<u64> = buffers.iter().zip(offsets).map(|(b, o)| o - o % b.align.get()).collect();
        let verdict = check_placement(&problem(&buffers, 110), &placement(&offsets));
        let expected = is_legal(&buffers, &offsets, 110);
        let count = if expected { &legal } else { &illegal };
        count.set(count.get() + 1);
        prop_assert_eq!(verdict.is_ok(), expected, "{:?}", verdict);
        Ok(())
    });
    assert!(legal.get() > 300 && illegal.get() > 300, "{} legal, {} illegal", legal.get(), illegal.get());
}

#[test]
fn every_seeded_fault_is_found() {
    const ROOM: u64 = 10_000;
    let seeded = Cell::new([0u32; 6]);
    let count = |kind: usize| {
        let mut all = seeded.get();
        all[kind] += 1;
        seeded.set(all);
    };
    let picks = (proptest::num::usize::ANY, proptest::num::usize::ANY);
    check("every_seeded_fault_is_found", 2000, (buffers(2..=20), picks), |(buffers, (p, q))| {
        let problem = problem(&buffers, ROOM);
        let good = LowestOffsetFirst.place(&problem).expect("room for all");
        let (p, q) = (p % buffers.len(), q % buffers.len());
        let edited = |edit: &dyn Fn(&mut Vec<Placed>)| {
            let mut bad = good.clone();
            edit(&mut bad.placed);
            check_placement(&problem, &bad)
        };
        let id = buffers[p].id;
        prop_assert_eq!(edited(&|placed| placed.retain(|entry| entry.buffer != id)), Err(Fault::Missing(id)));
        prop_assert_eq!(edited(&|placed| placed.push(placed[p])), Err(Fault::Duplicate(id)));
        let unknown = BufferId(99);
        prop_assert_eq!(edited(&|placed| placed[p].buffer = unknown), Err(Fault::Unknown(unknown)));
        if buffers[p].align.get() > 1 {
            count(0);
            let off = edited(&|placed| placed[p].offset = Bytes::new(placed[p].offset.get() + 1));
            prop_assert_eq!(offender(off), Some(("misaligned", id)));
        }
        if !buffers[p].size.is_zero() {
            count(1);
            let far = edited(&|placed| placed[p].offset = Bytes::new(ROOM));
            let wrapped = edited(&|placed| placed[p].offset = Bytes::new(!7));
            for verdict in [far, wrapped] {
                prop_assert_eq!(offender(verdict), Some(("beyond", id)));
            }
        }
        // On one offset: a fault exactly if the two conflict, and it names both or a party that is hit as well.
        if let Some(why) = buffers[p].conflict(&buffers[q]).filter(|_| p != q) {
            let both = buffers[p].align.max(buffers[q].align);
            let clear = Bytes::new((ROOM / 2).next_multiple_of(both.get()));
            let verdict = edited(&|placed| (placed[p].offset, placed[q].offset) = (clear, clear));
            let Err(Fault::Overlap { first, second, why: found }) = verdict else {
                panic!("{verdict:?} for {:?} and {:?}", buffers[p], buffers[q]);
            };
            let mut parties = [first.buffer, second.buffer];
            parties.sort();
            let mut expected = [buffers[p].id, buffers[q].id];
            expected.sort();
            prop_assert_eq!((parties, found), (expected, why));
            count(2 + why as usize);
        }
        if buffers[p].fixed.is_none() {
            let mut pinned = buffers.clone();
            pinned[p].fixed = Some(Bytes::new(good.placed[p].offset.get() + pinned[p].align.get()));
            let verdict = check_placement(&crate::oracle::problem(&pinned, ROOM), &good);
            prop_assert_eq!(offender(verdict), Some(("moved", id)));
            count(5);
        }
        Ok(())
    });
    assert!(
        seeded.get().iter().all(|&count| count > 50),
        "{:?}: a kind of fault was hardly seeded",
        seeded.get()
    );
}

/// The kind of a fault with one party, and that party.
fn offender(verdict: Result<Bytes, Fault>) -> Option<(&'static str, BufferId)> {
    match verdict {
        Err(Fault::Misaligned { party, .. }) => Some(("misaligned", party.buffer)),
        Err(Fault::BeyondCapacity { party, .. }) => Some(("beyond", party.buffer)),
        Err(Fault::Moved { party, .. }) => Some(("moved", party.buffer)),
        _ => None,
    }
}

#[test]
fn sharing_is_legal_until_lane_class_or_time_changes() {
    let verdict = |edit: fn(&mut Buffer)| {
        let mut second = scratch(1, 0, 1, 2, 8);
        edit(&mut second);
        check_placement(&problem(&[scratch(0, 0, 0, 1, 8), second], 8), &placement(&[0, 0]))
    };
    assert_eq!(verdict(|_| ()), Ok(Bytes::new(8)));
    let why = |edit| match verdict(edit) {
        Err(Fault::Overlap { first, second, why }) => {
            assert_eq!((first.owner, second.owner), (TaskId::new(0), TaskId::new(1)));
            why
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(why(|b| b.lane = LaneId::new(1)), Conflict::Lanes);
    assert_eq!(why(|b| b.class = MemoryClass::Exchange), Conflict::Exclusive);
    assert_eq!(why(|b| b.class = MemoryClass::Persistent), Conflict::Exclusive);
    assert_eq!(why(|b| b.lower = 0), Conflict::Interval);
}
