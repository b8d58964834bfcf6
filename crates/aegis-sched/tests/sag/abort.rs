//! Jobs that are ended from outside: bounds contain every schedule, and equal them where nothing is ended.

use aegis_sched::referee::sag::{CoverObjection, check};
use aegis_sched::sag::{
    Abort, Cover, Exactness, IdleRule, Job, JobSet, Limits, Options, SagError, SagVerdict, cover, explore,
    witness,
};
use aegis_types::{Nanos, Time};

use super::exact::{all, bounds};
use super::generate::{Rng, for_seeds, job, tiny};

/// What happens in one schedule: for each job its release, cost, trigger and cleanup.
type World = Vec<[u64; 4]>;

/// Completions, straight from the definition: at each instant at which the core is free, the first of the released jobs
/// is chosen; past its trigger it takes no time.
fn walk(jobs: &[Job], aborts: &[Abort], world: &World) -> Vec<u64> {
    let mut ends = vec![None; jobs.len()];
    let mut at = 0;
    while ends.contains(&None) {
        let waits = |place: &usize| ends[*place].is_none() && world[*place][0] <= at;
        let next = (0..jobs.len()).filter(waits).min_by_key(|&place| (jobs[place].priority, jobs[place].key));
        let Some(next) = next else {
            at += 1;
            continue;
        };
        let [_, cost, trigger, cleanup] = world[next];
        let ended = aborts.iter().any(|abort| abort.job == jobs[next].key);
        let end = match (ended, at >= trigger) {
            (true, true) => at,
            (true, false) => (at + cost).min(trigger + cleanup),
            (false, _) => at + cost,
        };
        (ends[next], at) = (Some(end), end);
    }
    ends.into_iter().flatten().collect()
}

/// Earliest and latest completions over every combination.
fn enumerate(jobs: &[Job], aborts: &[Abort]) -> Vec<[u64; 2]> {
    let ranges = |job: &Job| {
        let abort = aborts.iter().find(|abort| abort.job == job.key);
        let ended = abort.map_or([(0, 0); 2], |abort| {
            let Abort { trigger_min, trigger_max, cleanup_min, cleanup_max, .. } = *abort;
            [(trigger_min.get(), trigger_max.get()), (cleanup_min.get(), cleanup_max.get())]
        });
        let own = [(job.release_min.get(), job.release_max.get()), (job.cost_min.get(), job.cost_max.get())];
        [own[0], own[1], ended[0], ended[1]]
    };
    let ranges: Vec<_> = jobs.iter().map(ranges).collect();
    let mut world: World = ranges.iter().map(|range| range.map(|(low, _)| low)).collect();
    let mut seen = vec![[u64::MAX, 0]; jobs.len()];
    loop {
        for (seen, end) in seen.iter_mut().zip(walk(jobs, aborts, &world)) {
            *seen = [seen[0].min(end), seen[1].max(end)];
        }
        // Counts up, the first number first.
        let mut digits = world.iter_mut().flatten().zip(ranges.iter().flatten());
        let carried = digits.by_ref().find_map(|(digit, &(low, high))| {
            *digit = if *digit < high { *digit + 1 } else { low };
            (*digit > low).then_some(())
        });
        if carried.is_none() {
            return seen;
        }
    }
}

fn ended(job: &Job, trigger: [u64; 2], cleanup: [u64; 2]) -> Abort {
    Abort {
        job: job.key,
        trigger_min: Time::new(trigger[0]),
        trigger_max: Time::new(trigger[1]),
        cleanup_min: Nanos::new(cleanup[0]),
        cleanup_max: Nanos::new(cleanup[1]),
    }
}

fn explored(jobs: &[Job], aborts: &[Abort], cores: u32) -> Vec<[u64; 2]> {
    let set =
        JobSet::new(jobs.to_vec(), &[]).expect("a legal set").with_aborts(aborts).expect("legal aborts");
    let report = explore(&set, &Options { cores, ..all() }, &mut || true).expect("options that go together");
    let exact = cores == 1 && aborts.is_empty();
    assert_eq!(report.exactness == Exactness::Exact, exact);
    bounds(&report)
}

/// A trigger or two around the time at which the jobs run.
fn some_aborts(rng: &mut Rng, jobs: &[Job]) -> Vec<Abort> {
    let count = rng.range(1, 2) as usize;
    let abort = |job: &Job| {
        let (trigger, cleanup) = (rng.range(0, 9), rng.range(0, 2));
        ended(job, [trigger, trigger + rng.range(0, 2)], [cleanup, cleanup + rng.range(0, 1)])
    };
    jobs.iter().take(count).map(abort).collect()
}

#[test]
fn bounds_contain_every_schedule_and_mostly_equal_them() {
    let (mut jobs_seen, mut equal) = (0u32, 0u32);
    for_seeds("abort::bounds_contain", 150, |rng| {
        let jobs = tiny(rng, 3);
        let aborts = some_aborts(rng, &jobs);
        let seen = enumerate(&jobs, &aborts);
        for (found, seen) in explored(&jobs, &aborts, 1).into_iter().zip(seen) {
            assert!(found[0] <= seen[0] && seen[1] <= found[1], "{found:?} {seen:?}: {jobs:?} {aborts:?}");
            jobs_seen += 1;
            equal += u32::from(found == seen);
        }
        // Nothing is ended by what never happens.
        let never: Vec<Abort> = jobs.iter().map(|job| ended(job, [1_000, 1_000], [0, 0])).collect();
        assert_eq!(explored(&jobs, &never, 1), explored(&jobs, &[], 1));
        assert_eq!(explored(&jobs, &never, 2), explored(&jobs, &[], 2));
    });
    assert!(equal * 10 >= jobs_seen * 8, "{equal} of {jobs_seen}");
}

/// The job is chosen at 4 or at 8, and its trigger fires at 6: chosen at 8 it ends at 8, after what the other tool says.
#[test]
fn a_job_may_be_ended_in_one_schedule_and_skipped_in_another() {
    let jobs = [job(1, [0, 0], [4, 8], 99, 1), job(2, [0, 0], [3, 3], 99, 2)];
    let aborts = [ended(&jobs[1], [6, 6], [1, 1])];
    assert_eq!(explored(&jobs, &aborts, 1)[1], [6, 8]);
    assert_eq!(enumerate(&jobs, &aborts)[1], [6, 8]);
}

#[test]
fn what_is_ended_is_neither_replayed_nor_walked_back() {
    let jobs = [job(1, [0, 0], [4, 4], 3, 1)];
    let plain = JobSet::new(jobs.to_vec(), &[]).expect("a legal set");
    let limits = Limits::default();
    assert!(witness(&plain, limits, &mut || true).is_some());
    let set = plain.with_aborts(&[ended(&jobs[0], [2, 2], [2, 2])]).expect("a legal abort");
    let report = explore(&set, &Options::default(), &mut || true).expect("one core");
    assert!(matches!(report.verdict, SagVerdict::Miss { .. }), "{report:?}");
    assert_eq!(witness(&set, limits, &mut || true), None);
    assert_eq!(cover(&set, limits, &mut || true), None);
    assert_eq!(check(&set, &Cover::default()).map(|_| ()), Err(CoverObjection::Abort));
    let idle = Options { idle: Some(IdleRule::PrecautiousRm), ..Options::default() };
    assert!(matches!(explore(&set, &idle, &mut || true), Err(SagError::Unsupported { .. })));
}

#[test]
fn wrong_aborts_are_named() {
    let jobs = [job(1, [0, 0], [4, 4], 3, 1), job(2, [0, 0], [4, 4], 3, 1)];
    let refused = |aborts: &[Abort]| {
        let set = JobSet::new(jobs.to_vec(), &[]).expect("a legal set");
        set.with_aborts(aborts).expect_err("a wrong abort").to_string()
    };
    let one = |trigger, cleanup| ended(&jobs[0], trigger, cleanup);
    assert!(
        refused(&[one([5, 4], [0, 0])]).contains("latest trigger is 4; legal is at least the earliest, 5")
    );
    assert!(refused(&[one([4, 4], [2, 1])]).contains("longest cleanup is 1"));
    assert!(refused(&[one([4, u64::MAX], [0, 1])]).contains("pass"));
    assert!(refused(&[one([4, 4], [0, 0]), one([4, 4], [0, 0])]).contains("given twice"));
    let foreign = Abort { job: job(7, [0, 0], [1, 1], 9, 1).key, ..one([4, 4], [0, 0]) };
    assert!(refused(&[foreign]).contains("there is no such job"));
}
