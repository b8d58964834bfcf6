//! The engine itself makes the miss that a witness claims, and runs any jobs as the witness's own simulator does.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::enact::{EnactError, enact};
use aegis_sched::witness::{WitnessJob, replay, witness};
use aegis_types::{Nanos, TaskId, Time};

use crate::generate::{Rng, Shape, for_seeds, lane};

const CLASSES: [PolicyClass; 3] =
    [PolicyClass::StaticPriority, PolicyClass::AbsoluteDeadline, PolicyClass::ArrivalOrder];

fn drawn(rng: &mut Rng) -> LaneProblem {
    let class = CLASSES[usize::try_from(rng.range(0, 2)).expect("small")];
    let (segments, jitter) = (rng.range(1, 3), rng.range(0, 1));
    lane(rng, Shape::tiny(class).with_segments(segments).with_jitter(jitter))
}

#[test]
fn the_engine_misses_what_a_witness_says() {
    let shown = Cell::new([0u32; 3]);
    for_seeds("the_engine_misses_what_a_witness_says", 2_000, |rng| {
        let problem = drawn(rng);
        let Err(failure) = decide(&problem) else { return };
        let Ok(found) = witness(&problem, failure.position) else { return };
        let enacted = enact(&problem, &found.jobs).expect("a witness has few jobs");
        assert_eq!(
            enacted.miss(&problem, Some(found.miss.task)),
            Some(found.miss),
            "{problem:#?} {found:#?}"
        );
        let mut counts = shown.get();
        let class = CLASSES.iter().position(|class| *class == problem.class).expect("one of them");
        counts[class] += 1;
        shown.set(counts);
    });
    println!("misses made by the engine, by class: {:?}", shown.get());
    // Whoever repeats a seed has too few sets for counts.
    assert!(std::env::var_os("AEGIS_SETS").is_some() || shown.get().iter().all(|&count| count > 50));
}

/// Any jobs at all, legal or not: the engine and the simulator behind the witnesses agree on the first miss.
#[test]
fn the_engine_runs_jobs_as_the_witness_does() {
    let missed = Cell::new((0u32, 0u32));
    for_seeds("the_engine_runs_jobs_as_the_witness_does", 2_000, |rng| {
        let problem = drawn(rng);
        let mut jobs = Vec::new();
        for task in &problem.tasks {
            let mut arrival = rng.range(0, 9);
            for _ in 0..rng.range(0, 6) {
                let release = Time::new(arrival + rng.range(0, task.jitter.get()));
                let (arrives, segments) = (Time::new(arrival), task.segments.clone());
                jobs.push(WitnessJob { task: task.id, arrival: arrives, release, segments });
                // Releases of a task stay in the order of its arrivals.
                arrival = release.get() + rng.range(0, task.period.get());
            }
        }
        if jobs.is_empty() {
            return;
        }
        jobs.sort_by_key(|job| (job.release, job.task));
        let enacted = enact(&problem, &jobs).expect("few jobs");
        assert_eq!(enacted.ends.len(), jobs.len());
        for target in [None, Some(problem.tasks[0].id)] {
            let (seen, expected) = (enacted.miss(&problem, target), replay(&problem, &jobs, target));
            assert_eq!(seen, expected, "{problem:#?} {jobs:#?}");
            let (with, without) = missed.get();
            missed.set(if seen.is_some() { (with + 1, without) } else { (with, without + 1) });
        }
    });
    let (with, without) = missed.get();
    assert!(std::env::var_os("AEGIS_SETS").is_some() || (with > 300 && without > 300), "{with} {without}");
}

#[test]
fn jobs_that_are_none_of_the_lane_are_named() {
    let mut problem = drawn(&mut Rng::new(1));
    let job = |task: u16, arrival, release, span| WitnessJob {
        task: TaskId::new(task),
        arrival: Time::new(arrival),
        release: Time::new(release),
        segments: vec![Nanos::new(span)],
    };
    let foreign = |job: WitnessJob| {
        let WitnessJob { task, arrival, release, .. } = job;
        assert_eq!(enact(&problem, &[job]), Err(EnactError::Foreign { position: 0, task, arrival, release }));
    };
    foreign(job(99, 0, 0, 1));
    foreign(job(0, 5, 4, 1));
    assert_eq!(enact(&problem, &[job(0, 0, 0, u64::MAX)]), Err(EnactError::Range));
    assert!(matches!(enact(&problem, &[job(0, 0, 0, 0)]), Err(EnactError::Model(_))));
    let many: Vec<WitnessJob> = (0..10_001).map(|at| job(0, at, at, 1)).collect();
    assert!(matches!(enact(&problem, &many), Err(EnactError::Model(_))));
    problem.class = PolicyClass::Fair;
    assert_eq!(enact(&problem, &[job(0, 0, 0, 1)]), Err(EnactError::Free { class: PolicyClass::Fair }));
}
