//! Several cores, and delays: no schedule leaves the bounds.

use aegis_sched::sag::{Edge, Exactness, Job, Options, SagVerdict};

use super::enumerate::{World, all_met};
use super::exact::{all, bounds, edges, explored};
use super::generate::{counts_are_standard, for_seeds, job, tiny};

/// Whether the bounds are those of enumeration, beyond containing them.
fn check(jobs: &[Job], edges: &[Edge], cores: u32) -> bool {
    let seen = World { jobs, edges, cores: cores as usize, idle: None }.enumerate();
    let report = explored(jobs, edges, Options { cores, ..all() });
    assert!(report.complete);
    let found = bounds(&report);
    for (bounds, seen) in found.iter().zip(&seen) {
        assert!(
            bounds[0] <= seen[0] && seen[1] <= bounds[1],
            "{cores} cores: {jobs:?} {edges:?} {found:?} {seen:?}"
        );
    }
    let claimed = explored(jobs, edges, Options { cores, ..Options::default() }).verdict;
    assert!(claimed != SagVerdict::Schedulable || all_met(jobs, &seen), "{jobs:?}");
    found == seen
}

#[test]
fn several_cores_contain_enumeration() {
    let (mut sets, mut tight) = (0, 0);
    for_seeds("several_cores_contain_enumeration", 1_200, |rng| {
        let count = rng.range(3, 6);
        let jobs = tiny(rng, count);
        let cores = rng.range(2, 3) as u32;
        if (World { jobs: &jobs, edges: &[], cores: 1, idle: None }).combinations() <= 2_000 {
            sets += 1;
            tight += u32::from(check(&jobs, &[], cores));
        }
    });
    if counts_are_standard() {
        // Bounds that contain anything would be safe as well; these are attained nearly always.
        assert!(sets > 300 && tight * 10 >= sets * 8, "{tight} of {sets}");
    }
}

#[test]
fn precedence_and_delays_contain_enumeration() {
    let (mut sets, mut tight) = (0, 0);
    for_seeds("precedence_and_delays_contain_enumeration", 1_200, |rng| {
        let count = rng.range(3, 5);
        let jobs = tiny(rng, count);
        let edges = edges(rng, &jobs, 3);
        let cores = rng.range(1, 3) as u32;
        if (World { jobs: &jobs, edges: &edges, cores: 1, idle: None }).combinations() <= 2_000 {
            sets += 1;
            tight += u32::from(check(&jobs, &edges, cores));
        }
    });
    if counts_are_standard() {
        assert!(sets > 300 && tight * 2 >= sets, "{tight} of {sets}");
    }
}

/// A core more cannot be told from fewer by bounds that are only wide; these are known.
#[test]
fn two_cores_run_two_jobs_at_once() {
    let jobs = [job(1, [0, 0], [4, 5], 5, 1), job(2, [0, 0], [3, 3], 5, 2), job(3, [0, 0], [2, 2], 9, 3)];
    let report = explored(&jobs, &[], Options { cores: 2, ..Options::default() });
    assert_eq!(report.exactness, Exactness::Sufficient);
    assert_eq!(report.verdict, SagVerdict::Schedulable);
    assert_eq!(bounds(&report), [[4, 5], [3, 3], [5, 5]]);
}
