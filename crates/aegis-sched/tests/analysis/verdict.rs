//! Verdicts without evidence say what decisions with evidence say, however they are come by.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::sensitivity::{Sensitivity, TaskMargin, sensitivity};
use aegis_sched::analysis::{AdmittedLane, LaneProblem, LaneTask, Stop, bounds, decide, fits, respond};
use aegis_types::{Nanos, TaskId};

use crate::generate::{Rng, Shape, for_seeds, lane};

const CLASSES: [PolicyClass; 5] = [
    PolicyClass::StaticPriority,
    PolicyClass::AbsoluteDeadline,
    PolicyClass::ArrivalOrder,
    PolicyClass::WorkConserving,
    PolicyClass::Fair,
];

fn shape(class: PolicyClass, rng: &mut Rng) -> Shape {
    let period = if rng.one_in(2) { (3, 12) } else { (5, 400) };
    Shape { tasks: (1, 7), period, ..Shape::tiny(class).with_segments(3).with_jitter(rng.range(0, 2)) }
}

fn problem(rng: &mut Rng, class: PolicyClass) -> LaneProblem {
    let shape = shape(class, rng);
    let mut problem = lane(rng, shape);
    problem.overrun = Nanos::new(if rng.one_in(3) { rng.range(0, 4) } else { 0 });
    if rng.one_in(4) {
        problem.tasks.iter_mut().for_each(|task| task.key = rng.range(1, 40));
    }
    problem
}

#[test]
fn bounds_are_those_of_claims() {
    for class in CLASSES {
        let seen = Cell::new(0u32);
        for_seeds("bounds_are_those_of_claims", 2_000, |rng| {
            let problem = problem(rng, class);
            let claimed = respond(&problem, Stop::Never).map(|claim| {
                seen.set(seen.get() + 1);
                claim.tasks.iter().map(|task| task.bound).collect::<Vec<_>>()
            });
            assert_eq!(bounds(&problem).ok(), claimed.ok(), "{problem:#?}");
        });
        assert!(std::env::var("AEGIS_SETS").is_ok() || seen.get() > 500, "{class}: only {seen:?} had bounds");
    }
}

#[test]
fn a_verdict_is_that_of_the_decision() {
    for class in CLASSES {
        let seen = Cell::new([0u32; 2]);
        for_seeds("a_verdict_is_that_of_the_decision", 2_000, |rng| {
            let problem = problem(rng, class);
            let decided = decide(&problem).is_ok();
            let mut counts = seen.get();
            counts[usize::from(decided)] += 1;
            seen.set(counts);
            assert_eq!(fits(&problem), decided, "{problem:#?}");
        });
        let balanced = seen.get().iter().all(|&count| count > 100);
        assert!(std::env::var("AEGIS_SETS").is_ok() || balanced, "{class}: one-sided: {seen:?}");
    }
}

/// Tasks that come and go: the lane says what a decision from scratch says, and a refusal leaves no trace.
#[test]
fn coming_and_going_equals_starting_over() {
    for class in CLASSES {
        let seen = Cell::new([0u32; 2]);
        for_seeds("coming_and_going_equals_starting_over", 300, |rng| {
            let start = Shape { tasks: (6, 12), period: (20, 300), ..shape(class, rng) };
            let pool = lane(rng, start).tasks;
            let mut admitted = AdmittedLane::empty(aegis_types::LaneId::new(0), class, start.blocking);
            for _ in 0..40 {
                let index = usize::try_from(rng.range(0, pool.len() as u64 - 1)).expect("few tasks");
                let mut task = pool[index].clone();
                task.segments.truncate(usize::try_from(rng.range(1, 3)).expect("few segments"));
                let before = admitted.problem().clone();
                if admitted.remove(task.id).is_some() {
                    assert!(decide(admitted.problem()).is_ok(), "{:#?}", admitted.problem());
                    continue;
                }
                let mut whole = before.clone();
                whole.tasks.push(task.clone());
                whole.tasks.sort_by_key(|task| task.id);
                let fits = decide(&whole).is_ok();
                assert_eq!(admitted.add(task).is_ok(), fits, "{whole:#?}");
                let expected = if fits { whole } else { before };
                assert_eq!(admitted.problem(), &expected);
                assert!(admitted.claim().is_ok());
                let mut counts = seen.get();
                counts[usize::from(fits)] += 1;
                seen.set(counts);
            }
        });
        let balanced = seen.get().iter().all(|&count| count > 100);
        assert!(std::env::var("AEGIS_SETS").is_ok() || balanced, "{class}: one-sided: {seen:?}");
    }
}

#[test]
fn what_cannot_join_is_named() {
    let shape = Shape { tasks: (2, 2), period: (90, 99), ..Shape::tiny(PolicyClass::ArrivalOrder) };
    let mut tasks = lane(&mut Rng::new(5), shape);
    for task in &mut tasks.tasks {
        (task.segments, task.deadline) = (vec![Nanos::new(20)], Nanos::new(60));
    }
    let mut admitted = AdmittedLane::of(tasks.clone()).expect("light");
    let taken = admitted.add(tasks.tasks[0].clone()).expect_err("there already");
    assert!(taken.to_string().contains("already"), "{taken}");
    let mut empty = tasks.tasks[0].clone();
    (empty.id, empty.segments) = (TaskId::new(7), Vec::new());
    let range = admitted.add(empty).expect_err("no segment");
    assert!(range.to_string().contains("empty segment list"), "{range}");
    let mut long = tasks.tasks[0].clone();
    (long.id, long.segments) = (TaskId::new(7), vec![Nanos::new(21)]);
    let deadline = admitted.add(long).expect_err("20 + 20 + 21 exceed 60");
    assert!(deadline.to_string().contains("not every deadline"), "{deadline}");
    assert_eq!(admitted.problem(), &tasks);
}

/// `problem` with one number moved.
fn moved(problem: &LaneProblem, at: usize, change: impl FnOnce(&mut LaneProblem, usize)) -> LaneProblem {
    let mut problem = problem.clone();
    change(&mut problem, at);
    problem
}

fn scaled(problem: &LaneProblem, at: usize, factor: u64, unit: u64) -> LaneProblem {
    moved(problem, at, |problem, at| {
        for segment in &mut problem.tasks[at].segments {
            *segment = Nanos::new((segment.get() * factor).div_ceil(unit));
        }
    })
}

/// Whether the tasks ask for nearly all of the lane: there busy periods grow without end, and a search gives up.
fn nearly_full(problem: &LaneProblem) -> bool {
    let cost = |task: &LaneTask| task.segments.iter().map(|segment| segment.get()).sum::<u64>();
    let ppm = problem.tasks.iter().map(|task| cost(task) * 1_000_000 / task.period.get().max(1));
    ppm.sum::<u64>() > 990_000
}

fn check_margin(problem: &LaneProblem, at: usize, margin: &TaskMargin) {
    let task = &problem.tasks[at];
    let total: u64 = task.segments.iter().map(|segment| segment.get()).sum();
    if let Some(cost) = margin.cost {
        assert!(fits(&scaled(problem, at, cost.get(), total)), "cost {cost} of {at}: {problem:#?}");
        let above = scaled(problem, at, cost.get() + 1, total);
        assert!(!fits(&above) || nearly_full(&above), "above cost {cost} of {at}: {problem:#?}");
    }
    let deadline = |to: u64| {
        moved(problem, at, |problem, at| {
            let task = &mut problem.tasks[at];
            if problem.class == PolicyClass::AbsoluteDeadline && task.key == task.deadline.get() {
                task.key = to;
            }
            task.deadline = Nanos::new(to);
        })
    };
    let period = |to: u64| moved(problem, at, |problem, at| problem.tasks[at].period = Nanos::new(to));
    let jitter = |to: u64| moved(problem, at, |problem, at| problem.tasks[at].jitter = Nanos::new(to));
    let stated = |border: Option<Nanos>, smallest: bool, with: &dyn Fn(u64) -> LaneProblem| {
        let Some(border) = border.map(Nanos::get) else { return };
        assert!(fits(&with(border)), "{border} of {at}: {problem:#?} {margin:?}");
        let beyond = if smallest { border - 1 } else { border + 1 };
        let tight = beyond == 0 || !fits(&with(beyond)) || nearly_full(&with(beyond));
        assert!(tight, "{beyond} of {at}: {problem:#?} {margin:?}");
    };
    stated(margin.deadline, true, &deadline);
    stated(margin.period, true, &period);
    stated(margin.jitter, false, &jitter);
    if let Some(delay) = margin.delay {
        let bound = |delay: u64| {
            let held = moved(problem, at, |problem, _| {
                problem.overrun = Nanos::new(problem.overrun.get() + delay);
            });
            bounds(&held).map(|bounds| bounds[at])
        };
        assert!(bound(delay.get()).is_ok_and(|bound| bound <= task.deadline), "{delay} {problem:#?}");
        let late = bound(delay.get() + 1).map_or(true, |bound| bound > task.deadline);
        assert!(late || nearly_full(problem), "{delay} {problem:#?}");
    }
}

/// The value that is stated fits, and the next one does not.
#[test]
fn borders_are_where_they_are_said_to_be() {
    for class in CLASSES {
        let stated = Cell::new(0u32);
        for_seeds("borders_are_where_they_are_said_to_be", 150, |rng| {
            let shape = Shape { tasks: (1, 5), period: (10, 60), ..Shape::tiny(class).with_segments(2) };
            let jitter = rng.range(0, 1);
            let mut problem = lane(rng, shape.with_jitter(jitter));
            if rng.one_in(4) {
                problem.tasks.iter_mut().for_each(|task| task.key = rng.range(1, 90));
            }
            let Sensitivity { scale_ppm, tasks } = sensitivity(&problem);
            if let Some(ppm) = scale_ppm {
                let with = |ppm: u64| {
                    let scale = |problem: LaneProblem, at| scaled(&problem, at, ppm, 1_000_000);
                    (0..problem.tasks.len()).fold(problem.clone(), scale)
                };
                assert!(fits(&with(ppm)), "{ppm} {problem:#?}");
                assert!(!fits(&with(ppm + 1)) || nearly_full(&with(ppm + 1)), "{ppm} {problem:#?}");
                let right = (ppm >= 1_000_000) == fits(&problem);
                assert!(right || nearly_full(&problem), "{ppm} {problem:#?}");
            }
            for (at, margin) in tasks.iter().enumerate() {
                check_margin(&problem, at, margin);
                let all = [margin.cost, margin.period, margin.deadline, margin.jitter, margin.delay];
                if all.iter().all(Option::is_some) {
                    stated.set(stated.get() + 1);
                }
            }
        });
        assert!(std::env::var("AEGIS_SETS").is_ok() || stated.get() > 50, "{class}: only {stated:?}");
    }
}
