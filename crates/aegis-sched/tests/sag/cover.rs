//! Covers: the referee accepts those of schedulable sets, and none that lacks something.

use aegis_sched::referee::sag::{CoverObjection, check};
use aegis_sched::sag::{Cover, Edge, Job, JobSet, Limits, cover};
use aegis_types::{Bytes, Nanos, Time};

use super::enumerate::{World, all_met};
use super::exact::{all, bounds, edges, explored};
use super::generate::{Rng, counts_are_standard, for_seeds, job, tiny};

fn set(jobs: &[Job], edges: &[Edge]) -> JobSet {
    JobSet::new(jobs.to_vec(), edges).expect("a legal set")
}

fn covered(set: &JobSet) -> Option<Cover> {
    cover(set, Limits::default(), &mut || true)
}

#[test]
fn a_set_is_covered_if_and_only_if_enumeration_finds_no_miss() {
    let (mut accepted, mut missed) = (0, 0);
    for_seeds("a_set_is_covered", 600, |rng| {
        let count = rng.range(3, 5);
        let jobs = tiny(rng, count);
        let edges = if rng.chance(5) { edges(rng, &jobs, 0) } else { Vec::new() };
        let world = World { jobs: &jobs, edges: &edges, cores: 1, idle: None };
        if world.combinations() > 2_000 {
            return;
        }
        let seen = world.enumerate();
        let set = set(&jobs, &edges);
        match covered(&set) {
            Some(cover) => {
                let proof = check(&set, &cover).unwrap();
                assert!(all_met(&jobs, &seen), "{jobs:?}");
                let proven: Vec<u64> = proof.completions().iter().map(|end| end.get()).collect();
                let latest: Vec<u64> =
                    bounds(&explored(&jobs, &edges, all())).iter().map(|end| end[1]).collect();
                assert_eq!(proven, latest, "{jobs:?}");
                accepted += 1;
            }
            None => {
                assert!(!all_met(&jobs, &seen), "{jobs:?}");
                missed += 1;
            }
        }
    });
    if counts_are_standard() {
        assert!(accepted > 50 && missed > 50, "{accepted} {missed}");
    }
}

/// Something taken out of a cover, or moved: a state gone, an interval shorter at either end, a job exchanged.
fn mutate(rng: &mut Rng, cover: &mut Cover) {
    let level = rng.range(0, cover.levels.len() as u64 - 1) as usize;
    let states = &mut cover.levels[level];
    let at = rng.range(0, states.len() as u64 - 1) as usize;
    match rng.range(0, 4) {
        0 => {
            states.remove(at);
        }
        1 => states[at].free_min = Time::new(states[at].free_min.get() + 1),
        2 => states[at].free_max = Time::new(states[at].free_max.get().wrapping_sub(1)),
        3 => states[at].dispatched[0] ^= 1 << rng.range(0, 63),
        _ => {
            cover.levels.remove(level);
        }
    }
}

/// The intervals of an exploration are attained at both ends, so nothing of a cover can be spared.
#[test]
fn a_cover_without_any_part_of_it_is_rejected() {
    let mut mutants = 0;
    for_seeds("a_cover_without_any_part_of_it", 1_500, |rng| {
        let count = rng.range(2, 6);
        let mut jobs = tiny(rng, count);
        for job in &mut jobs {
            job.deadline = Time::new(1_000);
        }
        let set = set(&jobs, &[]);
        let whole = covered(&set).expect("no deadline is near");
        check(&set, &whole).unwrap();
        for _ in 0..8 {
            let mut cover = whole.clone();
            mutate(rng, &mut cover);
            mutants += 1;
            assert!(check(&set, &cover).is_err(), "{jobs:?}: {cover:?} of {whole:?}");
        }
    });
    assert!(mutants > 0);
}

/// A claim may be larger than what is reached, as long as what follows from it is claimed as well.
#[test]
fn a_miss_cannot_be_claimed_away() {
    let jobs = [job(1, [0, 0], [1, 2], 9, 3), job(2, [1, 1], [1, 1], 5, 1), job(3, [0, 0], [4, 4], 9, 2)];
    let fits = set(&jobs, &[]);
    let cover = covered(&fits).unwrap();
    let mut late = jobs;
    late[1].deadline = Time::new(4);
    let late = set(&late, &[]);
    assert!(covered(&late).is_none());
    let refused = check(&late, &cover).unwrap_err();
    assert!(
        matches!(refused, CoverObjection::Deadline { completion, .. } if completion == Time::new(5)),
        "{refused}"
    );
    let mut wide = cover.clone();
    wide.levels[3][0].free_max = Time::MAX;
    assert!(check(&fits, &wide).is_ok());
    wide.levels[2][0].free_max = Time::MAX;
    assert_eq!(check(&fits, &wide).unwrap_err(), CoverObjection::Range);
}

#[test]
fn covers_are_for_one_core_without_delays_and_within_limits() {
    let jobs = [job(1, [0, 3], [1, 2], 90, 3), job(2, [1, 1], [1, 1], 90, 1)];
    let delay = Edge { from: jobs[0].key, to: jobs[1].key, delay_min: Nanos::ZERO, delay_max: Nanos::new(1) };
    let delayed = set(&jobs, &[delay]);
    assert!(covered(&delayed).is_none());
    let whole = covered(&set(&jobs, &[])).unwrap();
    assert_eq!(check(&delayed, &whole), Err(CoverObjection::Delay));
    let tight = Limits { bytes: Bytes::new(100), ..Limits::default() };
    assert!(cover(&set(&jobs, &[]), tight, &mut || true).is_none());
    let none = set(&[], &[]);
    assert_eq!(check(&none, &covered(&none).unwrap()).unwrap().states(), 1);
}
