//! Lane assignment by deadline-ordered best fit.
use aegis_sched::assign::{Assignment, LaneChoice, assign};
use aegis_sched::policy::EarliestDeadline;
use aegis_types::{LaneId, TaskId};

use crate::admission::{Spec, set};

fn lanes(numbers: &[u16]) -> Vec<LaneId> {
    numbers.iter().copied().map(LaneId::new).collect()
}

fn any() -> LaneChoice {
    LaneChoice::Among(lanes(&[0, 1]))
}

#[test]
fn long_segments_do_not_share_a_lane_with_short_deadlines() {
    let set = set(&[Spec::new(1, 8), Spec::new(36, 100), Spec::new(1, 10), Spec::new(30, 120)], 2);
    let found = assign(&set, &[any(), any(), any(), any()], &EarliestDeadline).expect("legal");
    assert_eq!(found, Assignment { lanes: lanes(&[0, 1, 0, 1]), unplaced: vec![] });
}

#[test]
fn fixed_tasks_stay_and_the_rest_goes_around_them() {
    let set = set(&[Spec::new(1, 8), Spec::new(36, 100)], 2);
    let choices = [any(), LaneChoice::Fixed(LaneId::new(0))];
    let found = assign(&set, &choices, &EarliestDeadline).expect("legal");
    assert_eq!(found, Assignment { lanes: lanes(&[1, 0]), unplaced: vec![] });
}

#[test]
fn what_fits_nowhere_is_named_and_the_rest_is_placed() {
    let set = set(&[Spec::new(5, 10), Spec::new(8, 10), Spec::new(9, 10)], 2);
    let found = assign(&set, &[any(), any(), any()], &EarliestDeadline).expect("legal");
    assert_eq!(found.unplaced, [TaskId::new(2)]);
    assert_eq!(found.lanes[..2], lanes(&[0, 1]));
}

#[test]
fn bad_choices_are_refused() {
    let set = set(&[Spec::new(1, 8)], 2);
    let refused =
        |choices: &[LaneChoice]| assign(&set, choices, &EarliestDeadline).expect_err("bad").to_string();
    assert!(refused(&[]).contains("none"));
    assert!(refused(&[LaneChoice::Among(vec![])]).contains("lane0 to lane1"));
    assert!(refused(&[LaneChoice::Fixed(LaneId::new(2))]).contains("lane2"));
}
