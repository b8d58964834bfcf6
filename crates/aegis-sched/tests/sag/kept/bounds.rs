//! Certified bounds against every run of small sets.

use aegis_sched::AdmissionReport;
use aegis_types::Nanos;

use super::oracle::{Plain, World};
use super::{RULES, judged, set, tiny};
use crate::generate::{Rng, counts_are_standard, for_seeds};

/// The most runs that are walked of one set.
const RUNS_MAX: u64 = 1_500;

fn bounds(report: &AdmissionReport) -> Vec<u64> {
    report.tasks.iter().map(|task| task.wcrt.map_or(0, Nanos::get)).collect()
}

/// What was seen of all sets.
#[derive(Debug, Default)]
struct Tally {
    admitted: u32,
    tight: u32,
    refused: u32,
    late: u32,
    saved: u32,
}

fn check(rng: &mut Rng, jitter: bool, tally: &mut Tally) {
    let tasks = &tiny(rng, jitter)[..];
    for (name, rule) in RULES {
        let end = World::once(tasks);
        let world = World { tasks, rule, kept: true, end };
        if world.combinations() > RUNS_MAX {
            return;
        }
        let (seen, late) = world.responses();
        let report = judged(name, &set(tasks));
        if report.is_admitted() {
            let bounds = bounds(&report);
            assert!(!late, "{name} is admitted and late: {tasks:?}");
            assert!(
                seen.iter().zip(&bounds).all(|(seen, bound)| seen <= bound),
                "{name} {seen:?} {bounds:?} {tasks:?}"
            );
            // The bounds are those of an unlimited run.
            let longer = World { end: 5 * end, ..world };
            for _ in 0..20 {
                let jobs = longer.drawn(rng);
                for (job, ran) in jobs.iter().zip(longer.walk(&jobs)) {
                    let response = ran.map_or(0, |(_, end)| end - job.arrival);
                    assert!(response <= bounds[job.task], "{name} {job:?} {ran:?} {bounds:?} {tasks:?}");
                }
            }
            let plain = World { kept: false, ..world };
            tally.admitted += 1;
            tally.tight += u32::from(seen == bounds);
            tally.saved += u32::from(plain.responses().1);
        } else {
            // What is late may need several hyperperiods to come about: runs are drawn there.
            let longer = World { end: 4 * end, ..world };
            let drawn = (0..200).any(|_| longer.is_late(&longer.drawn(rng)));
            tally.refused += 1;
            tally.late += u32::from(late || drawn || longer.is_late(&longer.longest()));
        }
    }
}

/// Without jitter one job alone can stand first, and what is explored is what can happen; what is not reached needs more
/// than one hyperperiod, or a segment that takes nothing.
#[test]
fn no_run_leaves_a_bound_and_nearly_every_bound_is_reached() {
    let mut tally = Tally::default();
    let name = "no_run_leaves_a_bound_and_nearly_every_bound_is_reached";
    for_seeds(name, 400, |rng| check(rng, false, &mut tally));
    println!("{tally:?}");
    if counts_are_standard() {
        assert!(tally.admitted > 100 && tally.refused > 50 && tally.saved > 5, "{tally:?}");
        assert!(tally.tight * 20 >= tally.admitted * 17, "{tally:?}");
        assert!(tally.late * 20 >= tally.refused * 17, "{tally:?}");
    }
}

#[test]
fn no_run_leaves_a_bound_whatever_the_jitter() {
    let mut tally = Tally::default();
    for_seeds("no_run_leaves_a_bound_whatever_the_jitter", 500, |rng| check(rng, true, &mut tally));
    println!("{tally:?}");
    if counts_are_standard() {
        assert!(tally.admitted > 100 && tally.refused > 50, "{tally:?}");
        assert!(tally.tight * 20 >= tally.admitted * 17, "{tally:?}");
        assert!(tally.late * 20 >= tally.refused * 17, "{tally:?}");
    }
}

/// The example of Nasri and Kargahi: in order of periods alone the long job takes the lane when an urgent one comes.
#[test]
fn waiting_certifies_what_the_plain_order_misses() {
    let task = |period, cost| Plain { offset: 0, period, jitter: 0, cost, deadline: period };
    let tasks = [task(10, 1), task(30, 8), task(60, 17)];
    let set = set(&tasks);
    for plain in ["rm", "edf"] {
        assert!(!judged(plain, &set).is_admitted(), "{plain}");
    }
    for (name, rule) in RULES {
        let report = judged(name, &set);
        assert!(report.is_admitted(), "{name}: {:?}", report.refusal().map(ToString::to_string));
        // With every cost at its longest the plain order is late, and the rule is not.
        let kept = World { tasks: &tasks, rule, kept: true, end: World::once(&tasks) };
        let jobs = kept.longest();
        assert!(!kept.is_late(&jobs) && World { kept: false, ..kept }.is_late(&jobs), "{name}");
    }
}
