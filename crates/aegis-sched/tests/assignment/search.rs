//! What is returned fits, is repeatable, and leaves out the right tasks.

use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::assign::{AssignmentRequest, Effort, LaneChoice, assign, search};
use aegis_sched::policy::{EarliestDeadline, by_name};
use aegis_sched::{AdmissionController, AdmissionRequest, Criticality, Overheads, POLICIES, charge};
use aegis_types::{LaneId, TaskId};

use crate::draw::{any, fleet, for_seeds, holds, is_whole_run, overheads, random_tasks, request, task};

#[test]
fn every_lane_that_is_returned_meets_its_deadlines_under_every_policy() {
    let (mut complete, mut partial, mut caught) = (0, 0, 0);
    for_seeds("every_lane_that_is_returned", 60, |seed, rng| {
        let (count, lanes, percent) = (rng.range(6, 24), rng.range(2, 5), rng.range(60, 110));
        let set = fleet(random_tasks(rng, count, lanes, percent), &[lanes as u16], overheads());
        let choices = any(&set);
        for name in POLICIES {
            let policy = by_name(name).expect("listed");
            let found =
                search(&AssignmentRequest { policy: &*policy, ..request(&set, &choices) }).expect("legal");
            assert!(holds(&set, &found, &*policy), "seed {seed}, {name}: {found:?}");
            let admitted = found.admitted(&set).expect("a set");
            assert_eq!(admitted.tasks().len() + found.dropped.len(), set.tasks().len());
            let controller = AdmissionController::new(by_name(name).expect("listed"));
            assert!(
                controller.analyze(&AdmissionRequest::new(&admitted)).is_admitted(),
                "seed {seed}, {name}"
            );
            if found.is_complete() {
                complete += 1
            } else {
                partial += 1
            }
            // The check itself must be able to fail: everybody on one lane.
            let mut crowded = found.clone();
            crowded.lanes.fill(Some(LaneId::new(0)));
            caught += u32::from(!holds(&set, &crowded, &*policy));
        }
    });
    assert!(
        !is_whole_run() || (complete > 30 && partial > 30 && caught > 250),
        "{complete} {partial} {caught}"
    );
}

#[test]
fn equal_requests_have_equal_answers_and_steps_are_kept() {
    for_seeds("equal_requests_have_equal_answers", 10, |seed, rng| {
        let set = fleet(random_tasks(rng, 20, 3, 105), &[3], overheads());
        let choices = any(&set);
        for steps in [0, 50, 2_000, 30_000] {
            let effort = Effort { seed, steps };
            let ask = || search(&AssignmentRequest { effort, ..request(&set, &choices) }).expect("legal");
            let found = ask();
            assert_eq!(found, ask(), "seed {seed}");
            assert!(holds(&set, &found, &EarliestDeadline), "seed {seed}, {steps} steps");
            // Search and what follows it have as many steps each; the last test of each may exceed them.
            assert!(found.steps <= 2 * steps + 200_000, "{} of {steps}", found.steps);
            assert!(steps > 0 || found.dropped.len() == 20, "without a step nothing is placed");
        }
    });
}

#[test]
fn repair_places_what_best_fit_does_not() {
    let (mut fit, mut repaired) = (0, 0);
    for_seeds("repair_places_what_best_fit_does_not", 60, |seed, rng| {
        let set = fleet(random_tasks(rng, 24, 4, 97), &[4], Overheads::default());
        let choices = any(&set);
        let found = search(&request(&set, &choices)).expect("legal");
        let plain = assign(&set, &choices, &EarliestDeadline).expect("legal");
        assert!(found.is_complete() || !plain.unplaced.is_empty(), "seed {seed}: best fit places all");
        fit += u32::from(plain.unplaced.is_empty());
        repaired += u32::from(found.is_complete());
    });
    assert!(!is_whole_run() || repaired >= fit + 10, "{fit} by best fit, {repaired} with repair");
}

/// On a lane that keeps only what is as critical as a task left out, that task does not fit.
#[test]
fn nobody_is_left_out_for_somebody_less_critical() {
    let mut tried = 0;
    for_seeds("nobody_is_left_out_for_somebody_less_critical", 40, |seed, rng| {
        let percent = rng.range(120, 250);
        let set = fleet(random_tasks(rng, 14, 2, percent), &[2], Overheads::default());
        let found = search(&request(&set, &any(&set))).expect("legal");
        let charged = charge(&set).expect("no overflow");
        for &out in &found.dropped {
            let task = set.task(out).expect("known");
            for lane in 0..2 {
                let mut problem = LaneProblem::of_lane(&set, &charged, &EarliestDeadline, LaneId::new(0));
                problem.tasks.retain(|other| {
                    let lanes = &found.lanes[other.id.index()];
                    let rival = set.task(other.id).expect("known").criticality;
                    other.id == out || (*lanes == Some(LaneId::new(lane)) && rival >= task.criticality)
                });
                assert!(decide(&problem).is_err(), "seed {seed}: {out} fits lane {lane}");
                tried += 1;
            }
        }
        let order: Vec<_> =
            found.dropped.iter().map(|id| set.task(*id).expect("known").criticality).collect();
        assert!(order.is_sorted_by(|a, b| a >= b), "the most critical are named first: {order:?}");
    });
    assert!(!is_whole_run() || tried > 200, "{tried}");
}

#[test]
fn a_critical_task_takes_the_lane_of_lesser_ones() {
    let mut tasks: Vec<_> = (0..6).map(|number| task(number, 400, 1_000)).collect();
    tasks[5].criticality = Criticality::High;
    tasks[0].criticality = Criticality::Low;
    let set = fleet(tasks, &[2], Overheads::default());
    let found = search(&request(&set, &any(&set))).expect("legal");
    assert_eq!(found.dropped.len(), 2);
    assert!(found.lanes[5].is_some() && found.lanes[0].is_none(), "{found:?}");
}

#[test]
fn tasks_stay_on_the_lanes_that_they_may_use() {
    for_seeds("tasks_stay_on_the_lanes", 20, |seed, rng| {
        let set = fleet(random_tasks(rng, 12, 4, 80), &[2, 2], overheads());
        let lane = |number: u64| LaneId::new(number as u16);
        let choices: Vec<LaneChoice> = (0..12)
            .map(|number| match number % 3 {
                0 => LaneChoice::Fixed(lane(rng.range(0, 3))),
                1 => LaneChoice::Among(vec![lane(3), lane(1), lane(3)]),
                _ => LaneChoice::Among((0..4).map(lane).collect()),
            })
            .collect();
        let found = search(&request(&set, &choices)).expect("legal");
        assert!(holds(&set, &found, &EarliestDeadline), "seed {seed}");
        for (choice, lane) in choices.iter().zip(&found.lanes) {
            assert!(lane.is_none_or(|lane| choice.lanes().contains(&lane)), "seed {seed}");
        }
    });
}

#[test]
fn bad_choices_are_refused() {
    let set = fleet(vec![task(0, 1, 8)], &[2], Overheads::default());
    let refused = |choices: &[LaneChoice]| search(&request(&set, choices)).expect_err("bad").to_string();
    assert!(refused(&[]).contains("none"));
    assert!(refused(&[LaneChoice::Among(vec![])]).contains("lane0 to lane1"));
    assert!(refused(&[LaneChoice::Fixed(LaneId::new(2))]).contains("lane2"));
}

#[test]
fn ten_thousand_tasks_end_within_the_steps() {
    let tasks = (0..10_000).map(|number| task(number, 1 + u64::from(number % 7), 30_000)).collect();
    let set = fleet(tasks, &[8], Overheads::default());
    let choices = any(&set);
    let effort = Effort { seed: 1, steps: 200_000 };
    let found = search(&AssignmentRequest { effort, ..request(&set, &choices) }).expect("legal");
    assert!(holds(&set, &found, &EarliestDeadline));
    assert_eq!(found.dropped.first().copied(), found.dropped.iter().min().copied());
    assert!(found.lanes[0].is_some() && found.dropped.len() < 10_000);
    assert_eq!(found.lanes.len(), usize::from(TaskId::new(9_999).get()) + 1);
}
