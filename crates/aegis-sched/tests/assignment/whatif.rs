//! Single changes that admit: each is applied by hand and judged by admission, and none smaller is found by scanning.

use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::policy::by_name;
use aegis_sched::whatif::{
    WhatIf, what_if_budget, what_if_deadline, what_if_lane, what_if_partition, what_if_period,
    what_if_priority, what_if_segment,
};
use aegis_sched::{AdmissionController, AdmissionRequest, OccupancyBudget, Overheads, Task, TaskSet, charge};
use aegis_types::{LaneId, Nanos, PartitionId, TaskId};

use crate::draw::{Rng, fleet, for_seeds, is_whole_run, overheads, random_tasks, task};

/// The lanes are decided first, because a refusal takes admission long to explain.
fn admits(set: &TaskSet, policy: &str) -> bool {
    let charged = charge(set).expect("no overflow");
    let problems = LaneProblem::of_lanes(set, charged, &*by_name(policy).expect("listed"));
    if problems.iter().any(|problem| decide(problem).is_err()) {
        return false;
    }
    let controller = AdmissionController::new(by_name(policy).expect("listed"));
    controller.analyze(&AdmissionRequest::new(set)).is_admitted()
}

fn changed(set: &TaskSet, id: TaskId, change: impl FnOnce(&mut Task)) -> TaskSet {
    let mut tasks = set.tasks().to_vec();
    change(&mut tasks[id.index()]);
    TaskSet::new(tasks, set.platform().clone()).expect("legal")
}

/// Sets of some tasks on two lanes, the second of which is light, that `policy` refuses.
fn refused(rng: &mut Rng, policy: &str) -> Option<TaskSet> {
    let mut tasks = random_tasks(rng, 7, 1, 100);
    for (number, task) in tasks.iter_mut().enumerate() {
        task.lane = LaneId::new(u16::from(number >= 5));
    }
    let set = fleet(tasks, &[1, 1], overheads());
    (!admits(&set, policy)).then_some(set)
}

const EVERY: [&str; 5] = ["edf", "dm", "rm", "fp", "fifo"];

#[test]
fn every_span_that_is_named_admits_and_a_little_less_does_not() {
    let mut named = 0;
    for_seeds("every_span_that_is_named", 25, |seed, rng| {
        for name in EVERY {
            let Some(set) = refused(rng, name) else { continue };
            let policy = by_name(name).expect("listed");
            let tell = |what: &WhatIf| format!("seed {seed}, {name}: {}", what.describe(&set));
            let moved_along = |task: &mut Task, period: Nanos| {
                if task.deadline == task.period {
                    task.deadline = period;
                }
                task.period = period;
            };
            for what in what_if_period(&set, &*policy).expect("legal") {
                let WhatIf::Period { task, period } = what else { panic!("{what:?}") };
                assert!(
                    admits(&changed(&set, task, |task| moved_along(task, period)), name),
                    "{}",
                    tell(&what)
                );
                let less = Nanos::new(period.get() - 1);
                assert!(
                    !admits(&changed(&set, task, |task| moved_along(task, less)), name),
                    "{}",
                    tell(&what)
                );
                named += 1;
            }
            for what in what_if_deadline(&set, &*policy).expect("legal") {
                let WhatIf::Deadline { task, deadline } = what else { panic!("{what:?}") };
                assert!(
                    admits(&changed(&set, task, |task| task.deadline = deadline), name),
                    "{}",
                    tell(&what)
                );
                let less = Nanos::new(deadline.get() - 1);
                assert!(!admits(&changed(&set, task, |task| task.deadline = less), name), "{}", tell(&what));
                named += 1;
            }
            for what in what_if_budget(&set, &*policy).expect("legal") {
                let WhatIf::Budget { task, ppm } = what else { panic!("{what:?}") };
                let scale = |task: &mut Task, ppm: u64| {
                    for segment in &mut task.segments {
                        segment.bound = Nanos::new((segment.bound.get() * ppm / 1_000_000).max(1));
                    }
                };
                assert!(admits(&changed(&set, task, |task| scale(task, ppm)), name), "{}", tell(&what));
                assert!(!admits(&changed(&set, task, |task| scale(task, ppm + 1)), name), "{}", tell(&what));
                named += 1;
            }
        }
    });
    assert!(!is_whole_run() || named > 60, "{named}");
}

#[test]
fn lanes_are_those_that_enumeration_finds() {
    let (mut found, mut empty) = (0, 0);
    for_seeds("lanes_are_those_that_enumeration_finds", 40, |seed, rng| {
        let mut tasks = random_tasks(rng, 9, 2, 75);
        tasks.iter_mut().for_each(|task| task.lane = LaneId::new(u16::from(rng.range(0, 2) == 0)));
        let set = fleet(tasks, &[3], overheads());
        let policy = by_name("edf").expect("listed");
        let named = what_if_lane(&set, &*policy).expect("legal");
        for what in &named {
            let WhatIf::Lane { task, lane } = *what else { panic!("{what:?}") };
            assert!(admits(&changed(&set, task, |task| task.lane = lane), "edf"), "seed {seed}");
        }
        let mut possible = Vec::new();
        for task in set.tasks() {
            let lanes = (0..3).map(LaneId::new).filter(|lane| *lane != task.lane);
            if !admits(&set, "edf")
                && lanes
                    .into_iter()
                    .any(|lane| admits(&changed(&set, task.id, |task| task.lane = lane), "edf"))
            {
                possible.push(task.id);
            }
        }
        let mut tasks: Vec<TaskId> = named.iter().map(WhatIf::task).collect();
        let load = |id: &TaskId| {
            let task = set.task(*id).expect("known");
            let cost: u64 = task.segments.iter().map(|segment| segment.bound.get()).sum();
            (u128::from(cost) << 32).div_ceil(u128::from(task.period.get()))
        };
        assert!(tasks.is_sorted_by_key(load), "seed {seed}: the least load comes first");
        tasks.sort_unstable();
        assert_eq!(tasks, possible, "seed {seed}");
        if named.is_empty() { empty += 1 } else { found += 1 }
    });
    assert!(!is_whole_run() || (found >= 5 && empty >= 5), "{found} {empty}");
}

#[test]
fn another_partition_is_judged_with_its_own_budgets() {
    let mut tasks: Vec<Task> = (0..4).map(|number| task(number, 400, 1_000)).collect();
    tasks[3].lane = LaneId::new(1);
    let set = fleet(tasks, &[1, 1], Overheads::default());
    let policy = by_name("edf").expect("listed");
    let ask = |factor: u64| {
        let there =
            |id: TaskId, _: PartitionId| (id.index() != 0).then(|| vec![Nanos::from_micros(200 * factor)]);
        what_if_partition(&set, &*policy, &there).expect("legal")
    };
    let on = |id: u16| WhatIf::Partition {
        task: TaskId::new(id),
        partition: PartitionId::new(1),
        lane: LaneId::new(1),
    };
    assert_eq!(ask(1), [on(1), on(2)], "task 0 was not measured there");
    assert_eq!(ask(4), [], "there each would be too long");
    assert_eq!(what_if_lane(&set, &*policy), Ok(vec![]), "each partition has one lane");
    assert!(ask(1)[0].describe(&set).contains("`task-1` on lane1 of partition `part-1`"));
}

#[test]
fn priorities_pass_as_few_as_enumeration_needs() {
    let mut named = 0;
    for_seeds("priorities_pass_as_few", 40, |seed, rng| {
        let Some(set) = refused(rng, "fp") else { return };
        let policy = by_name("fp").expect("listed");
        let found = what_if_priority(&set, &*policy).expect("legal");
        let passed = |id: TaskId, priority: u32| {
            let now = set.task(id).expect("known").priority;
            let others = set.on_lane(set.task(id).expect("known").lane).filter(|other| other.id != id);
            others.filter(|other| other.priority.cmp(&now) != other.priority.cmp(&Some(priority))).count()
        };
        // Priorities go from 0 to 20, so 21 is beyond all.
        let least = |id: TaskId| {
            let fits =
                |priority: &u32| admits(&changed(&set, id, |task| task.priority = Some(*priority)), "fp");
            (0..=21).filter(fits).map(|priority| passed(id, priority)).min()
        };
        for task in set.tasks() {
            let what = found.iter().find(|what| what.task() == task.id);
            let shifted = what.map(|what| match *what {
                WhatIf::Priority { priority, .. } => passed(task.id, priority),
                _ => panic!("{what:?}"),
            });
            assert_eq!(shifted, least(task.id), "seed {seed}, {}", task.id);
            named += u32::from(what.is_some());
        }
    });
    assert!(!is_whole_run() || named >= 3, "{named}");
    let set = fleet(vec![task(0, 900, 1_000), task(1, 900, 8_000)], &[1], Overheads::default());
    assert_eq!(what_if_priority(&set, &*by_name("edf").expect("listed")), Ok(vec![]));
}

#[test]
fn segments_are_cut_where_blocking_binds() {
    let set = fleet(vec![task(0, 100, 1_000), task(1, 1_500, 20_000)], &[1], overheads());
    let policy = by_name("edf").expect("listed");
    let found = what_if_segment(&set, &*policy, Nanos::from_micros(20)).expect("legal");
    let [WhatIf::Segments { task, pieces, longest }] = found[..] else { panic!("{found:?}") };
    assert_eq!((task, pieces, longest), (TaskId::new(1), 2, Nanos::from_micros(770)));
    let cut = changed(&set, task, |task| {
        task.segments = vec![OccupancyBudget { bound: longest, ..task.segments[0].clone() }; 2];
    });
    assert!(admits(&cut, "edf") && !admits(&set, "edf"));
    // Cuts that cost more than they gain are no answer.
    assert_eq!(what_if_segment(&set, &*policy, Nanos::from_millis(2)), Ok(vec![]));
}

#[test]
fn nothing_is_proposed_where_nothing_or_too_much_is_broken() {
    let mut tasks = vec![task(0, 900, 1_000), task(1, 900, 1_000), task(2, 900, 1_000), task(3, 900, 1_000)];
    let policy = by_name("edf").expect("listed");
    tasks[2].lane = LaneId::new(1);
    tasks[3].lane = LaneId::new(1);
    let both = fleet(tasks.clone(), &[3], Overheads::default());
    let fine = fleet(tasks[..1].to_vec(), &[3], Overheads::default());
    for set in [both, fine] {
        assert_eq!(what_if_lane(&set, &*policy), Ok(vec![]));
        assert_eq!(what_if_period(&set, &*policy), Ok(vec![]));
        assert_eq!(what_if_budget(&set, &*policy), Ok(vec![]));
        assert_eq!(what_if_segment(&set, &*policy, Nanos::ZERO), Ok(vec![]));
    }
}
