//! Answers do not depend on the unit of time: a lane with all spans multiplied has all bounds multiplied. Blocking is
//! charged as attained, so that no single tick counts. Small numbers and large ones take different ways through the
//! solvers, and with factors at random bounds lie on both sides of every border between them.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{AdmittedLane, Blocking, LaneProblem, Stop, bounds, fits, respond};
use aegis_sched::referee::check_bounds;
use aegis_types::Nanos;

use crate::generate::{Rng, Shape, for_seeds, lane};

fn scaled(problem: &LaneProblem, factor: u64) -> LaneProblem {
    let mut problem = problem.clone();
    let scale = |span: &mut Nanos| *span = Nanos::new(span.get() * factor);
    for task in &mut problem.tasks {
        task.segments.iter_mut().for_each(scale);
        [&mut task.period, &mut task.deadline, &mut task.jitter].into_iter().for_each(scale);
    }
    problem
}

/// A lane in small numbers, and a factor that makes its bounds about as long as a random power of two.
fn drawn(rng: &mut Rng) -> (LaneProblem, u64) {
    let shape = Shape {
        tasks: (1, 12),
        period: (5, 120),
        blocking: Blocking::Attained,
        ..Shape::tiny(PolicyClass::StaticPriority).with_segments(2).with_jitter(rng.range(0, 1))
    };
    let mut problem = lane(rng, shape);
    if rng.one_in(2) {
        problem.tasks.iter_mut().for_each(|task| task.key = task.deadline.get());
    }
    let most = 1 << rng.range(1, 30);
    (problem, rng.range(most / 2, most))
}

#[test]
fn bounds_are_to_scale() {
    let crossed = Cell::new(0u32);
    for_seeds("bounds_are_to_scale", 4_000, |rng| {
        let (small, factor) = drawn(rng);
        let large = scaled(&small, factor);
        let expected = bounds(&small).ok().map(|bounds| {
            let times = |bound: Nanos| Nanos::new(bound.get() * factor);
            bounds.into_iter().map(times).collect::<Vec<_>>()
        });
        assert_eq!(bounds(&large).ok(), expected, "{factor} times {small:#?}");
        let claimed = respond(&large, Stop::Never).ok();
        let stated = claimed.as_ref().map(|claim| claim.tasks.iter().map(|task| task.bound).collect());
        assert_eq!(stated, expected, "{factor} times {small:#?}");
        assert_eq!(fits(&large), fits(&small), "{factor} times {small:#?}");
        if let (Some(claim), true) = (&claimed, fits(&large)) {
            check_bounds(&large, claim).expect("accepted");
        }
        let border = Nanos::new(1 << 30);
        let both = |bounds: &Vec<Nanos>| {
            bounds.iter().any(|&bound| bound < border) && bounds.iter().any(|&bound| bound > border)
        };
        crossed.set(crossed.get() + u32::from(expected.as_ref().is_some_and(both)));
    });
    assert!(std::env::var("AEGIS_SETS").is_ok() || crossed.get() > 100, "only {crossed:?} on both sides");
}

#[test]
fn coming_and_going_is_to_scale() {
    let seen = Cell::new([0u32; 2]);
    for_seeds("coming_and_going_is_to_scale", 600, |rng| {
        let (small, factor) = drawn(rng);
        let large = scaled(&small, factor);
        let empty =
            |problem: &LaneProblem| AdmittedLane::empty(problem.lane, problem.class, problem.blocking);
        let (mut one, mut other) = (empty(&small), empty(&large));
        for _ in 0..30 {
            let index = usize::try_from(rng.range(0, small.tasks.len() as u64 - 1)).expect("few tasks");
            let id = small.tasks[index].id;
            if one.remove(id).is_some() {
                assert!(other.remove(id).is_some(), "{factor} times {:#?}", one.problem());
                continue;
            }
            let joins = one.add(small.tasks[index].clone()).is_ok();
            assert_eq!(
                other.add(large.tasks[index].clone()).is_ok(),
                joins,
                "{factor} times {:#?}",
                one.problem()
            );
            let mut counts = seen.get();
            counts[usize::from(joins)] += 1;
            seen.set(counts);
        }
    });
    let balanced = seen.get().iter().all(|&count| count > 300);
    assert!(std::env::var("AEGIS_SETS").is_ok() || balanced, "one-sided: {seen:?}");
}
