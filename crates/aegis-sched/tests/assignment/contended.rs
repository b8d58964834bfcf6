//! Budgets that depend on the company.

use aegis_sched::assign::{AssignmentRequest, ContendedBudgets, search};
use aegis_sched::contention::{ClassId, Slowdown, SlowdownTable};
use aegis_sched::policy::EarliestDeadline;
use aegis_sched::{Overheads, TaskSet};
use aegis_types::{LaneId, Nanos, TaskId};

use crate::draw::{any, fleet, for_seeds, holds, is_whole_run, overheads, random_tasks, request, task};

/// Adds hundredths of its budget to a task for the worst of its co-runners on each other lane.
struct Pairs(Vec<Vec<u64>>);

impl ContendedBudgets for Pairs {
    fn budgets(&self, victim: TaskId, lanes: &[Option<LaneId>], segments: &mut [Nanos]) {
        let mut worst = [0u64; 16];
        for (other, lane) in lanes.iter().enumerate() {
            if let (Some(lane), true) = (lane, *lane != lanes[victim.index()]) {
                let worst = &mut worst[lane.index()];
                *worst = (*worst).max(self.0[victim.index()][other]);
            }
        }
        let hundredths = 100 + worst.iter().sum::<u64>();
        segments.iter_mut().for_each(|bound| *bound = Nanos::new((bound.get() * hundredths).div_ceil(100)));
    }
}

fn budgets_are_those_of_the_company(
    set: &TaskSet,
    lanes: &[Option<LaneId>],
    found: &[Vec<Nanos>],
    asked: &dyn ContendedBudgets,
) {
    for task in set.tasks().iter().filter(|task| lanes[task.id.index()].is_some()) {
        let mut budgets: Vec<Nanos> = task.segments.iter().map(|segment| segment.bound).collect();
        asked.budgets(task.id, lanes, &mut budgets);
        assert_eq!(found[task.id.index()], budgets, "{}", task.id);
    }
}

#[test]
fn tasks_that_hurt_each_other_share_a_lane() {
    // Tasks of one parity triple each other's budgets.
    let pairs =
        Pairs((0..8).map(|a| (0..8).map(|b| if a % 2 == b % 2 { 200 } else { 0 }).collect()).collect());
    let tasks = (0..8).map(|number| task(number, 220, 1_000 + u64::from(number))).collect();
    let set = fleet(tasks, &[2], Overheads::default());
    let choices = any(&set);
    let found =
        search(&AssignmentRequest { contended: Some(&pairs), ..request(&set, &choices) }).expect("legal");
    assert!(found.is_complete(), "{found:?}");
    for number in 0..8 {
        assert_eq!(found.lanes[number] == found.lanes[0], number % 2 == 0, "{:?}", found.lanes);
    }
    // The control: the same table for all pairs leaves no way out.
    let all = Pairs(vec![vec![200; 8]; 8]);
    let found =
        search(&AssignmentRequest { contended: Some(&all), ..request(&set, &choices) }).expect("legal");
    assert!(!found.is_complete());
}

#[test]
fn lanes_fit_with_the_budgets_of_the_company_they_have() {
    let (mut complete, mut caught) = (0, 0);
    for_seeds("lanes_fit_with_the_budgets", 30, |seed, rng| {
        let lanes = rng.range(2, 4);
        let percent = rng.range(25, 60);
        let set = fleet(random_tasks(rng, 12, lanes, percent), &[lanes as u16], overheads());
        let pairs = Pairs((0..12).map(|_| (0..12).map(|_| rng.range(0, 60)).collect()).collect());
        let choices = any(&set);
        let found =
            search(&AssignmentRequest { contended: Some(&pairs), ..request(&set, &choices) }).expect("legal");
        assert!(holds(&set, &found, &EarliestDeadline), "seed {seed}");
        budgets_are_those_of_the_company(&set, &found.lanes, &found.budgets, &pairs);
        complete += u32::from(found.is_complete());
        // What is found without the table, judged with it, is often wrong: the table matters.
        let mut blind = search(&request(&set, &choices)).expect("legal");
        for (task, budgets) in blind.budgets.iter_mut().enumerate() {
            if blind.lanes[task].is_some() {
                pairs.budgets(TaskId::new(task as u16), &blind.lanes, budgets);
            }
        }
        caught += u32::from(!holds(&set, &blind, &EarliestDeadline));
    });
    assert!(!is_whole_run() || (complete >= 5 && caught >= 5), "{complete} complete, {caught} caught");
}

/// The more company, the smaller the budget: a table that no search should rely on, and none may be fooled by.
struct Shy;

impl ContendedBudgets for Shy {
    fn budgets(&self, victim: TaskId, lanes: &[Option<LaneId>], segments: &mut [Nanos]) {
        let own = lanes[victim.index()];
        let beside = lanes.iter().filter(|lane| lane.is_some() && **lane != own).count() as u64;
        segments.iter_mut().for_each(|bound| *bound = Nanos::new(bound.get() * 4 / (beside + 1) + 1));
    }
}

#[test]
fn tables_that_are_not_monotone_are_judged_as_they_are() {
    for_seeds("tables_that_are_not_monotone", 30, |seed, rng| {
        let percent = rng.range(40, 250);
        let set = fleet(random_tasks(rng, 10, 3, percent), &[3], overheads());
        let choices = any(&set);
        let found =
            search(&AssignmentRequest { contended: Some(&Shy), ..request(&set, &choices) }).expect("legal");
        assert!(holds(&set, &found, &EarliestDeadline), "seed {seed}");
        budgets_are_those_of_the_company(&set, &found.lanes, &found.budgets, &Shy);
    });
}

#[test]
fn a_budget_without_meaning_or_beyond_time_places_nobody() {
    struct Constant(Nanos);
    impl ContendedBudgets for Constant {
        fn budgets(&self, _: TaskId, _: &[Option<LaneId>], segments: &mut [Nanos]) {
            segments.fill(self.0);
        }
    }
    let set = fleet(vec![task(0, 10, 1_000), task(1, 10, 1_000)], &[2], overheads());
    let choices = any(&set);
    for (budget, placed) in [(Nanos::ZERO, 0), (Nanos::MAX, 0), (Nanos::new(1), 2)] {
        let asked = Constant(budget);
        let found =
            search(&AssignmentRequest { contended: Some(&asked), ..request(&set, &choices) }).expect("legal");
        assert_eq!(found.lanes.iter().flatten().count(), placed, "{budget}");
        assert_eq!(found.admitted(&set).expect("legal").tasks().len(), placed);
    }
}

#[test]
fn a_slowdown_table_is_asked_beside_everybody_else() {
    let mut complete = 0;
    for_seeds("a_slowdown_table_is_asked", 20, |seed, rng| {
        let percent = rng.range(30, 70);
        let set = fleet(random_tasks(rng, 10, 2, percent), &[2], overheads());
        let classes = (0..10).map(|_| ClassId(rng.range(0, 2) as u16)).collect();
        let row = || Slowdown::Excess { ppm: (0..3).map(|_| rng.range(0, 700_000)).collect() };
        let table = SlowdownTable { classes, rows: std::iter::repeat_with(row).take(10).collect() };
        let choices = any(&set);
        let found =
            search(&AssignmentRequest { contended: Some(&table), ..request(&set, &choices) }).expect("legal");
        assert!(holds(&set, &found, &EarliestDeadline), "seed {seed}");
        if found.is_complete() {
            let mut tasks = set.tasks().to_vec();
            tasks.iter_mut().zip(&found.lanes).for_each(|(task, lane)| task.lane = lane.expect("complete"));
            let placed = TaskSet::new(tasks, set.platform().clone()).expect("legal");
            assert_eq!(
                table.beside(&placed).expect("covered"),
                found.admitted(&set).expect("legal"),
                "seed {seed}"
            );
            complete += 1;
        }
    });
    assert!(!is_whole_run() || (5..20).contains(&complete), "{complete}");
    // A class without a row: nobody can be placed beside others, and one lane is company enough.
    let set = fleet(vec![task(0, 10, 1_000), task(1, 10, 1_000)], &[1, 1], overheads());
    let table =
        SlowdownTable { classes: vec![ClassId(9); 2], rows: vec![Slowdown::Excess { ppm: vec![0] }; 2] };
    let found =
        search(&AssignmentRequest { contended: Some(&table), ..request(&set, &any(&set)) }).expect("legal");
    assert!(found.is_complete() && found.lanes[0] == found.lanes[1], "{found:?}");
}
