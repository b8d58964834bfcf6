//! Grants: isolation, refusal, and what ends with them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use aegis_memory::{
    Arena, Demand, LaneGrants, Ledger, LowestOffsetFirst, MemoryError, MemoryOrchestrator, PlanReservation,
    TaskGrant,
};
use aegis_types::records::{MemoryReleased, MemoryReserved};
use aegis_types::{
    Bytes, Extent, GrantRefused, LaneId, MemoryClass, MemoryGrant, RawRecord, Record, TaskId, Time,
};
use proptest::prelude::{prop_assert, prop_assert_eq};

use crate::oracle::check;

const CLASSES: [MemoryClass; 3] = [MemoryClass::Persistent, MemoryClass::Exchange, MemoryClass::Scratch];
const NOW: Time = Time::new(3);
const ALIGN: Bytes = Bytes::new(64);

/// Tasks 0 and 1 on lane 0, task 2 on lane 1.
fn reserve(ledger: &Ledger, trace: &mut Vec<RawRecord>) -> Result<PlanReservation, MemoryError> {
    let demand = |task: u16, lane, scratch| Demand {
        task: TaskId::new(task),
        lane: LaneId::new(lane),
        persistent: Bytes::new(1024),
        exchange: Bytes::new(256),
        scratch: vec![Bytes::new(64), Bytes::new(scratch)],
    };
    let fleet = [demand(0, 0, 2048), demand(1, 0, 512), demand(2, 1, 640)];
    let plan = MemoryOrchestrator::new().plan(&fleet, Bytes::new(8192), &LowestOffsetFirst)?;
    PlanReservation::reserve(plan, ledger, trace, NOW)
}

fn lanes() -> (Ledger, Vec<LaneGrants>) {
    let ledger = Ledger::new(Bytes::new(8192));
    let lanes = reserve(&ledger, &mut Vec::new()).expect("fits").into_grants(64);
    (ledger, lanes)
}

#[test]
fn classes_and_tasks_never_meet() {
    let step = (0..3usize, 0..3usize, 1..700u64, 0..8u32);
    check("classes_and_tasks_never_meet", 500, proptest::collection::vec(step, 0..60), |steps| {
        let (_ledger, lanes) = lanes();
        let grants: Vec<TaskGrant> = lanes.into_iter().flat_map(|lane| lane.tasks).collect();
        let mut lent: Vec<(usize, MemoryClass, Extent)> = Vec::new();
        for (task, class, bytes, shift) in steps {
            let (class, bytes) = (CLASSES[class], Bytes::new(bytes));
            let used = grants[task].used(class);
            match grants[task].allocate(class, bytes, Bytes::new(1 << shift)) {
                Ok(extent) => {
                    prop_assert!(lent.iter().all(|(.., other)| !other.overlaps(&extent)));
                    lent.push((task, class, extent));
                    prop_assert!(grants[task].high_water(class) <= grants[task].limit(class));
                }
                Err(GrantRefused { owner, asked, .. }) => {
                    prop_assert_eq!((owner, asked), (grants[task].owner(), bytes));
                    prop_assert_eq!(grants[task].used(class), used);
                    if !lent.is_empty() {
                        let (task, class, extent) = lent.swap_remove(bytes.get() as usize % lent.len());
                        grants[task].free(class, extent);
                    }
                }
            }
            for (at, grant) in grants.iter().enumerate() {
                for class in CLASSES {
                    let held = lent.iter().filter(|l| l.0 == at && l.1 == class).map(|l| l.2.len.get());
                    prop_assert_eq!(grant.used(class).get(), held.sum::<u64>());
                }
            }
        }
        Ok(())
    });
}

#[test]
fn a_refusal_is_counted_and_changes_nothing_for_others() {
    let (_ledger, lanes) = lanes();
    let [first, second] = &lanes[0].tasks[..] else { panic!("two tasks on lane 0") };
    let scratch = MemoryClass::Scratch;
    // Task 1 demanded 512: the lane's larger extent is not its budget.
    let refused = second.allocate(scratch, Bytes::new(576), ALIGN).expect_err("beyond its demand");
    let (owner, limit) = (TaskId::new(1), Bytes::new(512));
    let expected = GrantRefused { owner, class: scratch, asked: Bytes::new(576), used: Bytes::ZERO, limit };
    assert_eq!(refused, expected);
    assert_eq!((second.usage().snapshot().refusals(), first.usage().snapshot().refusals()), (1, 0));
    let all = first.allocate(scratch, Bytes::new(2048), ALIGN).expect("the whole of its own");
    // A segment that left its scratch behind hurts its lane until it is reclaimed, and only its lane.
    assert!(second.allocate(scratch, Bytes::new(64), ALIGN).is_err());
    assert!(lanes[1].tasks[0].allocate(scratch, Bytes::new(640), ALIGN).is_ok());
    assert_eq!(first.reclaim_scratch(), Bytes::new(2048));
    assert_eq!(first.used(scratch), Bytes::ZERO);
    let again = second.allocate(scratch, Bytes::new(512), ALIGN).expect("empty again");
    assert_eq!(again.offset, all.offset, "the tasks of a lane share its bytes");
}

#[test]
fn offsets_are_those_of_a_private_arena() {
    let sizes = proptest::collection::vec((1..300u64, 0..5u32), 1..12);
    check("offsets_are_those_of_a_private_arena", 300, sizes, |sizes| {
        let (_ledger, lanes) = lanes();
        let task = &lanes[0].tasks[1];
        let start = task.allocate(MemoryClass::Scratch, Bytes::ZERO, ALIGN).expect("nothing fits").offset;
        let mut private = Arena::new(Extent { offset: start, len: Bytes::new(512) }, 64);
        for (bytes, shift) in sizes {
            let (bytes, align) = (Bytes::new(bytes), Bytes::new(1 << shift));
            let expected = private.allocate(task.owner(), bytes, align).ok();
            prop_assert_eq!(task.allocate(MemoryClass::Scratch, bytes, align).ok(), expected);
            prop_assert_eq!(task.high_water(MemoryClass::Scratch), private.high_water());
        }
        Ok(())
    });
}

#[test]
fn a_double_free_panics_and_names_the_extent() {
    let (_ledger, lanes) = lanes();
    let [first, second] = &lanes[0].tasks[..] else { panic!("two tasks on lane 0") };
    for class in CLASSES {
        let extent = first.allocate(class, Bytes::new(96), ALIGN).expect("fits");
        let message = |grant: &TaskGrant| {
            let cause = catch_unwind(AssertUnwindSafe(|| grant.free(class, extent))).expect_err("a panic");
            *cause.downcast::<String>().expect("a formatted message")
        };
        let (start, name) = (extent.offset.get(), format!("{class:?}"));
        for text in [message(second), {
            first.free(class, extent);
            message(first)
        }] {
            assert!(text.contains(&format!("{start} + 96")) && text.contains(&name), "{text}");
        }
        // The lane lives on.
        let extent = second.allocate(class, Bytes::new(64), ALIGN).expect("as before");
        second.free(class, extent);
    }
}

#[test]
fn the_ledger_follows_the_grants() {
    let (ledger, mut lanes) = lanes();
    let peak = Bytes::new(3 * 1280 + 2048 + 640);
    assert_eq!(ledger.reserved(), peak);
    let mut trace = Vec::new();
    let second = lanes[0].tasks.pop().expect("two tasks on lane 0");
    let first = lanes[0].tasks.pop().expect("two tasks on lane 0");
    first.retire(&mut trace, NOW);
    // The lane's scratch stays reserved, in the name of its holder, until the last task of the lane is gone.
    assert_eq!(ledger.held_by(TaskId::new(0)), Bytes::new(2048));
    second.retire(&mut trace, NOW);
    assert_eq!(ledger.reserved(), Bytes::new(1280 + 640));
    let released: Vec<u64> = trace.iter().filter_map(MemoryReleased::read).map(|r| r.bytes.get()).collect();
    assert_eq!(released, [1280, 1280, 2048]);
    drop(lanes);
    assert_eq!(ledger.reserved(), Bytes::ZERO);
}

#[test]
fn a_plan_is_reserved_whole_or_not_at_all() {
    let peak = 3 * 1280 + 2048 + 640u64;
    for capacity in [0, 1279, 1280, 5000, peak - 1, peak] {
        let ledger = Ledger::new(Bytes::new(capacity));
        let mut trace = Vec::new();
        let reserved = reserve(&ledger, &mut trace);
        assert_eq!(reserved.is_ok(), capacity == peak);
        let count = |read: fn(&RawRecord) -> bool| trace.iter().filter(|raw| read(raw)).count();
        let (made, undone) = (
            count(|raw| MemoryReserved::read(raw).is_some()),
            count(|raw| MemoryReleased::read(raw).is_some()),
        );
        match reserved {
            Ok(reserved) => {
                assert_eq!((ledger.reserved(), reserved.plan().peak()), (Bytes::new(peak), Bytes::new(peak)));
                reserved.release(&mut trace, NOW);
            }
            Err(error) => {
                assert!(matches!(error, MemoryError::OverCapacity { .. }));
                assert_eq!(made, undone, "what was reserved before the refusal was released");
            }
        }
        assert_eq!(ledger.reserved(), Bytes::ZERO);
    }
}

#[test]
fn a_lane_moves_to_its_thread_and_is_watched_from_another() {
    let (_ledger, mut lanes) = lanes();
    let lane = lanes.remove(0);
    let watch = lane.tasks[0].usage();
    std::thread::spawn(move || {
        let task = &lane.tasks[0];
        let extent = task.allocate(MemoryClass::Persistent, Bytes::new(100), ALIGN).expect("fits");
        task.allocate(MemoryClass::Persistent, Bytes::new(50), ALIGN).expect("fits");
        task.free(MemoryClass::Persistent, extent);
    })
    .join()
    .expect("no panic");
    let seen = watch.snapshot();
    assert_eq!(seen.used(MemoryClass::Persistent), Bytes::new(50));
    assert_eq!(seen.high_water(MemoryClass::Persistent), Bytes::new(178), "100, 28 lost to alignment, 50");
}

/// A task with four input slots of 200 bytes, an output of 64 and a state of 64: six blocks of two sizes.
fn pooled(blocks: &[u64]) -> TaskGrant {
    let demand = Demand {
        task: TaskId::new(0),
        lane: LaneId::new(0),
        persistent: Bytes::ZERO,
        exchange: Bytes::new(4 * 256 + 2 * 64),
        scratch: vec![],
    };
    let plan =
        MemoryOrchestrator::new().plan(&[demand], Bytes::new(4096), &LowestOffsetFirst).expect("it fits");
    let ledger = Ledger::new(Bytes::new(4096));
    let reserved = PlanReservation::reserve(plan, &ledger, &mut Vec::new(), NOW).expect("it is empty");
    let blocks: Vec<Bytes> = blocks.iter().copied().map(Bytes::new).collect();
    let mut lanes = reserved.into_grants_with(64, |_| blocks.clone());
    lanes.remove(0).tasks.remove(0)
}

#[test]
fn known_blocks_come_out_of_a_pool_in_any_order_and_no_other_sizes_do() {
    let sizes = [200, 64, 200, 64, 200, 200];
    let exchange = MemoryClass::Exchange;
    let grant = pooled(&sizes);
    let take = |bytes: u64| grant.allocate(exchange, Bytes::new(bytes), ALIGN);
    // Whatever was given back in between, the same blocks fit again: nothing is in pieces.
    for round in 0..3 {
        let mut held: Vec<Extent> = Vec::new();
        for at in 0..sizes.len() {
            let extent = take(sizes[(at + round) % sizes.len()]).expect("it was listed");
            assert!(held.iter().all(|other| !other.overlaps(&extent)), "{extent:?} among {held:?}");
            held.push(extent);
        }
        assert_eq!(grant.used(exchange), Bytes::new(4 * 200 + 2 * 64));
        let refused = take(64).expect_err("all blocks are lent");
        assert_eq!((refused.asked, refused.limit), (Bytes::new(64), Bytes::new(1152)));
        held.into_iter().for_each(|extent| grant.free(exchange, extent));
        assert_eq!(grant.used(exchange), Bytes::ZERO);
    }
    assert_eq!(grant.high_water(exchange), Bytes::new(1152 - 56), "to the end of the last block of 200");
    assert!(take(257).is_err(), "an arena would have room");
    assert!(
        grant.allocate(exchange, Bytes::new(64), Bytes::new(128)).is_err(),
        "blocks begin at multiples of 64"
    );
    let lent = take(64).expect("all blocks are free");
    grant.free(exchange, lent);
    let twice = catch_unwind(AssertUnwindSafe(|| grant.free(exchange, lent)));
    assert!(twice.is_err(), "it was given back");
}

#[test]
fn blocks_that_are_not_all_of_the_memory_leave_it_an_arena() {
    for blocks in [&[][..], &[200, 64], &[200, 64, 200, 64, 200, 200, 64], &[1152 + 1], &[u64::MAX, 64]] {
        let grant = pooled(blocks);
        let whole = grant.allocate(MemoryClass::Exchange, Bytes::new(1152), ALIGN);
        assert!(whole.is_ok(), "{blocks:?}: one block of any size");
    }
}
