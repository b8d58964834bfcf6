//! One core: bounds and verdicts equal enumeration.

use aegis_sched::sag::{
    Edge, Exactness, Job, JobSet, Limits, OnMiss, Options, SagReport, SagVerdict, explore, witness,
};
use aegis_types::Nanos;

use super::enumerate::{World, all_met};
use super::generate::{Rng, for_seeds, job, tiny};

pub fn explored(jobs: &[Job], edges: &[Edge], options: Options) -> SagReport {
    let set = JobSet::new(jobs.to_vec(), edges).expect("a legal set");
    explore(&set, &options, &mut || true).expect("options that go together")
}

pub fn all() -> Options {
    Options { on_miss: OnMiss::Explore, limits: Limits::default(), ..Options::default() }
}

pub fn bounds(report: &SagReport) -> Vec<[u64; 2]> {
    let found = report.bounds.iter().map(|bounds| bounds.expect("a complete exploration reaches every job"));
    found.map(|found| [found.completion_min.get(), found.completion_max.get()]).collect()
}

fn check(jobs: &[Job], edges: &[Edge]) {
    let seen = World { jobs, edges, cores: 1, idle: None }.enumerate();
    let report = explored(jobs, edges, all());
    assert!(report.complete && report.exactness == Exactness::Exact);
    assert_eq!(bounds(&report), seen, "{jobs:?} {edges:?}");
    let met = all_met(jobs, &seen);
    assert_eq!(report.verdict == SagVerdict::Schedulable, met, "{jobs:?}");
    let stopped = explored(jobs, edges, Options::default());
    assert_eq!(stopped.verdict == SagVerdict::Schedulable, met, "{jobs:?}");
    if let SagVerdict::Miss { job, completion, deadline } = stopped.verdict {
        let place = jobs.iter().position(|other| other.key == job).expect("a job of the set");
        assert!(completion > deadline && completion.get() <= seen[place][1], "{jobs:?}");
    }
    replay(jobs, edges, met);
}

/// A refused set has a schedule that misses, within its intervals; a set that always fits has none.
fn replay(jobs: &[Job], edges: &[Edge], met: bool) {
    let set = JobSet::new(jobs.to_vec(), edges).expect("a legal set");
    let Some(fixed) = witness(&set, Limits::default(), &mut || true) else {
        assert!(met, "no witness: {jobs:?} {edges:?}");
        return;
    };
    for (fixed, job) in fixed.iter().zip(jobs) {
        let release = (job.release_min..=job.release_max).contains(&fixed.release_min);
        let cost = (job.cost_min..=job.cost_max).contains(&fixed.cost_min);
        assert!(fixed.key == job.key && release && cost, "{fixed:?} {job:?}");
        assert!(fixed.release_min == fixed.release_max && fixed.cost_min == fixed.cost_max);
    }
    let seen = World { jobs: &fixed, edges, cores: 1, idle: None }.enumerate();
    assert!(!all_met(jobs, &seen), "no miss: {fixed:?} of {jobs:?} {edges:?}");
}

/// Edges along the numbers of the jobs, so that there is no cycle; now and then none at all.
pub fn edges(rng: &mut Rng, jobs: &[Job], delay_max: u64) -> Vec<Edge> {
    let mut edges = Vec::new();
    for to in 1..jobs.len() {
        for from in 0..to {
            if rng.chance(3) {
                let delay = if delay_max == 0 { 0 } else { rng.range(0, delay_max) };
                edges.push(Edge {
                    from: jobs[from].key,
                    to: jobs[to].key,
                    delay_min: Nanos::new(delay),
                    delay_max: Nanos::new(delay + if delay_max == 0 { 0 } else { rng.range(0, 1) }),
                });
            }
        }
    }
    edges
}

#[test]
fn every_set_of_three_small_jobs_equals_enumeration() {
    let mut shapes = Vec::new();
    for release in 0..3 {
        for wait in 0..3 {
            for cost in 1..3 {
                shapes.extend((0..2).map(|more| ([release, release + wait], [cost, cost + more])));
            }
        }
    }
    for &(release_a, cost_a) in &shapes {
        for &(release_b, cost_b) in &shapes {
            // Which of the two goes first is the order of the loops; the third is the least urgent.
            for &(release_c, cost_c) in shapes.iter().step_by(3) {
                let jobs = [
                    job(1, release_a, cost_a, 5, 1),
                    job(2, release_b, cost_b, 6, 2),
                    job(3, release_c, cost_c, 8, 3),
                ];
                let seen = World { jobs: &jobs, edges: &[], cores: 1, idle: None }.enumerate();
                let report = explored(&jobs, &[], all());
                assert_eq!(bounds(&report), seen, "{jobs:?}");
                assert_eq!(report.verdict == SagVerdict::Schedulable, all_met(&jobs, &seen), "{jobs:?}");
            }
        }
    }
}

#[test]
fn random_sets_equal_enumeration() {
    for_seeds("random_sets_equal_enumeration", 1_500, |rng| {
        let count = rng.range(3, 6);
        let jobs = tiny(rng, count);
        let world = World { jobs: &jobs, edges: &[], cores: 1, idle: None };
        if world.combinations() <= 3_000 {
            check(&jobs, &[]);
        }
    });
}

#[test]
fn random_sets_with_precedence_equal_enumeration() {
    for_seeds("random_sets_with_precedence_equal_enumeration", 1_500, |rng| {
        let count = rng.range(3, 6);
        let jobs = tiny(rng, count);
        let edges = edges(rng, &jobs, 0);
        if (World { jobs: &jobs, edges: &edges, cores: 1, idle: None }).combinations() <= 3_000 {
            check(&jobs, &edges);
        }
    });
}

/// Enough jobs for sets of several words, and samples inside of the bounds.
#[test]
fn long_sets_contain_every_sampled_schedule() {
    for_seeds("long_sets_contain_every_sampled_schedule", 40, |rng| {
        let mut jobs = Vec::new();
        for number in 0..rng.range(60, 200) {
            let release = number * 5 + rng.range(0, 10);
            let cost = rng.range(1, 5);
            let deadline = release + rng.range(20, 60);
            // One job is never urgent enough to leave the front of the set.
            let priority = if number == 0 { 1_000_000 } else { deadline };
            let waits = [release, release + rng.range(0, 3)];
            jobs.push(job(number, waits, [cost, cost + rng.range(0, 1)], deadline, priority));
        }
        let report = explored(&jobs, &[], all());
        let seen = World { jobs: &jobs, edges: &[], cores: 1, idle: None }.sample(rng, 60);
        for (bounds, seen) in bounds(&report).iter().zip(&seen) {
            assert!(bounds[0] <= seen[0] && seen[1] <= bounds[1], "{bounds:?} {seen:?}");
        }
    });
}

/// The oracle is not blind: figures that are one tick off are found out.
#[test]
fn a_bound_that_is_off_by_one_differs_from_enumeration() {
    let jobs = [job(1, [0, 2], [2, 3], 20, 1), job(2, [0, 0], [4, 5], 20, 2), job(3, [1, 3], [1, 1], 20, 3)];
    let mut shorter = jobs;
    shorter[1].cost_max = Nanos::new(4);
    let seen = World { jobs: &jobs, edges: &[], cores: 1, idle: None }.enumerate();
    assert_eq!(bounds(&explored(&jobs, &[], all())), seen);
    assert_ne!(bounds(&explored(&shorter, &[], all())), seen);
}

/// Three jobs are over at 12 or at 14 to 16, never at 13: only then would the fifth job go before the sixth.
#[test]
fn intervals_with_an_instant_between_them_stay_apart() {
    let jobs = [
        job(1, [0, 0], [1, 5], 99, 1),
        job(2, [0, 0], [10, 10], 99, 6),
        job(3, [3, 3], [1, 1], 99, 5),
        job(4, [12, 12], [10, 10], 99, 4),
        job(5, [13, 13], [1, 1], 99, 3),
        job(6, [14, 14], [5, 5], 99, 2),
    ];
    check(&jobs, &[]);
    let fifth = bounds(&explored(&jobs, &[], all()))[4];
    assert!(fifth[0] >= 20, "{fifth:?}");
}
