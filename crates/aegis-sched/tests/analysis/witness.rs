//! Witnesses are legal runs, and another simulator finds the miss that they claim.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::witness::{NoWitness, Witness, replay, witness};
use aegis_types::TaskId;

use crate::generate::{Shape, for_seeds, lane};
use crate::sim::{Job, Ties, int, run};

/// The jobs as the other simulator takes them; it wants those of a task in order.
fn jobs(problem: &LaneProblem, found: &Witness) -> Vec<Job> {
    let position =
        |id: TaskId| problem.tasks.iter().position(|task| task.id == id).expect("a task of the lane");
    let job = |job: &aegis_sched::witness::WitnessJob| Job {
        task: position(job.task),
        arrival: int(job.arrival.get()),
        release: int(job.release.get()),
        segments: job.segments.iter().map(|segment| int(segment.get())).collect(),
    };
    found.jobs.iter().map(job).collect()
}

fn check_legal(problem: &LaneProblem, jobs: &[Job]) {
    for (position, task) in problem.tasks.iter().enumerate() {
        let own: Vec<&Job> = jobs.iter().filter(|job| job.task == position).collect();
        for job in &own {
            let wait = job.release - job.arrival;
            assert!((0..=int(task.jitter.get())).contains(&wait), "{job:?} of {task:?}");
            let budgets: Vec<i64> = task.segments.iter().map(|segment| int(segment.get())).collect();
            assert_eq!(job.segments, budgets, "every segment takes what it may and no more");
        }
        for pair in own.windows(2) {
            assert!(pair[1].arrival - pair[0].arrival >= int(task.period.get()), "{pair:?} of {task:?}");
        }
    }
}

/// Ties as the engine breaks them cannot be told to the other simulator, so its miss is looked for among all of its
/// orders of ties.
fn check_miss(problem: &LaneProblem, found: &Witness) -> bool {
    let jobs = jobs(problem, found);
    check_legal(problem, &jobs);
    assert_eq!(replay(problem, &found.jobs, Some(found.miss.task)), Some(found.miss), "{found:#?}");
    let miss = found.miss;
    let task = problem.tasks.iter().find(|task| task.id == miss.task).expect("a task of the lane");
    assert_eq!(miss.deadline.get() - miss.arrival.get(), task.deadline.get());
    assert!(miss.end > miss.deadline, "{miss:?}");
    let position = problem.tasks.iter().position(|task| task.id == miss.task).expect("found above");
    let seen = |ties: Ties| {
        run(problem, &jobs, ties).iter().any(|job| {
            let ends = job.arrival + job.response;
            job.task == position && job.arrival == int(miss.arrival.get()) && ends >= int(miss.end.get())
        })
    };
    seen(if problem.class == PolicyClass::Fair { Ties::InTurn } else { Ties::Loses(position) })
}

/// Every refusal has a witness or a reason; how many of each is returned.
fn check(test: &'static str, class: PolicyClass, segments: u64, jitter: u64) -> (u64, u64) {
    let counts = Cell::new((0, 0));
    let shape = Shape::tiny(class).with_segments(segments).with_jitter(jitter);
    for_seeds(test, 600, |rng| {
        let problem = lane(rng, shape);
        let Err(failure) = decide(&problem) else {
            // A certified lane has no witness: the analysis is safe.
            assert!(witness(&problem, None).is_err(), "{problem:#?}");
            return;
        };
        let (with, without) = counts.get();
        match witness(&problem, failure.position) {
            Ok(found) => {
                assert!(check_miss(&problem, &found), "{problem:#?}\n{found:#?}");
                counts.set((with + 1, without));
            }
            Err(why) => {
                assert!(!why.to_string().is_empty());
                counts.set((with, without + 1));
            }
        }
    });
    counts.get()
}

/// Few refusals are left without a witness: where blocking is exact only ties are.
fn check_mostly(test: &'static str, class: PolicyClass, segments: u64, jitter: u64) {
    let (with, without) = check(test, class, segments, jitter);
    // Whoever repeats a seed has too few sets for a share.
    if std::env::var_os("AEGIS_SETS").is_some() {
        return;
    }
    assert!(with > 20, "{with} with, {without} without");
    assert!(with >= 9 * without, "{with} with, {without} without");
}

#[test]
fn refusals_of_static_priority_have_witnesses() {
    check_mostly("refusals_of_static_priority_have_witnesses", PolicyClass::StaticPriority, 3, 1);
}

#[test]
fn refusals_of_absolute_deadlines_have_witnesses() {
    check_mostly("refusals_of_absolute_deadlines_have_witnesses", PolicyClass::AbsoluteDeadline, 1, 1);
}

#[test]
fn refusals_of_arrival_order_have_witnesses() {
    check_mostly("refusals_of_arrival_order_have_witnesses", PolicyClass::ArrivalOrder, 2, 0);
}

/// The bound of turns is sufficient only; where jobs have one segment each and weights are one, most refusals are true.
#[test]
fn refusals_of_turns_have_witnesses_or_a_reason() {
    let (with, without) = check("refusals_of_turns_have_witnesses_or_a_reason", PolicyClass::Fair, 2, 1);
    println!("{with} with, {without} without");
    assert!(std::env::var_os("AEGIS_SETS").is_some() || with > 100 && without > 0, "{with} {without}");
}

#[test]
fn a_policy_that_picks_freely_is_not_accused() {
    for_seeds("a_policy_that_picks_freely_is_not_accused", 10, |rng| {
        let problem = lane(rng, Shape::tiny(PolicyClass::WorkConserving));
        assert_eq!(witness(&problem, None), Err(NoWitness::Free));
    });
}
