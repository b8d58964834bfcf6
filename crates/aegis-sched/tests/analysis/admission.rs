//! Admission from task set to certificate or refusal.

use aegis_sched::admission::{Change, Depth, Reason, fit_periods};
use aegis_sched::policy::{EarliestDeadline, RateMonotonic, by_name};
use aegis_sched::{
    AdmissionController, AdmissionReport, AdmissionRequest, Arrival, Basis, Confidence, Criticality,
    OccupancyBudget, OnOverrun, Overheads, POLICIES, PartitionModel, Platform, Task, TaskSet, TermKind,
};
use aegis_types::{LaneId, Nanos, TaskId};

/// A task in milliseconds, deadline equal to the period, on lane 0.
#[derive(Clone, Copy)]
pub struct Spec {
    cost: u64,
    period: u64,
}

impl Spec {
    pub const fn new(cost: u64, period: u64) -> Self {
        Self { cost, period }
    }
}

pub fn tasks(specs: &[Spec]) -> Vec<Task> {
    specs
        .iter()
        .zip(0u16..)
        .map(|(spec, index)| Task {
            id: TaskId::new(index),
            name: format!("task-{index}"),
            lane: LaneId::new(0),
            period: Nanos::from_millis(spec.period),
            deadline: Nanos::from_millis(spec.period),
            jitter: Nanos::ZERO,
            arrival: Arrival::Periodic { offset: Nanos::ZERO },
            segments: vec![OccupancyBudget { bound: Nanos::from_millis(spec.cost), basis: Basis::Declared }],
            priority: None,
            criticality: Criticality::Medium,
            on_overrun: OnOverrun::Skip,
            retries: 0,
            weight: 1,
            excludes: Vec::new(),
        })
        .collect()
}

fn platform(lanes: u16) -> Platform {
    let partitions = vec![PartitionModel { name: "all".to_owned(), lanes }];
    Platform::new(partitions, Overheads::default()).expect("legal")
}

pub fn set(specs: &[Spec], lanes: u16) -> TaskSet {
    TaskSet::new(tasks(specs), platform(lanes)).expect("legal")
}

fn analyze(set: &TaskSet, policy: &str, depth: Depth) -> AdmissionReport {
    let controller = AdmissionController::new(by_name(policy).expect("known"));
    controller.analyze(&AdmissionRequest { set, epoch: 7, depth })
}

#[test]
fn every_policy_admits_a_light_set_with_terms_that_add_up() {
    let set = set(&[Spec::new(1, 10), Spec::new(2, 20), Spec::new(3, 50)], 2);
    for policy in POLICIES {
        for depth in [Depth::Feasible, Depth::TIGHT] {
            let report = analyze(&set, policy, depth);
            let certificate =
                report.certificate().unwrap_or_else(|| panic!("{policy}: {:?}", report.verdict));
            assert_eq!(
                (certificate.policy(), certificate.epoch(), certificate.lanes().len()),
                (*policy, 7, 2)
            );
            let lane = &certificate.lanes()[0];
            assert_eq!(lane.tasks().len(), 3);
            assert_eq!((certificate.lanes()[1].tasks().len(), certificate.lanes()[1].ladder().len()), (0, 1));
            for task in lane.tasks() {
                let sum: u64 = task.terms.iter().map(|term| term.span.get()).sum();
                assert_eq!(sum, task.wcrt.get(), "{policy}");
                assert!(task.wcrt <= task.deadline);
                let top = lane.ladder().last().expect("a rung").bounds[task.task.index()];
                assert_eq!(u64::from(task.queue), top.get().div_ceil(task.period.get()));
            }
            let tight = depth != Depth::Feasible;
            assert_eq!(!lane.tolerance().is_zero(), tight, "{policy}");
            assert_eq!(lane.ladder().len(), if tight { 8 } else { 1 }, "{policy}");
            for report in &report.tasks {
                let wcrt = report.wcrt.expect("admitted");
                assert_eq!(report.slack, report.deadline.checked_sub(wcrt));
            }
        }
    }
}

#[test]
fn the_tolerance_is_exact_for_fifo() {
    // R(X) = 6 ms + X; the shortest deadline is 10 ms.
    let report =
        analyze(&set(&[Spec::new(1, 10), Spec::new(2, 20), Spec::new(3, 50)], 1), "fifo", Depth::TIGHT);
    let certificate = report.certificate().expect("light");
    let lane = &certificate.lanes()[0];
    assert_eq!(lane.tolerance(), Nanos::from_millis(4));
    assert_eq!(lane.bound(0, Nanos::from_millis(4)), Some(Nanos::from_millis(10)));
    assert_eq!(lane.bound(0, Nanos::new(4_000_001)), None);
}

#[test]
fn a_refusal_names_task_blocker_and_the_period_that_fits() {
    let specs = [Spec::new(1, 8), Spec::new(36, 100)];
    for policy in ["edf", "rm", "dm"] {
        let report = analyze(&set(&specs, 1), policy, Depth::Feasible);
        let refusal = report.refusal().expect("36 ms block a deadline of 8 ms");
        assert_eq!((refusal.lane, refusal.task), (Some(LaneId::new(0)), Some(TaskId::new(0))), "{policy}");
        let binding = refusal.binding.as_ref().expect("blocked");
        assert_eq!(binding.kind, TermKind::Blocking { by: TaskId::new(1) }, "{policy}");
        assert_eq!(binding.span, Nanos::from_millis(36));
        let Change::Period { task, period } = refusal.changes[0] else { panic!("{refusal:?}") };
        assert_eq!((task, period), (TaskId::new(0), Nanos::from_millis(37)), "{policy}");
        let text = refusal.to_string();
        for part in ["lane0", "`task-0`", "`task-1`", "36ms", "a period of 37ms"] {
            assert!(text.contains(part), "{policy}: {text}");
        }
        let stretched = analyze(&set(&[Spec::new(1, 37), specs[1]], 1), policy, Depth::Feasible);
        assert!(stretched.is_admitted(), "{policy}");
    }
}

#[test]
fn utilisation_above_one_is_refused_with_the_factor_that_fits() {
    let report = analyze(&set(&[Spec::new(6, 10), Spec::new(5, 10)], 1), "fifo", Depth::Feasible);
    let refusal = report.refusal().expect("110 %");
    assert_eq!(refusal.reason, Reason::Utilisation { ppm: 1_100_000 });
    assert_eq!(refusal.changes, [Change::Stretch { ppm: 1_100_000 }]);
    assert!(refusal.to_string().contains("1.10"), "{refusal}");
    assert!(report.tasks.iter().all(|task| task.wcrt.is_none()));
}

#[test]
fn charged_overheads_decide() {
    let mut platform = platform(1);
    let fits = set(&[Spec::new(10, 10)], 1);
    assert!(analyze(&fits, "edf", Depth::Feasible).is_admitted());
    platform.overheads.handoff = Nanos::new(1);
    let charged = TaskSet::new(fits.tasks().to_vec(), platform.clone()).expect("legal");
    assert!(!analyze(&charged, "edf", Depth::Feasible).is_admitted());
    platform.overheads.handoff = Nanos::MAX;
    let overflow = TaskSet::new(fits.tasks().to_vec(), platform).expect("legal");
    let report = analyze(&overflow, "edf", Depth::Feasible);
    assert!(matches!(report.refusal().expect("overflow").reason, Reason::Model { .. }));
}

/// A task whose jitter reaches into its own window is not its own blocker.
#[test]
fn a_long_task_with_jitter_does_not_block_itself() {
    let mut tasks = tasks(&[Spec::new(7, 10)]);
    tasks[0].jitter = Nanos::from_millis(2);
    for depth in [Depth::Feasible, Depth::TIGHT] {
        let set = TaskSet::new(tasks.clone(), platform(1)).expect("legal");
        let report = analyze(&set, "edf", depth);
        let wcrt = report.tasks[0].wcrt.expect("7 + 2 is within 10");
        assert_eq!(wcrt, Nanos::from_millis(if depth == Depth::Feasible { 10 } else { 9 }));
    }
    tasks[0].jitter = Nanos::new(3_000_001);
    let set = TaskSet::new(tasks, platform(1)).expect("legal");
    assert!(!analyze(&set, "edf", Depth::Feasible).is_admitted());
}

#[test]
fn a_platform_that_contradicts_itself_is_refused() {
    let mut platform = platform(1);
    platform.partitions.push(PartitionModel { name: "none".to_owned(), lanes: 0 });
    let set = TaskSet::new(tasks(&[Spec::new(1, 10)]), platform).expect("tasks are legal");
    let report = analyze(&set, "edf", Depth::Feasible);
    let text = report.refusal().expect("refused").to_string();
    assert!(text.contains("`none`"), "{text}");
}

fn measured(samples: u64, margin_ppm: u64) -> Basis {
    Basis::Measured { samples, margin_ppm, level: "fleet".to_owned() }
}

/// Changes each input of a lane's confidence and sees it change; another lane's budgets do not matter.
#[test]
fn confidence_is_that_of_the_weakest_budget_on_the_lane() {
    let with = |bases: [Basis; 3]| {
        let mut tasks = tasks(&[Spec::new(1, 10), Spec::new(2, 20), Spec::new(3, 50)]);
        tasks[2].lane = LaneId::new(1);
        for (task, basis) in tasks.iter_mut().zip(bases) {
            task.segments[0].basis = basis;
        }
        let set = TaskSet::new(tasks, platform(2)).expect("legal");
        let report = analyze(&set, "edf", Depth::Feasible);
        assert_eq!(report.tasks[0].confidence, report.tasks[1].confidence);
        let basis = report.certificate().expect("light").lanes()[0].tasks()[0].basis.clone();
        assert_eq!(
            matches!(basis, Basis::Declared),
            matches!(report.tasks[0].confidence, Confidence::Proven { .. })
        );
        report.tasks[0].confidence.clone()
    };
    let check = |bases: [Basis; 3], samples: u64, margin_ppm: u64| {
        assert_eq!(with(bases), Confidence::Measured { samples, margin_ppm });
    };
    let Confidence::Proven { assumptions } = with([Basis::Declared, Basis::Declared, measured(1, 1)]) else {
        panic!("declared budgets alone leave the bound proven from its assumptions");
    };
    assert!(assumptions.iter().any(|line| line.contains("declared")), "{assumptions:?}");
    check([measured(300, 200_000), Basis::Declared, Basis::Declared], 300, 200_000);
    check([Basis::Declared, measured(200, 200_000), Basis::Declared], 200, 200_000);
    check([measured(300, 200_000), measured(200, 250_000), Basis::Declared], 200, 200_000);
    check([measured(300, 300_000), measured(200, 250_000), Basis::Declared], 200, 250_000);
    check([measured(100, 300_000), measured(200, 250_000), measured(1, 1)], 100, 250_000);
}

#[test]
fn assumptions_tell_what_the_platform_is_like() {
    let mut platform = platform(1);
    platform.decider_shares_cores = true;
    platform.overheads.stall = Nanos::from_millis(2);
    let set = TaskSet::new(tasks(&[Spec::new(1, 10)]), platform).expect("legal");
    let report = analyze(&set, "edf", Depth::Feasible);
    let text = report.certificate().expect("light").assumptions().join("\n");
    assert!(text.contains("decider shares cores") && text.contains("2ms"), "{text}");
}

#[test]
fn natural_periods_stay_where_the_lane_allows() {
    let ms = Nanos::from_millis;
    let light = set(&[Spec::new(1, 8), Spec::new(2, 33)], 1);
    assert_eq!(fit_periods(&light, &EarliestDeadline, ms(1)), Some(vec![ms(8), ms(33)]));
    // 36 ms of blocking: the short period becomes 37 ms. The long one needs no more than its natural 100 ms.
    let blocked = set(&[Spec::new(1, 8), Spec::new(36, 100)], 1);
    assert_eq!(fit_periods(&blocked, &EarliestDeadline, ms(1)), Some(vec![ms(37), ms(100)]));
    let fitted =
        fit_periods(&set(&[Spec::new(1, 8), Spec::new(36, 33)], 1), &RateMonotonic, ms(1)).expect("fits");
    let specs: Vec<Spec> = [1, 36]
        .iter()
        .zip(&fitted)
        .map(|(&cost, period)| Spec::new(cost, period.get() / 1_000_000))
        .collect();
    assert!(analyze(&set(&specs, 1), "rm", Depth::Feasible).is_admitted(), "{fitted:?}");
    // One step less for either is refused.
    for index in 0..2 {
        let mut less = specs.clone();
        less[index].period -= 1;
        assert!(!analyze(&set(&less, 1), "rm", Depth::Feasible).is_admitted(), "{fitted:?}");
    }
}
