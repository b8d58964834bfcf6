//! Periodic tasks: what the first repetition promises holds in longer runs.

use aegis_sched::sag::periodic::jobs_of;
use aegis_sched::sag::{
    JobPolicy, JobSet, Limits, OnMiss, Options, PeriodicTask, SagError, SagVerdict, explore, explore_periodic,
};
use aegis_types::{Nanos, Time};

use super::generate::{Rng, counts_are_standard, for_seeds};

fn task(task: u64, numbers: [u64; 6]) -> PeriodicTask {
    let [offset, period, jitter, cost_min, cost_max, deadline] = numbers.map(Nanos::new);
    PeriodicTask { task, offset, period, jitter, cost_min, cost_max, deadline, priority: task }
}

fn random(rng: &mut Rng) -> Vec<PeriodicTask> {
    const PERIODS: [u64; 6] = [4, 6, 8, 12, 16, 24];
    (1..=rng.range(1, 4))
        .map(|number| {
            let period = PERIODS[rng.range(0, 5) as usize];
            let cost = rng.range(1, (period / 3).max(1));
            let jitter = if rng.chance(5) { rng.range(0, period) } else { 0 };
            let deadline = period + rng.range(0, 2 * period);
            let more = rng.range(0, 1);
            task(number, [rng.range(0, 9), period, jitter, cost, cost + more, deadline])
        })
        .collect()
}

/// All jobs of a long run, explored as a plain set; the end of the run is cut off, since later jobs are missing there.
#[test]
fn bounds_equal_those_of_a_long_run() {
    let (mut kept, mut refused, mut later) = (0, 0, 0);
    for_seeds("bounds_equal_those_of_a_long_run", 400, |rng| {
        let tasks = random(rng);
        let policy = if rng.chance(5) { JobPolicy::FixedPriority } else { JobPolicy::EarliestDeadline };
        let limits = Limits { states: 200_000, ..Limits::default() };
        let report = explore_periodic(&tasks, policy, limits, &mut || true).unwrap();
        if report.complete {
            assert_eq!(report.verdict, SagVerdict::Schedulable);
        }
        let end = 48 * (report.hyperperiods + 5);
        let jobs = jobs_of(&tasks, policy, Time::new(end)).unwrap();
        let set = JobSet::new(jobs, &[]).unwrap();
        let options = Options { on_miss: OnMiss::Explore, limits, ..Options::default() };
        let run = explore(&set, &options, &mut || true).unwrap();
        if !run.complete {
            return;
        }
        let mut longest = vec![[u64::MAX, 0]; tasks.len()];
        let mut missed = false;
        for (job, bounds) in set.jobs().iter().zip(&run.bounds) {
            let bounds = bounds.unwrap();
            missed |= bounds.completion_max > job.deadline;
            // Jobs that arrive long before the cut have all their rivals in the run.
            if job.release_min.get() + 2 * 48 < end {
                let place = job.key.task as usize - 1;
                let span = |end: Time| end.since(job.release_min).get();
                longest[place][0] = longest[place][0].min(span(bounds.completion_min));
                longest[place][1] = longest[place][1].max(span(bounds.completion_max));
            }
        }
        match report.verdict {
            SagVerdict::Schedulable => {
                kept += 1;
                later += u32::from(report.hyperperiods > 2);
                let found: Vec<[u64; 2]> = report
                    .tasks
                    .iter()
                    .map(|bounds| bounds.map(|b| [b.response_min.get(), b.response_max.get()]).unwrap())
                    .collect();
                assert_eq!(found, longest, "{policy:?} {tasks:?}");
            }
            SagVerdict::Miss { .. } => {
                refused += 1;
                assert!(missed, "{policy:?} {tasks:?}");
            }
            SagVerdict::Undecided { .. } => {}
        }
    });
    println!("{kept} kept, {refused} refused, {later} past two hyperperiods");
    if counts_are_standard() {
        assert!(kept > 50 && refused > 50 && later > 10, "{kept} {refused} {later}");
    }
}

/// Two releases fall together only where the offsets let them: a sporadic test refuses, the exact one does not.
#[test]
fn offsets_that_keep_jobs_apart_are_seen() {
    let apart = [task(1, [0, 10, 0, 4, 4, 5]), task(2, [5, 10, 0, 5, 5, 5])];
    let together = [task(1, [0, 10, 0, 4, 4, 5]), task(2, [0, 10, 0, 5, 5, 5])];
    let verdict = |tasks: &[PeriodicTask]| {
        let policy = JobPolicy::EarliestDeadline;
        explore_periodic(tasks, policy, Limits::default(), &mut || true).unwrap().verdict
    };
    assert_eq!(verdict(&apart), SagVerdict::Schedulable);
    assert_ne!(verdict(&together), SagVerdict::Schedulable);
}

#[test]
fn more_work_than_time_never_is_schedulable() {
    let tasks = [task(1, [0, 10, 0, 11, 11, u64::MAX >> 3])];
    let limits = Limits { states: 10_000, ..Limits::default() };
    let report = explore_periodic(&tasks, JobPolicy::FixedPriority, limits, &mut || true).unwrap();
    assert!(!report.complete && matches!(report.verdict, SagVerdict::Undecided { .. }), "{report:?}");
}

#[test]
fn tasks_without_meaning_are_refused() {
    let refused = |tasks: &[PeriodicTask]| {
        let policy = JobPolicy::FixedPriority;
        explore_periodic(tasks, policy, Limits::default(), &mut || true).unwrap_err()
    };
    assert!(matches!(refused(&[task(1, [0, 0, 0, 1, 1, 1])]), SagError::BadTask { field: "period", .. }));
    assert!(matches!(refused(&[task(1, [0, 9, 0, 2, 1, 1])]), SagError::BadTask { .. }));
    let twice = [task(1, [0, 9, 0, 1, 1, 1]), task(1, [0, 9, 0, 1, 1, 1])];
    assert!(matches!(refused(&twice), SagError::Duplicate { .. }));
    let primes = [task(1, [0, u64::MAX, 0, 1, 1, 1]), task(2, [0, u64::MAX - 2, 0, 1, 1, 1])];
    assert!(matches!(refused(&primes), SagError::Overflow { .. }));
    assert!(matches!(refused(&[task(1, [0, 1 << 60, 0, 1, 1, u64::MAX])]), SagError::Overflow { .. }));
    let many = [task(1, [0, 1, 0, 1, 1, 1]), task(2, [0, 1 << 40, 0, 1, 1, 1])];
    assert!(matches!(refused(&many), SagError::TooMany { .. }));
}
