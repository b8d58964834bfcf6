//! Pathological inputs end in a refusal, in bounded time, without a panic.

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{Blocking, Cause, LaneProblem, LaneTask, Stop, decide, respond};
use aegis_sched::referee::{Objection, check_bounds};
use aegis_types::{LaneId, Nanos, TaskId};

const CLASSES: [PolicyClass; 5] = [
    PolicyClass::StaticPriority,
    PolicyClass::AbsoluteDeadline,
    PolicyClass::ArrivalOrder,
    PolicyClass::WorkConserving,
    PolicyClass::Fair,
];

fn task(index: u16, cost: u64, period: u64, jitter: u64) -> LaneTask {
    LaneTask {
        id: TaskId::new(index),
        segments: vec![Nanos::new(cost)],
        period: Nanos::new(period),
        deadline: Nanos::new(period),
        jitter: Nanos::new(jitter),
        key: period,
    }
}

fn lane(class: PolicyClass, tasks: Vec<LaneTask>) -> LaneProblem {
    LaneProblem { lane: LaneId::new(0), tasks, class, blocking: Blocking::Attained, overrun: Nanos::ZERO }
}

fn refused(problem: &LaneProblem) -> Cause {
    let failure = decide(problem).expect_err("refused");
    assert!(respond(problem, Stop::AtDeadline).is_err());
    failure.cause
}

#[test]
fn a_full_lane_with_jitter_is_refused() {
    for class in CLASSES {
        let cause = refused(&lane(class, vec![task(0, 5, 10, 3), task(1, 50, 100, 7)]));
        assert_eq!(cause, Cause::Full, "{class}");
    }
}

#[test]
fn more_than_all_is_refused_with_the_figure() {
    for class in CLASSES {
        let cause =
            refused(&lane(class, vec![task(0, 2, 3, 0), task(1, 1, 3, 0), task(2, 1, u64::MAX >> 5, 0)]));
        assert_eq!(cause, Cause::Utilisation { ppm: 1_000_002 }, "{class}");
    }
}

#[test]
fn exactly_all_is_no_refusal_by_utilisation() {
    let problem =
        lane(PolicyClass::AbsoluteDeadline, vec![task(0, 1, 3, 0), task(1, 1, 3, 0), task(2, 1, 3, 0)]);
    let claim = decide(&problem).expect("1/3 + 1/3 + 1/3 is 1");
    check_bounds(&problem, &claim).expect("accepted");
}

#[test]
fn the_largest_numbers_are_refused() {
    let large = [0, 1, u64::MAX, u64::MAX - 1, 1 << 63, 1 << 60, (1 << 60) + 1];
    for class in CLASSES {
        for cost in large {
            for period in large {
                for jitter in large {
                    let mut problem = lane(class, vec![task(0, cost, period, jitter), task(1, 1, 7, 0)]);
                    for overrun in [0, u64::MAX] {
                        problem.overrun = Nanos::new(overrun);
                        if let Ok(claim) = respond(&problem, Stop::Never) {
                            check_bounds(&problem, &claim).expect("accepted");
                        }
                        let _verdict = decide(&problem);
                    }
                }
            }
        }
    }
}

#[test]
fn many_tasks_and_periods_of_one_nanosecond_end() {
    for class in CLASSES {
        refused(&lane(class, (0..10_000).map(|index| task(index, 1, 1, 0)).collect()));
        // Utilisation just below one: the busy period is long and every step of it costs 10,000 tasks.
        let slow = (0..10_000)
            .map(|index| task(index, 99_999, 1_000_000_000 + u64::from(index), 1_000_000))
            .collect();
        let _ends = decide(&lane(class, slow));
    }
}

#[test]
fn a_long_busy_period_ends_as_undecided() {
    let nearly = vec![task(0, 1, 2, 1), task(1, (1 << 40) / 2 - 1, 1 << 40, 0)];
    let cause = refused(&lane(PolicyClass::StaticPriority, nearly));
    assert!(!matches!(cause, Cause::Utilisation { .. }), "{cause:?}");
}

/// The referee does not trust the evidence to be short either.
#[test]
fn endless_evidence_is_refused() {
    let problem = lane(PolicyClass::ArrivalOrder, vec![task(0, 1, 2, 1)]);
    let mut claim = respond(&problem, Stop::Never).expect("light");
    claim.busy[0] = Nanos::new(u64::MAX);
    assert_eq!(check_bounds(&problem, &claim), Err(Objection::Range));
    claim.busy[0] = Nanos::new(1 << 62);
    assert_eq!(
        check_bounds(&problem, &claim),
        Ok(()),
        "a longer window is no lie, and walks down in big steps"
    );
}
