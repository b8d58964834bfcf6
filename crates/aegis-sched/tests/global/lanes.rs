//! One queue beside the lanes' own: the report.

use aegis_sched::analysis::{Blocking, LaneProblem, LaneTask};
use aegis_sched::global::{Outcome, SharedQueue, SharedQueueError, SharedTest, shared_queue};
use aegis_sched::policy::PolicyClass;
use aegis_types::{LaneId, Nanos, TaskId};

fn task(number: u16, cost: u64, period: u64) -> LaneTask {
    let [cost, period] = [cost, period].map(Nanos::new);
    let (deadline, key) = (period, period.get());
    LaneTask { id: TaskId::new(number), segments: vec![cost], period, deadline, jitter: Nanos::ZERO, key }
}

fn lane(number: u16, tasks: Vec<LaneTask>) -> LaneProblem {
    let (class, blocking) = (PolicyClass::AbsoluteDeadline, Blocking::Attained);
    LaneProblem { lane: LaneId::new(number), tasks, class, blocking, overrun: Nanos::ZERO }
}

#[test]
fn lanes_that_keep_long_from_short_certify_more_than_one_queue() {
    let lanes = [
        lane(0, vec![task(0, 400, 1_000), task(2, 400, 1_000)]),
        lane(1, vec![task(1, 40_000, 100_000), task(3, 40_000, 100_000)]),
    ];
    let report = shared_queue(&lanes).unwrap();
    assert!(
        report.lanes_certified && report.lanes_scale_ppm.is_some_and(|ppm| ppm > 1_200_000),
        "{report:?}"
    );
    // One long job for each server stands in the way of every short one.
    assert!(!report.shared_certified());
    assert!(report.shared_scale_ppm() < report.lanes_scale_ppm, "{report:?}");
    assert!(report.describe().starts_with("one queue per lane: certified"), "{}", report.describe());
    assert!(report.describe().contains("one queue for 2 lanes: not certified"), "{}", report.describe());
}

#[test]
fn one_queue_certifies_what_a_lopsided_assignment_cannot() {
    let lanes = [lane(0, (0..3).map(|number| task(number, 390, 1_000)).collect()), lane(1, Vec::new())];
    let report = shared_queue(&lanes).unwrap();
    assert!(!report.lanes_certified, "{report:?}");
    assert!(report.shared_certified() && report.describe().contains("2 lanes: certified"), "{report:?}");
}

#[test]
fn the_factor_is_certified_and_the_next_is_not() {
    let lanes =
        [lane(0, vec![task(0, 3_000, 10_000), task(1, 2_500, 9_000)]), lane(1, vec![task(2, 900, 7_000)])];
    let report = shared_queue(&lanes).unwrap();
    let with = |ppm: u64, test: SharedTest| {
        let tasks = lanes.iter().flat_map(|lane| &lane.tasks).map(|task| {
            let cost = (task.segments[0].get() * ppm).div_ceil(1_000_000);
            LaneTask { segments: vec![Nanos::new(cost)], ..task.clone() }
        });
        test.run(&SharedQueue { servers: 2, class: PolicyClass::AbsoluteDeadline, tasks: tasks.collect() })
    };
    let mut seen = 0;
    for test in &report.tests {
        let Some(ppm) = test.scale_ppm else { continue };
        seen += 1;
        assert_eq!(with(ppm, test.test), Outcome::Certified);
        assert_ne!(with(ppm + 1, test.test), Outcome::Certified);
    }
    assert_eq!(seen, 3, "{report:?}");
}

#[test]
fn lanes_that_are_no_queue_are_refused() {
    assert_eq!(shared_queue(&[]), Err(SharedQueueError::Lanes { lanes: 0 }));
    let other = LaneProblem { class: PolicyClass::StaticPriority, ..lane(1, Vec::new()) };
    let mixed = shared_queue(&[lane(0, Vec::new()), other]);
    assert!(matches!(mixed, Err(SharedQueueError::MixedClasses { .. })));
    let overrun = LaneProblem { overrun: Nanos::new(1), ..lane(0, Vec::new()) };
    assert!(matches!(shared_queue(&[overrun]), Err(SharedQueueError::Overrun { .. })));
}

#[test]
fn numbers_at_the_ends_of_their_range_end_in_an_outcome() {
    let ends = [0, 1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX];
    for class in [PolicyClass::StaticPriority, PolicyClass::AbsoluteDeadline, PolicyClass::ArrivalOrder] {
        for (&cost, &period) in ends.iter().flat_map(|cost| ends.iter().map(move |period| (cost, period))) {
            for (&deadline, &jitter) in ends.iter().flat_map(|d| ends.iter().map(move |j| (d, j))) {
                let one = |id| LaneTask {
                    id: TaskId::new(id),
                    segments: vec![Nanos::new(cost); 2],
                    period: Nanos::new(period),
                    deadline: Nanos::new(deadline),
                    jitter: Nanos::new(jitter),
                    key: deadline,
                };
                for servers in [0, 1, 3, u32::MAX] {
                    let queue = SharedQueue { servers, class, tasks: (0..3).map(one).collect() };
                    for test in SharedTest::ALL {
                        let outcome = test.run(&queue);
                        let late = u128::from(cost) * 2 + u128::from(jitter) > u128::from(deadline);
                        assert!(outcome != Outcome::Certified || !late && servers > 0, "{queue:?}");
                    }
                }
            }
        }
    }
}
