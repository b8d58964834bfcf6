//! Plans against sums done by hand, plans that were tampered with, and shortages.

use std::collections::BTreeMap;

use aegis_memory::{
    Change, Demand, LowestOffsetFirst, MemoryError, MemoryOrchestrator, MemoryPlan, PlanParts, Shortage,
};
use aegis_types::{Bytes, Extent, LaneId, TaskId};
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq};

use crate::oracle::check;

const ROOMY: Bytes = Bytes::new(1 << 40);

pub fn demands(count: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<Demand>> {
    let sizes = (0..3000u64, 0..400u64, proptest::collection::vec(0..2000u64, 0..4));
    proptest::collection::vec((0..4u16, sizes), count).prop_map(|rows| {
        let rows = (0..).zip(rows);
        rows.map(|(task, (lane, (persistent, exchange, scratch)))| Demand {
            task: TaskId::new(task),
            lane: LaneId::new(lane),
            persistent: Bytes::new(persistent),
            exchange: Bytes::new(exchange),
            scratch: scratch.into_iter().map(Bytes::new).collect(),
        })
        .collect()
    })
}

fn plan(demands: &[Demand], capacity: Bytes) -> Result<MemoryPlan, MemoryError> {
    MemoryOrchestrator::new().plan(demands, capacity, &LowestOffsetFirst)
}

/// Exclusive bytes of all tasks plus the largest scratch of each lane, and the same without sharing.
fn totals(demands: &[Demand]) -> (u64, u64) {
    let up = |bytes: Bytes| bytes.get().next_multiple_of(64);
    let exclusive: u64 = demands.iter().map(|d| up(d.persistent) + up(d.exchange)).sum();
    let mut lanes: BTreeMap<LaneId, Vec<u64>> = BTreeMap::new();
    for demand in demands {
        lanes.entry(demand.lane).or_default().push(demand.scratch.iter().copied().map(up).max().unwrap_or(0));
    }
    let shared: u64 = lanes.values().filter_map(|needs| needs.iter().max()).sum();
    (exclusive + shared, exclusive + lanes.values().flatten().sum::<u64>())
}

#[test]
fn the_peak_is_exclusive_bytes_plus_the_largest_need_of_each_lane() {
    let name = "the_peak_is_exclusive_bytes_plus_the_largest_need_of_each_lane";
    check(name, 600, demands(0..=20), |mut demands| {
        let made = plan(&demands, ROOMY).expect("room for all");
        let (shared, private) = totals(&demands);
        prop_assert_eq!((made.peak().get(), made.lower_bound().get()), (shared, shared));
        let saved: u64 = made.tasks().iter().map(|share| share.saved.get()).sum();
        prop_assert_eq!(saved, private - shared);

        let mut extents: Vec<Extent> = made.tasks().iter().flat_map(|s| [s.persistent, s.exchange]).collect();
        extents.extend(made.lanes().iter().map(|lane| lane.extent));
        for (at, a) in extents.iter().enumerate() {
            prop_assert!(extents[..at].iter().all(|b| !a.overlaps(b)));
            prop_assert!(a.offset.get() % 64 == 0 && a.end() <= Some(made.peak()));
        }
        demands.reverse();
        let again = plan(&demands, made.peak()).expect("exactly enough");
        prop_assert_eq!((again.tasks(), again.lanes()), (made.tasks(), made.lanes()));

        let text = serde_json::to_string(&made).expect("plain values");
        prop_assert_eq!(serde_json::from_str::<MemoryPlan>(&text).expect("verified again"), made);
        Ok(())
    });
}

#[test]
fn a_plan_that_was_tampered_with_is_refused() {
    let fleet: Vec<Demand> = (0..4u16)
        .map(|number| Demand {
            task: TaskId::new(number),
            lane: LaneId::new(number / 2),
            persistent: Bytes::new(640),
            exchange: Bytes::new(64),
            scratch: vec![Bytes::new(256 + 64 * u64::from(number))],
        })
        .collect();
    let made: PlanParts = plan(&fleet, ROOMY).expect("fits").into();
    type Edit = (&'static str, fn(&mut PlanParts));
    let edits: [Edit; 16] = [
        ("exclusive overlap", |p| p.tasks[0].persistent = p.tasks[1].persistent),
        ("exchange on scratch", |p| p.tasks[0].exchange.offset = p.lanes[0].extent.offset),
        ("lanes share", |p| p.lanes[0].extent.offset = p.lanes[1].extent.offset),
        ("capacity", |p| p.capacity = Bytes::new(p.peak.get() - 1)),
        ("offset overflow", |p| p.tasks[3].persistent.offset = Bytes::new(!63)),
        ("alignment", |p| p.lanes[1].extent.offset = Bytes::new(p.lanes[1].extent.offset.get() + 1)),
        ("align of three", |p| p.align = Bytes::new(3)),
        ("align of zero", |p| p.align = Bytes::ZERO),
        ("scratch too small", |p| p.lanes[0].extent.len = Bytes::new(64)),
        ("lane missing", |p| p.lanes.truncate(1)),
        ("lane missing, nothing shared", |p| {
            p.lanes.truncate(1);
            p.tasks[2].shared = Bytes::ZERO;
            p.tasks[3].shared = Bytes::ZERO;
        }),
        ("task twice", |p| p.tasks[1].task = TaskId::new(0)),
        ("peak", |p| p.peak = Bytes::new(p.peak.get() + 64)),
        ("lower bound", |p| p.lower_bound = Bytes::MAX),
        ("charge moved", |p| {
            p.tasks[0].private = Bytes::ZERO;
            p.tasks[1].private = Bytes::new(2 * 704);
        }),
        ("saved", |p| p.tasks[0].saved = Bytes::ZERO),
    ];
    for (name, edit) in edits {
        let mut parts = made.clone();
        edit(&mut parts);
        let text = serde_json::to_string(&parts).expect("plain values");
        assert!(serde_json::from_str::<MemoryPlan>(&text).is_err(), "{name}");
        let error = MemoryPlan::try_from(parts).expect_err(name);
        assert!(
            matches!(error, MemoryError::PlanRejected(_) | MemoryError::BadAlign { .. }),
            "{name}: {error}"
        );
    }
    MemoryPlan::try_from(made).expect("untouched, it is legal");
}

#[test]
fn the_change_that_a_shortage_names_is_enough() {
    let lacks = 1..9000u64;
    check(
        "the_change_that_a_shortage_names_is_enough",
        600,
        (demands(1..=9), lacks),
        |(mut demands, lacks)| {
            let needed = plan(&demands, ROOMY).expect("room for all").peak();
            let capacity = needed.saturating_sub(Bytes::new(lacks));
            let Err(MemoryError::Shortage(shortage)) = plan(&demands, capacity) else {
                prop_assert!(needed.is_zero());
                return Ok(());
            };
            let Shortage { missing, change, holders, .. } = *shortage;
            prop_assert_eq!(missing, needed.saturating_sub(capacity));
            prop_assert!(!holders.is_empty() && holders.is_sorted_by(|a, b| a.1 >= b.1));
            let singles: Vec<bool> = (0..demands.len())
                .map(|out| {
                    let rest: Vec<Demand> =
                        (0..).zip(&demands).filter(|(i, _)| *i != out).map(|d| d.1.clone()).collect();
                    plan(&rest, capacity).is_ok()
                })
                .collect();
            let (freed, capacity_after) = match change {
                Change::Move { task, to, frees } => {
                    demands[task.index()].lane = to;
                    (frees, capacity)
                }
                Change::Drop { task, frees } => {
                    demands.remove(task.index());
                    (frees, capacity)
                }
                Change::Grow { by } => {
                    prop_assert!(!singles.contains(&true), "leaving out one task is enough");
                    (Bytes::ZERO, capacity.checked_add(by).expect("small"))
                }
            };
            let after = plan(&demands, capacity_after);
            prop_assert_eq!(after.map(|made| made.peak()), Ok(needed.saturating_sub(freed)));
            Ok(())
        },
    );
}

#[test]
fn bad_demands_are_refused() {
    let demand = |task, persistent| Demand {
        task: TaskId::new(task),
        lane: LaneId::new(0),
        persistent,
        exchange: Bytes::ZERO,
        scratch: vec![],
    };
    let twice = plan(&[demand(1, Bytes::new(1)), demand(1, Bytes::new(2))], ROOMY);
    assert_eq!(twice, Err(MemoryError::DuplicateTask { position: 1, task: TaskId::new(1) }));
    let half = Bytes::new(1 << 63);
    for fleet in [vec![demand(0, Bytes::MAX)], vec![demand(0, half), demand(1, half)]] {
        assert!(matches!(plan(&fleet, Bytes::MAX), Err(MemoryError::Overflow { .. })));
    }
    for align in [0, 3, 65] {
        let error = MemoryOrchestrator::with_align(Bytes::new(align)).expect_err("no power of two");
        assert!(matches!(error, MemoryError::BadAlign { .. }));
    }
    let wide = MemoryOrchestrator::with_align(Bytes::new(256)).expect("a power of two");
    let made = wide.plan(&[demand(0, Bytes::new(1))], ROOMY, &LowestOffsetFirst).expect("fits");
    assert_eq!(made.peak(), Bytes::new(256));
    assert_eq!(plan(&[], Bytes::ZERO).expect("nothing fits nowhere").peak(), Bytes::ZERO);
}
