//! No simulated job responds later than its bound, whatever the releases, executions and ties.

use aegis_sched::PolicyClass;
use aegis_sched::analysis::np_edf::{self, feasible_claim};
use aegis_sched::analysis::{LaneProblem, Stop, respond};
use aegis_sched::referee::check_bounds;

use crate::generate::{Rng, Shape, for_seeds, lane};
use crate::sim::{Finished, Job, Ties, costs, critical, int, run};

/// Sporadic jobs with random gaps, delays within jitter, and executions from nothing to the whole budget.
fn sporadic(rng: &mut Rng, problem: &LaneProblem, end: i64) -> Vec<Job> {
    let mut jobs = Vec::new();
    for (task, contract) in problem.tasks.iter().enumerate() {
        let (period, jitter) = (contract.period.get(), contract.jitter.get());
        let mut arrival = int(rng.range(0, period));
        let mut released = i64::MIN;
        while arrival < end {
            let delay = if rng.one_in(2) { rng.range(0, jitter) } else { 0 };
            released = released.max(arrival + int(delay));
            let mut segments = costs(contract);
            if rng.one_in(4) {
                segments.iter_mut().for_each(|length| *length = int(rng.range(0, length.unsigned_abs())));
            }
            jobs.push(Job { task, arrival, release: released, segments });
            arrival += int(period) + if rng.one_in(3) { int(rng.range(0, period)) } else { 0 };
        }
    }
    jobs
}

pub fn adversarial(rng: &mut Rng, problem: &LaneProblem, end: i64) -> (Vec<Job>, Ties) {
    let count = problem.tasks.len() as u64;
    let task = usize::try_from(rng.range(0, count - 1)).expect("few tasks");
    if rng.one_in(3) {
        return (sporadic(rng, problem, end), Ties::Mixed(rng.range(0, 1 << 40)));
    }
    let other = usize::try_from(rng.range(0, count)).expect("few tasks");
    let blocker = Some(other).filter(|&other| other != task && other < problem.tasks.len());
    let jitter = problem.tasks[task].jitter.get();
    let arrival = int(rng.range(0, jitter + 40)) - int(jitter);
    (critical(problem, task, blocker, arrival, end), Ties::Loses(task))
}

fn check(rng: &mut Rng, shape: Shape, schedules: u32) {
    let problem = lane(rng, shape);
    let Ok(claim) = respond(&problem, Stop::Never) else { return };
    check_bounds(&problem, &claim).expect("the referee accepts what the solver claims");
    let feasible = problem.class == PolicyClass::AbsoluteDeadline && feasible_claim(&problem).is_ok();
    for _ in 0..schedules {
        let (jobs, ties) = adversarial(rng, &problem, 80);
        for Finished { task, response, arrival, .. } in run(&problem, &jobs, ties) {
            let bound = int(claim.tasks[task].bound.get());
            assert!(
                response <= bound,
                "task {task} arriving at {arrival}: {response} > {bound}: {problem:#?} {jobs:?}"
            );
            let deadline = int(problem.tasks[task].deadline.get());
            assert!(!feasible || response <= deadline, "task {task} misses {deadline}: {problem:#?}");
        }
    }
}

#[test]
fn absolute_deadline_with_jitter() {
    let shape = Shape::tiny(PolicyClass::AbsoluteDeadline).with_jitter(2);
    let shape = Shape { tasks: (2, 4), ..shape };
    for_seeds("absolute_deadline_with_jitter", 20_000, |rng| check(rng, shape, 12));
}

#[test]
fn absolute_deadline_with_jitter_and_segments() {
    let shape = Shape::tiny(PolicyClass::AbsoluteDeadline).with_jitter(1).with_segments(3);
    let shape = Shape { tasks: (2, 4), ..shape };
    for_seeds("absolute_deadline_with_jitter_and_segments", 10_000, |rng| check(rng, shape, 12));
}

#[test]
fn every_class_with_jitter_and_segments() {
    let classes = [
        PolicyClass::StaticPriority,
        PolicyClass::ArrivalOrder,
        PolicyClass::WorkConserving,
        PolicyClass::Fair,
    ];
    for class in classes {
        let shape = Shape { tasks: (2, 5), ..Shape::tiny(class).with_jitter(2).with_segments(3) };
        for_seeds("every_class_with_jitter_and_segments", 1_500, |rng| check(rng, shape, 12));
    }
}

#[test]
fn ordering_by_other_deadlines() {
    let shape = Shape { tasks: (2, 4), ..Shape::tiny(PolicyClass::AbsoluteDeadline).with_jitter(1) };
    for_seeds("ordering_by_other_deadlines", 1_500, |rng| {
        let mut problem = lane(rng, shape);
        for task in &mut problem.tasks {
            task.key = rng.range(1, 30);
        }
        let Ok(claim) = np_edf::claim(&problem, Stop::Never) else { return };
        check_bounds(&problem, &claim).expect("the referee accepts what the solver claims");
        for _ in 0..12 {
            let (jobs, ties) = adversarial(rng, &problem, 80);
            for job in run(&problem, &jobs, ties) {
                assert!(job.response <= int(claim.tasks[job.task].bound.get()), "{job:?} of {problem:#?}");
            }
        }
    });
}

/// Feasible exactly where every response time is within its deadline.
#[test]
fn feasibility_and_response_times_agree() {
    let mut both = [0u32; 2];
    let counts = std::cell::RefCell::new(&mut both);
    let shape = Shape { tasks: (1, 5), period: (3, 60), ..Shape::tiny(PolicyClass::AbsoluteDeadline) };
    for_seeds("feasibility_and_response_times_agree", 3_000, |rng| {
        let jitter = rng.range(0, 1);
        let problem = lane(rng, shape.with_jitter(jitter));
        let Ok(claim) = respond(&problem, Stop::Never) else { return };
        let within =
            claim.tasks.iter().zip(&problem.tasks).all(|(claimed, task)| claimed.bound <= task.deadline);
        let feasible = feasible_claim(&problem);
        assert_eq!(feasible.is_ok(), within, "{problem:#?} {claim:#?}");
        if let Ok(claim) = feasible {
            check_bounds(&problem, &claim).expect("the referee accepts feasibility");
        }
        counts.borrow_mut()[usize::from(within)] += 1;
    });
    assert!(
        std::env::var("AEGIS_SETS").is_ok() || both.iter().all(|&count| count > 100),
        "one-sided: {both:?}"
    );
}
