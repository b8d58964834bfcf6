//! Contended budgets against lanes that slow each other down, tick by tick.

use std::cell::Cell;
use std::collections::BTreeMap;

use aegis_sched::analysis::{LaneProblem, Stop, respond};
use aegis_sched::contention::windows::{Traffic, contended, settled};
use aegis_sched::contention::{ClassId, ContentionError, Mix, Slowdown, SlowdownTable, Worst};
use aegis_sched::policy::FixedPriority;
use aegis_sched::{AdmissionController, AdmissionRequest, TaskSet, charge};
use aegis_types::{LaneId, Nanos, TaskId};

use crate::fleet;
use crate::seeds::{Rng, counts_are_standard, for_seeds};
use crate::sim::{Done, Job, run};

const LANES: u16 = 3;

/// Work of one tick in isolation, divisible by all slowdowns that are drawn.
const UNIT: u64 = 12;

fn specs(rng: &mut Rng, period: (u64, u64)) -> Vec<(u64, u64, u16)> {
    (0..rng.range(2, 6))
        .map(|_| {
            let lane = u16::try_from(rng.range(0, u64::from(LANES) - 1)).expect("few lanes");
            (rng.range(1, 5), rng.range(period.0, period.1), lane)
        })
        .collect()
}

fn jobs(rng: &mut Rng, specs: &[(u64, u64, u16)], unit: u64, end: u64) -> Vec<Job> {
    let mut jobs = Vec::new();
    let dense = rng.one_in(2);
    for (task, &(cost, period, lane)) in specs.iter().enumerate() {
        let mut arrival = rng.range(0, if dense { 3 } else { period });
        while arrival < end {
            let (lane, key, work) = (usize::from(lane), task as u64, cost * unit);
            let work = if rng.one_in(4) { rng.range(1, work) } else { work };
            jobs.push(Job { task, lane, key, arrival, release: arrival, work });
            arrival += period + if rng.one_in(3) { rng.range(0, 5) } else { 0 };
        }
    }
    jobs
}

fn lanes(specs: &[(u64, u64, u16)]) -> Vec<LaneId> {
    specs.iter().map(|spec| LaneId::new(spec.2)).collect()
}

/// A table of every mix of up to two of three classes, with slowdowns by 1, 2, 3, 4 or 6 that follow no order.
fn table(rng: &mut Rng, tasks: usize) -> SlowdownTable {
    let classes: Vec<ClassId> =
        (0..tasks).map(|_| ClassId(u16::try_from(rng.range(0, 2)).expect("few"))).collect();
    let rows = (0..tasks).map(|_| {
        let mut tested = BTreeMap::new();
        for a in 0..3 {
            for mix in [vec![a], vec![a, 0], vec![a, 1], vec![a, 2]] {
                let factor = [1, 2, 3, 4, 6][rng.index(5)];
                let mix: Mix = mix.into_iter().map(ClassId).collect::<Vec<_>>().into();
                tested.insert(mix, factor * 1_000_000);
            }
        }
        Slowdown::Mixes { tested, enemy: None }
    });
    SlowdownTable { classes, rows: rows.collect() }
}

fn factor(table: &SlowdownTable, task: usize, mix: &Mix) -> u64 {
    match &table.rows[task] {
        Slowdown::Mixes { tested, .. } => tested.get(mix).map_or(1, |ppm| ppm / 1_000_000),
        row => panic!("{row:?}"),
    }
}

/// Bounds of every task whose lane has them, by number.
fn bounds(set: &TaskSet) -> Vec<Option<u64>> {
    let mut bounds = vec![None; set.tasks().len()];
    let charged = charge(set).expect("in range");
    for problem in LaneProblem::of_lanes(set, charged, &FixedPriority) {
        for task in respond(&problem, Stop::Never).into_iter().flat_map(|claim| claim.tasks) {
            bounds[task.task.index()] = Some(task.bound.get());
        }
    }
    bounds
}

/// The control takes a full house, the last task of each lane, for the worst mix.
#[test]
fn no_segment_is_slowed_more_than_its_worst_mix() {
    let (caught, slowed) = (Cell::new(0u32), Cell::new(0u32));
    for_seeds("no_segment_is_slowed_more_than_its_worst_mix", 1_500, |rng| {
        let specs = specs(rng, (20, 80));
        let table = table(rng, specs.len());
        let isolated = fleet::set(fleet::tasks(&specs), LANES);
        let set = table.beside(&isolated).expect("every mix is listed");
        let bounds = bounds(&set);
        let full = |task: usize| {
            let others = (0..LANES).filter(|lane| *lane != specs[task].2);
            let last = others.filter_map(|lane| specs.iter().rposition(|spec| spec.2 == lane));
            let mix: Mix = last.map(|other| table.classes[other]).collect::<Vec<_>>().into();
            factor(&table, task, &mix)
        };
        let done = run(usize::from(LANES), jobs(rng, &specs, UNIT, 200), |running| {
            let tasks: Vec<Option<usize>> = running.iter().map(|slot| slot.map(|own| own.job.task)).collect();
            for (lane, slot) in running.iter_mut().enumerate() {
                let Some(own) = slot else { continue };
                let others = tasks.iter().enumerate().filter(|(other, _)| *other != lane);
                let mix: Vec<ClassId> =
                    others.filter_map(|(_, task)| task.map(|task| table.classes[task])).collect();
                own.left = own.left.saturating_sub(UNIT / factor(&table, own.job.task, &mix.into()));
            }
        });
        for Done { task, arrival, decided, end } in done {
            let (held, budget) = (end - decided, set.tasks()[task].segments[0].bound.get());
            assert!(held <= budget, "task {task} held its lane for {held} > {budget}: {specs:?} {table:?}");
            let response = end - arrival;
            assert!(bounds[task].is_none_or(|bound| response <= bound), "task {task}: {response} {specs:?}");
            slowed.set(slowed.get() + u32::from(held > specs[task].0));
            caught.set(caught.get() + u32::from(held > specs[task].0 * full(task)));
        }
    });
    if counts_are_standard() {
        assert!(slowed.get() > 100 && caught.get() > 0, "{} slowed, {} caught", slowed.get(), caught.get());
    }
}

#[test]
fn a_lane_more_never_lowers_a_slowdown() {
    for_seeds("a_lane_more_never_lowers_a_slowdown", 1_000, |rng| {
        let specs = specs(rng, (20, 80));
        let table = table(rng, specs.len());
        let mut together = lanes(&specs);
        let task = TaskId::new(0);
        let apart = table.worst(task, &together).expect("every mix is listed");
        // Whoever moves into the task's own lane stops running beside it.
        let moved = rng.index(specs.len());
        together[moved] = together[0];
        let together = table.worst(task, &together).expect("every mix is listed");
        assert!(moved == 0 || together.ppm <= apart.ppm, "{together:?} above {apart:?}: {specs:?} {table:?}");
    });
}

#[test]
fn what_was_not_measured_is_an_error_or_an_enemy() {
    let classes = vec![ClassId(0), ClassId(1), ClassId(1)];
    let mix = |classes: &[u16]| -> Mix { classes.iter().copied().map(ClassId).collect::<Vec<_>>().into() };
    let row = |tested: &[(&[u16], u64)], enemy| Slowdown::Mixes {
        tested: tested.iter().map(|&(classes, ppm)| (mix(classes), ppm)).collect(),
        enemy,
    };
    let ask = |rows: Vec<Slowdown>, lanes: &[u16]| {
        let table = SlowdownTable { classes: classes.clone(), rows };
        let lanes: Vec<LaneId> = lanes.iter().copied().map(LaneId::new).collect();
        table.worst(TaskId::new(0), &lanes)
    };
    let with = |row: Slowdown| vec![row, Slowdown::Enemy { ppm: 0 }, Slowdown::Enemy { ppm: 0 }];
    let worst = |ppm, mix| Ok(Worst { ppm, mix });

    let pair = row(&[(&[1], 2_000_000)], None);
    assert_eq!(ask(with(pair.clone()), &[0, 1, 1]), worst(2_000_000, Some(mix(&[1]))));
    let untested = ContentionError::Untested { task: TaskId::new(0), mix: mix(&[1, 1]) };
    assert_eq!(ask(with(pair), &[0, 1, 2]), Err(untested));
    let enemy = row(&[(&[1], 2_000_000)], Some(5_000_000));
    assert_eq!(ask(with(enemy.clone()), &[0, 1, 2]), worst(5_000_000, None));
    assert_eq!(ask(with(enemy), &[0, 0, 0]), worst(1_000_000, Some(mix(&[]))));
    let excess = Slowdown::Excess { ppm: vec![9, 300_000] };
    assert_eq!(ask(with(excess), &[0, 1, 2]), worst(1_600_000, Some(mix(&[1, 1]))));
    let short = Slowdown::Excess { ppm: vec![9] };
    assert!(matches!(ask(with(short), &[0, 1, 2]), Err(ContentionError::Count { found: 1, needed: 2, .. })));
    assert!(matches!(ask(Vec::new(), &[0, 1, 2]), Err(ContentionError::Count { found: 0, needed: 3, .. })));
    // An enemy that speeds things up is none.
    assert_eq!(ask(with(Slowdown::Enemy { ppm: 3 }), &[0, 1, 2]), worst(1_000_000, None));
}

fn traffic(rng: &mut Rng, tasks: usize) -> Traffic {
    Traffic {
        transactions: (0..tasks).map(|_| vec![rng.range(0, 3)]).collect(),
        delay: Nanos::new(rng.range(1, 2)),
        per_transaction: if rng.one_in(2) { Some(rng.range(1, 2)) } else { None },
    }
}

/// Runs jobs that delay whatever runs on other lanes by their transactions, as far as the arbiter lets them; `issue`
/// says how many of those left a job issues in a tick.
fn run_with(traffic: &Traffic, jobs: Vec<Job>, mut issue: impl FnMut(u64) -> u64) -> Vec<Done> {
    let limit = |task: usize| traffic.per_transaction.map_or(u64::MAX, |f| f * traffic.transactions[task][0]);
    // Transactions issued and suffered, by task and arrival.
    let mut counts: BTreeMap<(usize, u64), (u64, u64)> = BTreeMap::new();
    run(usize::from(LANES), jobs, |running| {
        let mut sent = Vec::new();
        for own in running.iter().flatten() {
            let (issued, _) = counts.entry((own.job.task, own.job.arrival)).or_default();
            let now = issue(traffic.transactions[own.job.task][0] - *issued);
            *issued += now;
            sent.push((own.job.lane, now));
        }
        for own in running.iter_mut().flatten() {
            let others: u64 = sent.iter().filter(|(lane, _)| *lane != own.job.lane).map(|(_, now)| now).sum();
            let (_, suffered) = counts.entry((own.job.task, own.job.arrival)).or_default();
            let hits = others.min(limit(own.job.task) - *suffered);
            *suffered += hits;
            own.left = own.left - 1 + hits * traffic.delay.get();
        }
    })
}

#[test]
fn no_segment_is_delayed_longer_than_its_window() {
    let (admitted, attained) = (Cell::new(0u32), Cell::new(0u32));
    for_seeds("no_segment_is_delayed_longer_than_its_window", 3_000, |rng| {
        let specs = specs(rng, (15, 100));
        let traffic = traffic(rng, specs.len());
        let isolated = fleet::set(fleet::tasks(&specs), LANES);
        let Ok(found) = contended(&isolated, &FixedPriority, &traffic) else { return };
        admitted.set(admitted.get() + 1);
        let all = jobs(rng, &specs, 1, 250);
        let eager = rng.one_in(2);
        let issue = |left| if eager { left } else { rng.range(0, left) };
        for Done { task, arrival, decided, end } in run_with(&traffic, all, issue) {
            let (held, response) = (end - decided, end - arrival);
            let budget = found.set.tasks()[task].segments[0].bound.get();
            assert!(held <= budget, "task {task} held its lane for {held} > {budget}: {specs:?} {traffic:?}");
            assert!(response <= found.responses[task].get(), "task {task}: {response} {specs:?} {traffic:?}");
            attained.set(attained.get() + u32::from(held == budget && held > specs[task].0));
        }
    });
    if counts_are_standard() {
        let (admitted, attained) = (admitted.get(), attained.get());
        assert!(admitted > 300 && attained > 300, "{admitted} admitted, {attained} budgets attained");
    }
}

/// Task 0 is held up by task 1 on its lane and ends late; its next job comes early: task 2 meets both, though its
/// window is far shorter than the period of task 0.
#[test]
fn a_window_meets_a_late_job_and_the_next() {
    let specs = [(1, 10, 1), (8, 100, 1), (2, 100, 0)];
    let traffic = Traffic {
        transactions: vec![vec![1], vec![0], vec![0]],
        delay: Nanos::new(2),
        per_transaction: None,
    };
    let isolated = fleet::set(fleet::tasks(&specs), LANES);
    let found = contended(&isolated, &FixedPriority, &traffic).expect("a light set");
    let job = |task: usize, release, work| Job {
        task,
        lane: usize::from(specs[task].2),
        key: task as u64,
        arrival: release,
        release,
        work,
    };
    let jobs = vec![job(1, 0, 8), job(0, 1, 1), job(0, 11, 1), job(2, 8, 2)];
    let done = run_with(&traffic, jobs, |left| left);
    let held = done.iter().find(|done| done.task == 2).map(|done| done.end - done.decided);
    // One job of task 0 in each period of 10 would allow 2 + 2.
    assert_eq!((held, found.set.tasks()[2].segments[0].bound), (Some(6), Nanos::new(6)));
}

/// The solution is one that a single evaluation confirms, a smaller budget is not, and more traffic never needs less.
#[test]
fn windows_settle_at_the_least_budgets() {
    let lowered = Cell::new(0u32);
    for_seeds("windows_settle_at_the_least_budgets", 600, |rng| {
        let specs = specs(rng, (25, 120));
        let mut traffic = traffic(rng, specs.len());
        let isolated = fleet::set(fleet::tasks(&specs), LANES);
        let Ok(found) = contended(&isolated, &FixedPriority, &traffic) else { return };
        let certified = |set: &TaskSet| {
            let controller = AdmissionController::new(Box::new(FixedPriority));
            let report = controller.analyze(&AdmissionRequest::new(set));
            report.certificate().is_some_and(|certificate| settled(&isolated, set, certificate, &traffic))
        };
        assert!(certified(&found.set), "{specs:?} {traffic:?}");
        let task = rng.index(specs.len());
        let mut tasks = found.set.tasks().to_vec();
        let budget = tasks[task].segments[0].bound.get();
        if budget > specs[task].0 {
            tasks[task].segments[0] = fleet::budget(budget - 1);
            assert!(!certified(&fleet::set(tasks, LANES)), "{specs:?} {traffic:?}");
            lowered.set(lowered.get() + 1);
        }
        traffic.transactions[task][0] += 1;
        if let Ok(more) = contended(&isolated, &FixedPriority, &traffic) {
            for (before, after) in found.set.tasks().iter().zip(more.set.tasks()) {
                assert!(after.segments[0].bound >= before.segments[0].bound, "{specs:?} {traffic:?}");
            }
        }
    });
    assert!(!counts_are_standard() || lowered.get() > 100, "hardly any budget was contended");
}

#[test]
fn hostile_traffic_is_an_error() {
    let set = fleet::set(fleet::tasks(&[(1, 10, 0), (1, 10, 1)]), 2);
    let ask = |transactions: Vec<Vec<u64>>, delay| {
        let traffic = Traffic { transactions, delay: Nanos::new(delay), per_transaction: None };
        contended(&set, &FixedPriority, &traffic)
    };
    assert!(matches!(ask(vec![vec![1]], 1), Err(ContentionError::Count { found: 1, needed: 2, .. })));
    assert!(matches!(ask(vec![vec![1], vec![]], 1), Err(ContentionError::Count { found: 0, .. })));
    assert!(matches!(ask(vec![vec![u64::MAX]; 2], 1), Err(ContentionError::Range { .. })));
    assert!(matches!(ask(vec![vec![1]; 2], u64::MAX), Err(ContentionError::Range { .. })));
    assert!(matches!(ask(vec![vec![1]; 2], 20), Err(ContentionError::BeyondDeadline { .. })));
    assert!(matches!(ask(vec![vec![3]; 2], 1), Ok(_) | Err(ContentionError::Lane { .. })));
}
