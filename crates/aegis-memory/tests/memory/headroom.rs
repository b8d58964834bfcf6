//! How far a task may grow, against the planner and the verifier: bytes are tried one question at a time.

use std::cell::Cell;

use aegis_memory::{
    Demand, LowestOffsetFirst, MemoryError, MemoryOrchestrator, Planner, Portfolio, lane_counts,
};
use aegis_types::{Bytes, LaneId, TaskId};
use proptest::prelude::{Strategy, prop_assert, prop_assert_eq};

use crate::oracle::check;

const ALIGN: u64 = 8;

fn demands() -> impl Strategy<Value = Vec<Demand>> {
    let row = (0..3u16, 0..90u64, 0..90u64, proptest::collection::vec(0..200u64, 0..4));
    proptest::collection::vec(row, 1..=6).prop_map(|rows| {
        (0..)
            .zip(rows)
            .map(|(task, (lane, persistent, exchange, scratch))| Demand {
                task: TaskId::new(task),
                lane: LaneId::new(lane),
                persistent: Bytes::new(persistent),
                exchange: Bytes::new(exchange),
                scratch: scratch.into_iter().map(Bytes::new).collect(),
            })
            .collect()
    })
}

fn orchestrator() -> MemoryOrchestrator {
    MemoryOrchestrator::with_align(Bytes::new(ALIGN)).expect("a power of two")
}

fn fits(demands: &[Demand], capacity: u64) -> bool {
    orchestrator().plan(demands, Bytes::new(capacity), &LowestOffsetFirst).is_ok()
}

/// The largest number that is accepted, where every smaller one is. `start` is accepted.
fn largest(start: u64, accepts: impl Fn(u64) -> bool) -> u64 {
    let (mut low, mut high) = (start, start + 8192);
    assert!(accepts(low) && !accepts(high), "the search has both ends");
    while high - low > 1 {
        let middle = low.midpoint(high);
        if accepts(middle) { low = middle } else { high = middle }
    }
    low
}

#[test]
fn one_byte_more_never_fits() {
    let seen = Cell::new([0u32; 2]);
    check("one_byte_more_never_fits", 600, (demands(), 0..6u16, 0..2500u64), |(demands, task, capacity)| {
        let at = usize::from(task) % demands.len();
        let task = demands[at].task;
        let found = orchestrator().headroom(&demands, task, Bytes::new(capacity));
        let mut counts = seen.get();
        if !fits(&demands, capacity) {
            counts[0] += 1;
            seen.set(counts);
            prop_assert!(matches!(found, Err(MemoryError::Shortage(_))), "{found:?}");
            return Ok(());
        }
        counts[1] += 1;
        seen.set(counts);
        let found = found.expect("the demands fit");
        let with = |edit: &dyn Fn(&mut Demand)| {
            let mut grown = demands.clone();
            edit(&mut grown[at]);
            fits(&grown, capacity)
        };
        let own = &demands[at];
        let persistent =
            largest(own.persistent.get(), |bytes| with(&|demand| demand.persistent = Bytes::new(bytes)));
        let exchange =
            largest(own.exchange.get(), |bytes| with(&|demand| demand.exchange = Bytes::new(bytes)));
        let scratch =
            largest(own.scratch_max().get(), |bytes| with(&|demand| demand.scratch.push(Bytes::new(bytes))));
        prop_assert_eq!(
            [found.persistent, found.exchange, found.scratch].map(Bytes::get),
            [persistent, exchange, scratch]
        );
        // What is free of charge leaves the peak where it is.
        let peak = |demands: &[Demand]| {
            let plan = orchestrator().plan(demands, Bytes::new(1 << 20), &LowestOffsetFirst);
            plan.expect("the capacity is ample").peak()
        };
        let mut free = demands.clone();
        free[at].scratch.push(found.scratch_free);
        prop_assert_eq!(peak(&free), peak(&demands));
        Ok(())
    });
    assert!(seen.get().iter().all(|&count| count > 40), "{:?}: hardly a case of one kind", seen.get());
}

#[test]
fn a_task_without_a_demand_is_named() {
    let found = orchestrator().headroom(&[], TaskId::new(7), Bytes::new(8));
    assert_eq!(found, Err(MemoryError::NoDemand { task: TaskId::new(7) }));
}

#[test]
fn no_planner_beats_another_on_whole_fleets() {
    check("no_planner_beats_another_on_whole_fleets", 300, demands(), |demands| {
        let planners: [&dyn Planner; 2] = [&LowestOffsetFirst, &Portfolio::default()];
        for planner in planners {
            let plan = orchestrator().plan(&demands, Bytes::new(1 << 20), planner).expect("it is ample");
            prop_assert_eq!(plan.peak(), plan.lower_bound(), "{}", planner.name());
        }
        Ok(())
    });
}

/// Least and most scratch over every way to put the tasks on exactly `lanes` lanes.
fn every_way(needs: &[u64], lanes: usize) -> (u64, u64) {
    let mut found = (u64::MAX, 0);
    for way in 0..lanes.pow(needs.len() as u32) {
        let mut held = vec![None::<u64>; lanes];
        let mut rest = way;
        for &need in needs {
            let lane = &mut held[rest % lanes];
            *lane = Some(lane.map_or(need, |held| held.max(need)));
            rest /= lanes;
        }
        if let Some(sum) = held.into_iter().sum::<Option<u64>>() {
            found = (found.0.min(sum), found.1.max(sum));
        }
    }
    found
}

#[test]
fn what_lanes_cost_is_what_the_best_and_the_worst_assignment_cost() {
    let needs = proptest::collection::vec(0..40u64, 0..=6);
    check("what_lanes_cost", 300, (needs, 0..6usize), |(needs, lanes)| {
        let bytes: Vec<Bytes> = needs.iter().map(|&need| Bytes::new(need)).collect();
        let found = lane_counts(&bytes, lanes);
        prop_assert_eq!(found.len(), lanes.min(needs.len()));
        for (count, found) in (1..).zip(found) {
            prop_assert_eq!(
                (found.lanes, (found.least.get(), found.most.get())),
                (count, every_way(&needs, count))
            );
        }
        Ok(())
    });
}
