//! Levels and who could make room, against planning again without the task.

use aegis_memory::{
    Demand, Ledger, LowestOffsetFirst, MemoryError, MemoryOrchestrator, MemoryPlan, PlanReservation,
    PressureChanged, PressureHolder, Thresholds,
};
use aegis_types::record::Discard;
use aegis_types::{Bytes, LaneId, RawRecord, Record, TaskId, Time};
use proptest::prelude::{Strategy, prop_assert_eq};

use crate::oracle::check;

fn demands() -> impl Strategy<Value = Vec<Demand>> {
    let row = (0..3u16, 0..500u64, 0..500u64, 0..900u64);
    proptest::collection::vec(row, 1..=7).prop_map(|rows| {
        (0..)
            .zip(rows)
            .map(|(task, (lane, persistent, exchange, scratch))| Demand {
                task: TaskId::new(task),
                lane: LaneId::new(lane),
                persistent: Bytes::new(persistent),
                exchange: Bytes::new(exchange),
                scratch: vec![Bytes::new(scratch)],
            })
            .collect()
    })
}

fn plan(demands: &[Demand]) -> MemoryPlan {
    MemoryOrchestrator::new().plan(demands, Bytes::new(1 << 16), &LowestOffsetFirst).expect("it is ample")
}

#[test]
fn a_task_gives_back_what_a_plan_without_it_is_smaller_by() {
    check("a_task_gives_back", 300, demands(), |demands| {
        let whole = plan(&demands);
        for (at, (task, bytes)) in whole.releasable().into_iter().enumerate() {
            let mut others = demands.clone();
            prop_assert_eq!(others.remove(at).task, task);
            prop_assert_eq!(bytes, whole.peak().saturating_sub(plan(&others).peak()));
        }
        Ok(())
    });
}

#[test]
fn the_ledger_and_the_plan_say_the_same() {
    check("the_ledger_and_the_plan", 200, (demands(), 0..9000u64), |(demands, more)| {
        let thresholds = Thresholds::default();
        let peak = plan(&demands).peak();
        let capacity = Bytes::new(peak.get() + more);
        let plan = MemoryOrchestrator::new().plan(&demands, capacity, &LowestOffsetFirst).expect("it fits");
        let expected = plan.pressure(&thresholds);
        let ledger = Ledger::new(capacity);
        let held =
            PlanReservation::reserve(plan, &ledger, &mut Discard, Time::ZERO).expect("the ledger is empty");
        let found = ledger.pressure(&thresholds);
        prop_assert_eq!(&found, &expected);
        prop_assert_eq!(found.holders.iter().map(|(_, bytes)| bytes.get()).sum::<u64>(), peak.get());
        let level = usize::from(peak.get() * 10 >= capacity.get() * 7)
            + usize::from(peak.get() * 10 >= capacity.get() * 9);
        prop_assert_eq!((found.level, found.highest), (level, 2));
        drop(held);
        prop_assert_eq!(ledger.pressure(&thresholds).holders, vec![]);
        Ok(())
    });
}

/// Reservations of 30 each on a device of 100 with levels from 50 and 80 percent: the level is recorded where it
/// changes, up and down, and nowhere else.
#[test]
fn a_level_is_recorded_when_it_changes() {
    let thresholds = Thresholds::new(vec![50, 80]).expect("they rise");
    let ledger = Ledger::with_thresholds(Bytes::new(100), thresholds);
    let mut trace: Vec<RawRecord> = Vec::new();
    let mut held: Vec<_> = (0..3)
        .map(|task| {
            ledger.reserve(TaskId::new(task), Bytes::new(30), &mut trace, Time::new(1)).expect("it fits")
        })
        .collect();
    assert!(ledger.reserve(TaskId::new(3), Bytes::new(30), &mut trace, Time::new(2)).is_err());
    while let Some(reservation) = held.pop() {
        reservation.release(&mut trace, Time::new(3));
    }
    let told = |raw: &RawRecord| {
        let PressureChanged { task, level, highest, reserved, capacity } = PressureChanged::read(raw)?;
        assert_eq!((highest, capacity), (2, Bytes::new(100)));
        Some((task.get(), level, reserved.get()))
    };
    let told: Vec<_> = trace.iter().filter_map(told).collect();
    assert_eq!(told, [(1, 1, 60), (2, 2, 90), (2, 1, 60), (1, 0, 30)]);
}

#[test]
fn holders_are_recorded_from_the_first_threshold_on() {
    check("holders_are_recorded", 200, (demands(), 1..=100u8), |(demands, percent)| {
        let capacity = Bytes::new(plan(&demands).peak().get() * 3 / 2);
        let plan = MemoryOrchestrator::new().plan(&demands, capacity, &LowestOffsetFirst).expect("it fits");
        let thresholds = Thresholds::new(vec![percent]).expect("one is legal");
        let mut trace: Vec<RawRecord> = Vec::new();
        plan.record_holders(&thresholds, &mut trace, Time::ZERO);
        let told: Vec<_> = trace.iter().filter_map(PressureHolder::read).collect();
        let pressure = plan.pressure(&thresholds);
        let expected = if pressure.level == 0 { Vec::new() } else { pressure.holders };
        let found: Vec<_> = told.iter().map(|holder| (holder.task, holder.holds)).collect();
        prop_assert_eq!(found, expected);
        for holder in told {
            let frees = plan.releasable().into_iter().find(|entry| entry.0 == holder.task);
            prop_assert_eq!(frees, Some((holder.task, holder.frees)));
        }
        Ok(())
    });
}

#[test]
fn thresholds_that_make_no_sense_are_named() {
    let bad = |percent: Vec<u8>, position, value, below| {
        let found = Thresholds::new(percent);
        assert_eq!(found, Err(MemoryError::BadThreshold { position, value, below }));
    };
    bad(vec![0], 0, 0, 0);
    bad(vec![70, 70], 1, 70, 70);
    bad(vec![90, 70], 1, 70, 90);
    bad(vec![50, 101], 1, 101, 50);
    bad((1..=9).collect(), 8, 9, 8);
    let none = Thresholds::new(Vec::new()).expect("none is legal");
    assert_eq!(none, Thresholds::none());
    assert_eq!(none.level(Bytes::new(5), Bytes::new(5)), 0);
    let full = Thresholds::new(vec![100]).expect("all of it is legal");
    assert_eq!([4, 5].map(|reserved| full.level(Bytes::new(reserved), Bytes::new(5))), [0, 1]);
    assert_eq!(full.level(Bytes::MAX, Bytes::MAX), 1, "nothing overflows");
}
