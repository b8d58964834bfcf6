//! The choice among platforms.

use aegis_sched::assign::{Effort, Offer, choose};
use aegis_sched::policy::EarliestDeadline;
use aegis_sched::{Criticality, Overheads, Task, TaskSet};
use aegis_types::Nanos;

use crate::draw::{any, fleet, task};

const EFFORT: Effort = Effort { seed: 1, steps: 60_000 };

/// Eight tasks of 100 us a millisecond, `factor` times as long.
fn tasks(factor: u64) -> Vec<Task> {
    (0..8).map(|number| task(number, 100 * factor, 1_000 + 10 * u64::from(number))).collect()
}

fn chosen(sets: &[TaskSet]) -> aegis_sched::assign::Choice {
    let choices: Vec<_> = sets.iter().map(any).collect();
    let offers: Vec<Offer<'_>> =
        sets.iter().zip(&choices).map(|(set, choices)| Offer { set, choices, contended: None }).collect();
    let work = vec![Nanos::from_micros(100); 8];
    choose(&offers, &work, &EarliestDeadline, EFFORT).expect("legal").expect("an offer")
}

#[test]
fn lanes_that_slow_down_too_much_are_not_taken() {
    // One lane is too slow to carry all, two carry it, four slow each other down more than they carry.
    let offer = |lanes, factor| fleet(tasks(factor), &[lanes], Overheads::default());
    let found = chosen(&[offer(1, 2), offer(4, 6), offer(2, 2)]);
    assert_eq!(found.offer, 2);
    assert!(found.assigned.is_complete());
    // 0.1 over 1.00 to 1.07: 0.7733267, of which eight shares lose a millionth each at most.
    assert!((773_318..=773_326).contains(&found.load_ppm), "{}", found.load_ppm);
}

#[test]
fn the_first_of_equal_offers_is_taken() {
    let offer = |lanes: &[u16]| fleet(tasks(1), lanes, Overheads::default());
    assert_eq!(chosen(&[offer(&[1, 1]), offer(&[2]), offer(&[4])]).offer, 0);
}

#[test]
fn criticality_goes_before_load() {
    // Where few long tasks fit, the one that matters does; where many fit, it does not.
    let mut without = tasks(1);
    without[7].criticality = Criticality::High;
    without[7].segments[0].bound = Nanos::from_micros(5_000);
    let mut with = tasks(4);
    with[7].criticality = Criticality::High;
    let found =
        chosen(&[fleet(without, &[1], Overheads::default()), fleet(with, &[1], Overheads::default())]);
    assert_eq!(found.offer, 1);
    assert!(found.assigned.lanes[7].is_some() && found.assigned.dropped.len() > 1, "{found:?}");
}

#[test]
fn offers_of_other_fleets_are_refused_and_none_is_none() {
    let set = fleet(tasks(1), &[1], Overheads::default());
    let choices = any(&set);
    let offer = Offer { set: &set, choices: &choices, contended: None };
    let error = choose(&[offer], &[], &EarliestDeadline, EFFORT).expect_err("no entry for eight tasks");
    assert!(error.to_string().contains("8 tasks; legal is 0"), "{error}");
    assert_eq!(choose(&[], &[], &EarliestDeadline, EFFORT), Ok(None));
}
