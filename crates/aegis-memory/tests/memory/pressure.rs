//! Levels and who could make room, against planning again without the task.

use aegis_memory::{
    Demand, Ledger, LowestOffsetFirst, MemoryError, MemoryOrchestrator, MemoryPlan, PlanReservation,
    Thresholds,
};
use aegis_types::record::Discard;
use aegis_types::{Bytes, LaneId, TaskId, Time};
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
    assert_eq!(none.level(Bytes::new(5), Bytes::new(5)), 0);
    let full = Thresholds::new(vec![100]).expect("all of it is legal");
    assert_eq!([4, 5].map(|reserved| full.level(Bytes::new(reserved), Bytes::new(5))), [0, 1]);
    assert_eq!(full.level(Bytes::MAX, Bytes::MAX), 1, "nothing overflows");
}
