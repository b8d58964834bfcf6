//! Changes of mode on running lanes: no deadline is missed where a change is called legal, and some are where two
//! certified sets are simply swapped.

use std::cell::Cell;

use aegis_sched::admission::Depth;
use aegis_sched::mode::{Idle, Obstacle, Transition, transition};
use aegis_sched::policy::by_name;
use aegis_sched::{
    AdmissionController, AdmissionRequest, Overheads, PartitionModel, Platform, PolicyClass,
    SchedulingPolicy, Task, TaskSet,
};
use aegis_types::{LaneId, Nanos, TaskId};

use crate::fleet;
use crate::seeds::{Rng, counts_are_standard, for_seeds};
use crate::sim::{Job, run};

const LANES: u16 = 2;

/// A task whose name survives that its number changes.
fn named(rng: &mut Rng, name: usize) -> Task {
    let (period, lane) = (rng.range(8, 40), u16::try_from(rng.range(0, 1)).expect("few lanes"));
    let mut task = fleet::tasks(&[(rng.range(1, period / 3), period, lane)]).remove(0);
    task.name = format!("name-{name}");
    task.deadline = Nanos::new(rng.range(period * 2 / 3, period + 4));
    task.priority = Some(u32::try_from(rng.range(0, 3)).expect("small"));
    task
}

fn set(tasks: Vec<Task>) -> TaskSet {
    let number = |(task, id): (Task, u16)| Task { id: TaskId::new(id), ..task };
    fleet::set(tasks.into_iter().zip(0u16..).map(number).collect(), LANES)
}

/// An old and a new set: some tasks go, some come, budgets move; rarely a contract changes.
fn change(rng: &mut Rng) -> (TaskSet, TaskSet) {
    let old: Vec<Task> = (0..rng.index(4) + 1).map(|name| named(rng, name)).collect();
    let mut new: Vec<Task> = old.iter().filter(|_| !rng.one_in(3)).cloned().collect();
    for task in &mut new {
        if rng.one_in(3) {
            task.segments[0] = fleet::budget(rng.range(1, task.period.get() / 3));
        }
        if rng.one_in(12) {
            task.period = Nanos::new(rng.range(8, 40));
        }
    }
    let turn = if new.is_empty() { 0 } else { rng.index(new.len()) };
    new.rotate_left(turn);
    new.extend((10..10 + rng.index(3)).map(|name| named(rng, name)));
    (set(old), set(new))
}

/// Jobs of a task of a set from `from` up to `end`: dense or not, as long as its budget or shorter.
fn jobs(
    rng: &mut Rng,
    set: &TaskSet,
    task: usize,
    policy: &dyn SchedulingPolicy,
    span: [u64; 2],
) -> Vec<Job> {
    let contract = &set.tasks()[task];
    let mut arrival = span[0];
    let mut jobs = Vec::new();
    while arrival < span[1] {
        let budget = contract.segments[0].bound.get();
        let work = if rng.one_in(4) { rng.range(1, budget) } else { budget };
        let key = match policy.class() {
            PolicyClass::StaticPriority => policy.key(contract),
            PolicyClass::AbsoluteDeadline => arrival + policy.key(contract),
            _ => arrival,
        };
        jobs.push(Job { task, lane: contract.lane.index(), key, arrival, release: arrival, work });
        arrival += contract.period.get() + if rng.one_in(4) { rng.range(0, 9) } else { 0 };
    }
    jobs
}

/// Jobs of the old set up to the change at `at`, of the new from there on; a task of both keeps its distance. Numbers
/// are those of the old set, then the new tasks'; deadlines come with them.
fn swapped(
    rng: &mut Rng,
    sets: [&TaskSet; 2],
    policy: &dyn SchedulingPolicy,
    at: u64,
) -> (Vec<Job>, Vec<u64>) {
    let [old, new] = sets;
    let mut deadlines: Vec<u64> = old.tasks().iter().map(|task| task.deadline.get()).collect();
    let mut all = Vec::new();
    let mut next = vec![at; old.tasks().len()];
    for (task, contract) in old.tasks().iter().enumerate() {
        let latest = if rng.one_in(2) { 2 } else { 20 };
        let first = rng.range(0, latest);
        let before = jobs(rng, old, task, policy, [first, at]);
        if let Some(last) = before.last() {
            next[task] = at.max(last.arrival + contract.period.get());
        }
        all.extend(before);
    }
    for (task, contract) in new.tasks().iter().enumerate() {
        let known = old.tasks().iter().position(|other| other.name == contract.name);
        let from = known.map_or(at + if rng.one_in(2) { 0 } else { rng.range(0, 9) }, |known| next[known]);
        let number = known.filter(|&known| old.tasks()[known].deadline == contract.deadline);
        let number = number.unwrap_or_else(|| {
            deadlines.push(contract.deadline.get());
            deadlines.len() - 1
        });
        let after = jobs(rng, new, task, policy, [from, at + 120]);
        all.extend(after.into_iter().map(|job| Job { task: number, ..job }));
    }
    (all, deadlines)
}

/// Whether every deadline is met.
fn met((jobs, deadlines): (Vec<Job>, Vec<u64>)) -> bool {
    run(usize::from(LANES), jobs, |running| running.iter_mut().flatten().for_each(|own| own.left -= 1))
        .iter()
        .all(|done| done.end - done.arrival <= deadlines[done.task])
}

#[test]
fn no_deadline_is_missed_across_a_change_at_once() {
    let (legal, caught) = (Cell::new(0u32), Cell::new(0u32));
    for_seeds("no_deadline_is_missed_across_a_change_at_once", 2_500, |rng| {
        let (old, new) = change(rng);
        let name = ["fifo", "dm", "fp", "edf"][rng.index(4)];
        let policy = || by_name(name).expect("known");
        let controller = AdmissionController::new(policy());
        let request = AdmissionRequest::new(&old);
        if !controller.analyze(&request).is_admitted() {
            return;
        }
        let Ok(found) = transition(&controller, &old, &new, 1, Depth::Feasible) else { return };
        for _ in 0..6 {
            let at = rng.range(20, 70);
            let met = met(swapped(rng, [&old, &new], policy().as_ref(), at));
            match &found {
                Transition::AtOnce { .. } => assert!(met, "{name} at {at}: {old:?} {new:?}"),
                Transition::AtIdle { .. } => caught.set(caught.get() + u32::from(!met)),
            }
        }
        legal.set(legal.get() + u32::from(matches!(found, Transition::AtOnce { .. })));
    });
    if counts_are_standard() {
        let (legal, caught) = (legal.get(), caught.get());
        assert!(
            legal > 200 && caught > 0,
            "{legal} changes at once, {caught} misses where that is not legal"
        );
    }
}

fn admitted(old: &TaskSet, new: &TaskSet) -> Transition {
    let controller = AdmissionController::new(by_name("edf").expect("known"));
    transition(&controller, old, new, 4, Depth::TIGHT).expect("the new set fits")
}

#[test]
fn a_union_has_the_larger_budgets_and_both_sets_tasks() {
    let named = |cost, period, lane, name: &str| {
        let mut task = fleet::tasks(&[(cost, period, lane)]).remove(0);
        name.clone_into(&mut task.name);
        task
    };
    let old = set(vec![named(5, 50, 0, "a"), named(9, 90, 1, "b")]);
    let new = set(vec![named(4, 40, 1, "c"), named(6, 50, 0, "a")]);
    let Transition::AtOnce { union, then } = admitted(&old, &new) else { panic!("a light change") };
    let budgets: Vec<u64> = union.set.tasks().iter().map(|task| task.segments[0].bound.get()).collect();
    assert_eq!(budgets, [6, 9, 4]);
    assert_eq!(union.numbers, [TaskId::new(2), TaskId::new(0)]);
    assert_eq!((union.certificate.epoch(), then.epoch()), (5, 6));
    assert_eq!(then.lanes().iter().map(|lane| lane.tasks().len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn other_changes_wait_for_idleness() {
    let old = set(vec![named(&mut Rng::new(1), 0), named(&mut Rng::new(2), 1)]);
    let with = |change: fn(&mut Task)| {
        let mut tasks = old.tasks().to_vec();
        change(&mut tasks[0]);
        set(tasks)
    };
    for (new, field) in [
        (with(|task| task.period = Nanos::new(1_000)), "period"),
        (with(|task| task.deadline = Nanos::new(999)), "deadline"),
        (with(|task| task.priority = Some(77)), "priority"),
        (with(|task| task.segments = vec![fleet::budget(1), fleet::budget(1)]), "segments"),
    ] {
        let Transition::AtIdle { idle, because, .. } = admitted(&old, &new) else { panic!("{field}") };
        assert_eq!(because, [Obstacle::Contract { task: "name-0".to_owned(), field }]);
        assert_eq!(idle, Idle::Lanes(vec![old.tasks()[0].lane]), "without overheads no charge moves");
    }
    // Two halves of a lane, one after the other, each too long beside the other.
    let half = |name| {
        let mut task = fleet::tasks(&[(9, 15, 0)]).remove(0);
        task.name = format!("name-{name}");
        set(vec![task])
    };
    let Transition::AtIdle { idle, because, .. } = admitted(&half(0), &half(1)) else {
        panic!("an overload")
    };
    assert!(matches!(because[..], [Obstacle::Union(_)]), "{because:?}");
    assert_eq!(idle, Idle::Lanes(vec![LaneId::new(0)]));
}

/// A longer cycle of the decider is charged to every task of every lane.
#[test]
fn overheads_that_grow_with_tasks_need_an_idle_device() {
    let platform = |lanes| {
        let overheads = Overheads { release: Nanos::new(1), ..Overheads::default() };
        let partitions = vec![PartitionModel { name: "all".to_owned(), lanes }];
        Platform::new(partitions, overheads).expect("legal")
    };
    let on = |lanes, period| TaskSet::new(fleet::tasks(&[(5, period, 0)]), platform(lanes)).expect("legal");
    let Transition::AtIdle { idle, .. } = admitted(&on(2, 100), &on(2, 200)) else {
        panic!("another period")
    };
    assert_eq!(idle, Idle::Lanes(vec![LaneId::new(0)]), "there are as many timers as before");
    let moved = TaskSet::new(fleet::tasks(&[(5, 100, 1)]), platform(2)).expect("legal");
    let Transition::AtIdle { idle, .. } = admitted(&on(2, 100), &moved) else { panic!("another lane") };
    assert_eq!(idle, Idle::Device, "both lanes may have the task's timer for a while");
    let Transition::AtIdle { idle, because, .. } = admitted(&on(2, 100), &on(3, 100)) else {
        panic!("more lanes")
    };
    assert_eq!((idle, because), (Idle::Device, vec![Obstacle::Platform]));
}

#[test]
fn a_set_that_does_not_fit_is_refused() {
    let controller = AdmissionController::new(by_name("edf").expect("known"));
    let fits = fleet::set(fleet::tasks(&[(1, 10, 0)]), LANES);
    let refused = fleet::set(fleet::tasks(&[(11, 10, 0)]), LANES);
    assert!(transition(&controller, &fits, &refused, 1, Depth::Feasible).is_err());
    // An empty device takes any set that fits.
    let empty = fleet::set(Vec::new(), LANES);
    let found = transition(&controller, &empty, &fits, u64::MAX, Depth::Feasible);
    assert!(matches!(found, Ok(Transition::AtOnce { .. })), "{found:?}");
}
