//! Small fleets, every assignment of which is tried.

use aegis_sched::analysis::{LaneProblem, LaneTask, decide};
use aegis_sched::assign::{assign, search};
use aegis_sched::policy::EarliestDeadline;
use aegis_sched::{Criticality, Overheads, TaskSet, charge};
use aegis_types::LaneId;

use crate::draw::{any, fleet, for_seeds, is_whole_run, random_tasks, request};

/// Tasks left out, by falling criticality.
type Loss = [usize; 3];

fn loss<'a>(left_out: impl Iterator<Item = &'a Criticality>) -> Loss {
    let mut loss = [0; 3];
    left_out.for_each(|criticality| loss[2 - *criticality as usize] += 1);
    loss
}

/// The least loss of all assignments to `lanes` equal lanes: by subsets of tasks that fit one lane.
fn least_loss(set: &TaskSet, lanes: usize) -> Loss {
    let charged = charge(set).expect("no overflow");
    let all = LaneProblem::of_lane(set, &charged, &EarliestDeadline, LaneId::new(0));
    let count = set.tasks().len();
    let fits = |subset: usize| {
        let mut problem = all.clone();
        problem.tasks.retain(|task: &LaneTask| subset >> task.id.index() & 1 == 1);
        decide(&problem).is_ok()
    };
    let one: Vec<bool> = (0..1usize << count).map(fits).collect();
    // Which sets of tasks fit the lanes so far: one more lane takes any part of a set that fits it.
    let mut many = one.clone();
    for _ in 1..lanes {
        many = (0..1usize << count)
            .map(|set| {
                let mut part = set;
                loop {
                    if one[part] && many[set & !part] {
                        return true;
                    }
                    if part == 0 {
                        return false;
                    }
                    part = (part - 1) & set;
                }
            })
            .collect();
    }
    let out = |subset: usize| {
        let tasks = set.tasks().iter().filter(move |task| subset >> task.id.index() & 1 == 0);
        loss(tasks.map(|task| &task.criticality))
    };
    (0..many.len()).filter(|&subset| many[subset]).map(out).min().expect("nobody fits anywhere")
}

#[test]
fn the_whole_fleet_is_placed_where_any_assignment_places_it_and_never_more() {
    let (mut possible, mut found_all, mut best_fit) = (0u32, 0u32, 0u32);
    for_seeds("the_whole_fleet_is_placed", 150, |seed, rng| {
        let (count, lanes, percent) = (rng.range(4, 8), rng.range(2, 3), rng.range(70, 105));
        let set = fleet(random_tasks(rng, count, lanes, percent), &[lanes as u16], Overheads::default());
        let choices = any(&set);
        let found = search(&request(&set, &choices)).expect("legal");
        let least = least_loss(&set, lanes as usize);
        let left_out = found.dropped.iter().map(|id| &set.task(*id).expect("known").criticality);
        let lost = loss(left_out);
        assert!(lost >= least, "seed {seed}: {lost:?} is less than the least, {least:?}");
        if least == [0; 3] {
            possible += 1;
            found_all += u32::from(found.is_complete());
            best_fit +=
                u32::from(assign(&set, &choices, &EarliestDeadline).expect("legal").unplaced.is_empty());
        }
    });
    if is_whole_run() {
        assert!(
            possible > 30 && best_fit < possible,
            "{possible} possible, {best_fit} by best fit: too easy"
        );
        assert!(found_all * 100 >= possible * 98, "{found_all} of {possible}; best fit {best_fit}");
    }
}

#[test]
fn the_best_part_is_found_where_not_all_fits() {
    let (mut tried, mut best) = (0u32, 0u32);
    for_seeds("the_best_part_is_found", 100, |seed, rng| {
        let (count, percent) = (rng.range(5, 8), rng.range(130, 220));
        let set = fleet(random_tasks(rng, count, 2, percent), &[2], Overheads::default());
        let found = search(&request(&set, &any(&set))).expect("legal");
        let lost = loss(found.dropped.iter().map(|id| &set.task(*id).expect("known").criticality));
        let least = least_loss(&set, 2);
        assert!(lost >= least, "seed {seed}: {lost:?} is less than the least, {least:?}");
        tried += u32::from(least != [0; 3]);
        best += u32::from(least != [0; 3] && lost == least);
    });
    assert!(!is_whole_run() || (tried > 40 && best * 100 >= tried * 90), "{best} of {tried}");
}
