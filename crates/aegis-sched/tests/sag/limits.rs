//! Limits end in "undecided", never in "schedulable".

use aegis_sched::sag::{Job, JobSet, Limit, Limits, Options, SagVerdict, explore};
use aegis_types::Bytes;

use super::exact::explored;
use super::generate::job;

/// Jobs in any order: many sets of dispatched jobs.
fn wide(jobs: u64) -> Vec<Job> {
    (1..=jobs).map(|task| job(task, [0, 1_000], [1, 1 << task], 1 << 40, task)).collect()
}

#[test]
fn a_limit_ends_undecided() {
    let jobs = wide(14);
    let full = explored(&jobs, &[], Options::default());
    assert_eq!(full.verdict, SagVerdict::Schedulable);
    assert!(full.effort.states > 10_000, "{:?}", full.effort);
    let verdict = |limits| {
        let report = explored(&jobs, &[], Options { limits, ..Options::default() });
        assert!(!report.complete);
        report.verdict
    };
    for states in [0, 1, 100, full.effort.states - 1] {
        let limits = Limits { states, ..Limits::default() };
        assert_eq!(verdict(limits), SagVerdict::Undecided { limit: Limit::States });
    }
    for bytes in [0, 1_000, full.effort.bytes_peak / 3] {
        let limits = Limits { bytes: Bytes::new(bytes), ..Limits::default() };
        assert_eq!(verdict(limits), SagVerdict::Undecided { limit: Limit::Memory });
    }
    let set = JobSet::new(jobs, &[]).unwrap();
    let mut asked = 0;
    let mut twice = || {
        asked += 1;
        asked < 2
    };
    let report = explore(&set, &Options::default(), &mut twice).unwrap();
    assert_eq!(report.verdict, SagVerdict::Undecided { limit: Limit::Stopped });
    assert!(report.effort.states < full.effort.states);
}

#[test]
fn what_is_held_stays_within_the_limit_of_memory() {
    let jobs = wide(16);
    let full = explored(&jobs, &[], Options::default()).effort.bytes_peak;
    for share in 1..20 {
        let bytes = full * share / 15;
        let limits = Limits { bytes: Bytes::new(bytes), ..Limits::default() };
        let report = explored(&jobs, &[], Options { limits, ..Options::default() });
        let held = report.effort.bytes_peak;
        assert!(held <= bytes || held < 16_384, "{held} of {bytes}");
        assert!(share < 15 || report.verdict == SagVerdict::Schedulable, "{share}: {:?}", report.verdict);
    }
}

#[test]
fn ten_thousand_jobs_at_once_have_a_verdict() {
    let jobs: Vec<Job> = (1..=10_000).map(|task| job(task, [0, 0], [1, 3], 40_000, task % 7)).collect();
    let report = explored(&jobs, &[], Options::default());
    assert_eq!(report.verdict, SagVerdict::Schedulable);
    assert_eq!(report.effort.edges, 10_000);
}
