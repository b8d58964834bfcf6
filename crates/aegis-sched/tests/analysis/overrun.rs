//! Bounds under accumulated overrun: never exceeded, and needed.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::ladder::{ladder, tolerance};
use aegis_sched::analysis::{LaneProblem, Stop, decide, respond};
use aegis_sched::referee::check;
use aegis_types::Nanos;

use crate::generate::{Rng, Shape, for_seeds, lane};
use crate::sim::{Job, Ties, critical, int, run};

const CLASSES: [PolicyClass; 5] = [
    PolicyClass::StaticPriority,
    PolicyClass::AbsoluteDeadline,
    PolicyClass::ArrivalOrder,
    PolicyClass::WorkConserving,
    PolicyClass::Fair,
];

fn overrunning(rng: &mut Rng, problem: &LaneProblem) -> Vec<Job> {
    let task = usize::try_from(rng.range(0, problem.tasks.len() as u64 - 1)).expect("few tasks");
    let other = usize::try_from(rng.range(0, problem.tasks.len() as u64)).expect("few tasks");
    let blocker = Some(other).filter(|&other| other != task && other < problem.tasks.len());
    let mut jobs = critical(problem, task, blocker, -int(problem.tasks[task].jitter.get()), 60);
    for _ in 0..rng.range(1, 3) {
        let job = usize::try_from(rng.range(0, jobs.len() as u64 - 1)).expect("few jobs");
        let segments = &mut jobs[job].segments;
        let segment = usize::try_from(rng.range(0, segments.len() as u64 - 1)).expect("few segments");
        segments[segment] += int(rng.range(1, 4));
    }
    jobs
}

#[test]
fn bounds_hold_under_overrun_and_without_it_they_would_not() {
    for class in CLASSES {
        let (covered, exceeded) = (Cell::new(0u32), Cell::new(0u32));
        let shape = Shape { tasks: (2, 4), ..Shape::tiny(class).with_segments(2).with_jitter(1) };
        for_seeds("bounds_hold_under_overrun_and_without_it_they_would_not", 800, |rng| {
            let mut problem = lane(rng, shape);
            let Ok(without) = respond(&problem, Stop::Never) else { return };
            for _ in 0..4 {
                let jobs = overrunning(rng, &problem);
                for job in run(&problem, &jobs, Ties::Mixed(rng.range(0, 1 << 40))) {
                    problem.overrun = Nanos::new(job.overrun);
                    let Ok(claim) = respond(&problem, Stop::Never) else { continue };
                    let bound = int(claim.tasks[job.task].bound.get());
                    assert!(job.response <= bound, "{job:?} exceeds {bound}: {problem:#?} {jobs:?}");
                    covered.set(covered.get() + 1);
                    if job.response > int(without.tasks[job.task].bound.get()) {
                        exceeded.set(exceeded.get() + 1);
                    }
                }
                problem.overrun = Nanos::ZERO;
            }
        });
        assert!(
            std::env::var("AEGIS_SETS").is_ok() || covered.get() > 1_000,
            "{class}: only {covered:?} jobs"
        );
        // The control: bounds that ignore the overrun are exceeded, so the check above can fail.
        assert!(
            std::env::var("AEGIS_SETS").is_ok() || exceeded.get() > 0,
            "{class}: the control was not exceeded"
        );
    }
}

#[test]
fn the_tolerance_is_the_largest_and_every_rung_is_accepted() {
    for class in CLASSES {
        let (lanes, positive) = (Cell::new(0u32), Cell::new(0u32));
        let shape = Shape { tasks: (1, 4), period: (10, 60), ..Shape::tiny(class) };
        for_seeds("the_tolerance_is_the_largest_and_every_rung_is_accepted", 1_000, |rng| {
            let mut problem = lane(rng, shape);
            let Ok(found) = tolerance(&problem) else { return };
            problem.overrun = found;
            assert!(decide(&problem).is_ok());
            problem.overrun = Nanos::new(found.get() + 1);
            assert!(decide(&problem).is_err(), "{found} is not the largest: {problem:#?}");
            lanes.set(lanes.get() + 1);
            positive.set(positive.get() + u32::from(!found.is_zero()));
            let rungs = ladder(&problem, 5).expect("deadlines hold up to the tolerance");
            assert_eq!(rungs.last().map(|claim| claim.overrun), Some(found));
            for claim in &rungs {
                problem.overrun = claim.overrun;
                check(&problem, claim).expect("the referee accepts every rung");
            }
        });
        let enough = lanes.get() > 100 && positive.get() > 50;
        assert!(
            std::env::var("AEGIS_SETS").is_ok() || enough,
            "{class}: {lanes:?} lanes, {positive:?} tolerant"
        );
    }
}
