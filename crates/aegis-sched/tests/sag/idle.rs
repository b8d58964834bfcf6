//! Inserted idle time: no schedule leaves the bounds, and the papers' examples are saved by it.

use aegis_sched::sag::{IdleRule, Job, JobKey, Options, SagVerdict};

use super::enumerate::{World, all_met};
use super::exact::{all, bounds, edges, explored};
use super::generate::{Rng, counts_are_standard, for_seeds, job};

const RULES: [IdleRule; 2] = [IdleRule::PrecautiousRm, IdleRule::CriticalWindowEdf];

/// A few tasks with a few jobs each: tight enough for a rule to forbid something.
fn tasks(rng: &mut Rng) -> Vec<Job> {
    let mut jobs = Vec::new();
    for task in 1..=rng.range(2, 3) {
        let (period, cost) = (rng.range(5, 9), rng.range(1, 5));
        for number in 1..=rng.range(1, 2) {
            let release = (number - 1) * period + rng.range(0, 1);
            let cost = [cost, cost + if rng.chance(4) { 1 } else { 0 }];
            let wait = if rng.chance(6) { rng.range(0, 4) } else { 0 };
            let deadline = number * period + rng.range(0, 4);
            let mut made = job(task, [release, release + wait], cost, deadline, task);
            made.key = JobKey { task, job: number };
            jobs.push(made);
        }
    }
    jobs
}

#[test]
fn rules_contain_enumeration() {
    let (mut sets, mut tight, mut differ) = (0, 0, 0);
    for_seeds("rules_contain_enumeration", 2_500, |rng| {
        let jobs = tasks(rng);
        let edges = if rng.chance(3) { edges(rng, &jobs, 0) } else { Vec::new() };
        let plain = World { jobs: &jobs, edges: &edges, cores: 1, idle: None };
        if plain.combinations() > 2_000 {
            return;
        }
        let without = plain.enumerate();
        for idle in RULES {
            let seen = World { jobs: &jobs, edges: &edges, cores: 1, idle: Some(idle) }.enumerate();
            let report = explored(&jobs, &edges, Options { idle: Some(idle), ..all() });
            let found = bounds(&report);
            for (bounds, seen) in found.iter().zip(&seen) {
                let inside = bounds[0] <= seen[0] && seen[1] <= bounds[1];
                assert!(inside, "{idle:?} {jobs:?} {edges:?} {found:?} {seen:?}");
            }
            assert!(report.verdict != SagVerdict::Schedulable || all_met(&jobs, &seen), "{jobs:?}");
            sets += 1;
            tight += u32::from(found == seen);
            differ += u32::from(seen != without);
        }
    });
    println!("{tight} of {sets} tight, {differ} changed by a rule");
    if counts_are_standard() {
        assert!(differ * 10 > sets, "a rule must change what happens: {differ} of {sets}");
        assert!(tight * 20 >= sets * 19, "{tight} of {sets}");
    }
}

/// A set in which the first of the urgent jobs finds the core taken, unless the long job waits for it.
#[test]
fn waiting_saves_a_set() {
    let mut jobs = Vec::new();
    for number in 1..=6 {
        let mut urgent = job(1, [10 * (number - 1); 2], [1, 1], 10 * number, 1);
        urgent.key.job = number;
        jobs.push(urgent);
    }
    for number in 1..=2 {
        let mut middle = job(2, [30 * (number - 1); 2], [8, 8], 30 * number, 2);
        middle.key.job = number;
        jobs.push(middle);
    }
    jobs.push(job(3, [0, 0], [17, 17], 60, 3));
    let verdict = |idle| explored(&jobs, &[], Options { idle, ..Options::default() }).verdict;
    assert_ne!(verdict(None), SagVerdict::Schedulable);
    assert_eq!(verdict(Some(IdleRule::PrecautiousRm)), SagVerdict::Schedulable);
}
