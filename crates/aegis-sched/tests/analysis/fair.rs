//! Turns: bounds against a simulated weighted round robin, and where they are attained.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{LaneProblem, Stop, respond};
use aegis_sched::referee::{Objection, check_bounds};
use aegis_types::Nanos;

use crate::generate::{Rng, Shape, for_seeds, lane};
use crate::sim::{Job, Ties, critical, dense, int, run};

const SHAPE: Shape =
    Shape { tasks: (2, 5), ..Shape::tiny(PolicyClass::Fair).with_segments(4).with_jitter(2) };

/// All tasks at once with their jitter used up, some of them earlier; some jobs fail on the way.
fn crowd(rng: &mut Rng, problem: &LaneProblem) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (task, contract) in problem.tasks.iter().enumerate() {
        let from = if rng.one_in(3) { -int(rng.range(0, 12)) } else { 0 };
        dense(problem, task, from - int(rng.range(0, contract.jitter.get())), from, 80, &mut jobs);
    }
    for job in &mut jobs {
        if rng.one_in(12) {
            job.segments.truncate(usize::try_from(rng.range(1, 3)).expect("few segments"));
        }
    }
    jobs
}

/// No job responds later than its bound, also where the lane's busy period is worth more than the turns; and bounds
/// are not idle talk: some are attained.
#[test]
fn no_job_exceeds_its_bound_and_some_attain_it() {
    let (jobs, attained) = (Cell::new(0u64), Cell::new(0u64));
    for_seeds("no_job_exceeds_its_bound_and_some_attain_it", 3_000, |rng| {
        let problem = lane(rng, SHAPE);
        let Ok(claim) = respond(&problem, Stop::Never) else { return };
        check_bounds(&problem, &claim).expect("the referee accepts what the solver claims");
        for round in 0..12 {
            let task = usize::try_from(rng.range(0, problem.tasks.len() as u64 - 1)).expect("few tasks");
            let (crowd, ties) = match round % 3 {
                0 => (
                    critical(&problem, task, None, -int(problem.tasks[task].jitter.get()), 80),
                    Ties::Loses(task),
                ),
                1 => (crowd(rng, &problem), Ties::Loses(task)),
                _ => (crowd(rng, &problem), Ties::Mixed(rng.range(0, 1 << 40))),
            };
            for job in run(&problem, &crowd, ties) {
                let bound = int(claim.tasks[job.task].bound.get());
                assert!(job.response <= bound, "{job:?} exceeds {bound}: {problem:#?} {crowd:?}");
                jobs.set(jobs.get() + 1);
                attained.set(attained.get() + u64::from(job.response == bound));
            }
        }
    });
    let enough = jobs.get() > 100_000 && attained.get() > 1_000;
    assert!(std::env::var("AEGIS_SETS").is_ok() || enough, "{jobs:?} jobs, {attained:?} at their bound");
}

/// Bounds that count one turn less are exceeded, so the test above can fail.
#[test]
fn a_turn_less_is_too_few() {
    let exceeded = Cell::new(0u32);
    for_seeds("a_turn_less_is_too_few", 500, |rng| {
        let problem = lane(rng, Shape { jitter: 0, ..SHAPE });
        let Ok(claim) = respond(&problem, Stop::Never) else { return };
        for (task, claimed) in claim.tasks.iter().enumerate() {
            let others = problem.tasks.iter().enumerate().filter(|(other, _)| *other != task);
            let shortest = others.flat_map(|(_, other)| &other.segments).min();
            let less = claimed.bound.get() - shortest.map_or(0, |segment| segment.get());
            let crowd = critical(&problem, task, None, 0, 80);
            let late = run(&problem, &crowd, Ties::Loses(task));
            let late = late.iter().any(|job| job.task == task && job.response > int(less));
            exceeded.set(exceeded.get() + u32::from(late));
        }
    });
    assert!(std::env::var("AEGIS_SETS").is_ok() || exceeded.get() > 100, "only {exceeded:?}");
}

/// Weights 2 and 1; jobs of three segments and of one: 3 of its own, and two rounds of the other.
#[test]
fn a_bound_by_hand() {
    let mut problem = lane(&mut Rng::new(1), Shape { tasks: (2, 2), ..Shape::tiny(PolicyClass::Fair) });
    for (task, (segments, weight)) in problem.tasks.iter_mut().zip([(vec![10, 20, 30], 2), (vec![7], 1)]) {
        task.segments = segments.into_iter().map(Nanos::new).collect();
        (task.period, task.deadline, task.jitter) = (Nanos::new(1_000), Nanos::new(1_000), Nanos::ZERO);
        task.key = weight;
    }
    problem.tasks[1].period = Nanos::new(40);
    let claim = respond(&problem, Stop::Never).expect("light");
    check_bounds(&problem, &claim).expect("accepted");
    // 60 + 2 turns of 7. The other: 7 + a turn of the two segments 20 and 30, the longest pair.
    assert_eq!(claim.tasks[0].bound, Nanos::new(74));
    assert_eq!(claim.tasks[1].bound, Nanos::new(57));
    // A weight that runs a whole job and more changes what others wait for, up to the work of a busy period.
    problem.tasks[0].key = 4;
    let heavy = respond(&problem, Stop::Never).expect("light");
    assert_eq!(heavy.tasks[1].bound, Nanos::new(67));
    problem.tasks[0].key = 0;
    assert!(respond(&problem, Stop::Never).is_err(), "no weight, no turn");
    assert_eq!(check_bounds(&problem, &heavy), Err(Objection::Range));
}
