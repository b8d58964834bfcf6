//! Sets of tasks with periods, deadlines and jitters at the ends of their ranges, and with very many tasks.

use aegis_sched::analysis::LaneProblem;
use aegis_sched::global::shared_queue;
use aegis_sched::model::{Arrival, Basis, Criticality, OccupancyBudget, OnOverrun};
use aegis_sched::platform::{Overheads, PartitionModel};
use aegis_sched::policy::{INSERTING, by_name};
use aegis_sched::sag::periodic::jobs_of;
use aegis_sched::sag::{
    Edge, JobKey, JobPolicy, JobSet, Limits, Options, PeriodicTask, SagVerdict, explore, explore_periodic,
};
use aegis_sched::{
    AdmissionController, AdmissionRequest, POLICIES, Platform, Task, TaskSet, Verdict, charge,
};
use aegis_types::{Bytes, LaneId, Nanos, TaskId, Time};

use super::campaign::seeds;
use super::generate::Rng;

/// A span from an end of the range, or from where tasks live, so that some sets fit.
fn span(rng: &mut Rng, usual: u64) -> Nanos {
    Nanos::new(if rng.one_in(6) { rng.number() } else { rng.range(usual / 2, usual) })
}

fn task(rng: &mut Rng, id: usize, lanes: u16, share: u64) -> Task {
    let period = 1u64 << rng.range(10, 40);
    let late = if rng.one_in(4) { period * 3 } else { period };
    let segments = if rng.one_in(20) { rng.below(300) } else { rng.below(3) + 1 };
    let budget = |bound| OccupancyBudget { bound, basis: Basis::Declared };
    Task {
        id: TaskId::new(id as u16),
        name: format!("t{id}"),
        lane: LaneId::new(rng.below(usize::from(lanes)) as u16),
        period: span(rng, period),
        deadline: span(rng, late),
        jitter: if rng.one_in(3) { span(rng, period / 4) } else { Nanos::ZERO },
        arrival: if rng.one_in(2) {
            Arrival::Sporadic
        } else {
            Arrival::Periodic { offset: span(rng, period) }
        },
        segments: (0..segments).map(|_| budget(span(rng, (period / share).max(2)))).collect(),
        priority: rng.one_in(2).then(|| rng.number() as u32),
        criticality: Criticality::default(),
        on_overrun: OnOverrun::default(),
        retries: if rng.one_in(10) { rng.number() as u32 } else { 0 },
        weight: if rng.one_in(4) { rng.number() as u32 } else { 1 },
        excludes: if rng.one_in(8) { vec![TaskId::new(rng.below(12) as u16)] } else { Vec::new() },
    }
}

fn fleet(rng: &mut Rng) -> Option<TaskSet> {
    let count = if rng.one_in(300) { TaskSet::TASKS_MAX + rng.below(2) } else { rng.below(9) };
    let lanes = rng.range(1, 4) as u16;
    let mut overheads = Overheads::default();
    if rng.one_in(4) {
        (overheads.decision, overheads.wakeup) = (span(rng, 100), span(rng, 100));
        (overheads.arrival, overheads.handoff) = (span(rng, 10), span(rng, 10));
    }
    let platform = Platform::new(vec![PartitionModel { name: "all".into(), lanes }], overheads).ok()?;
    let share = 1 << (rng.range(1, 6) + u64::from(count > 100) * 8);
    let tasks = (0..count).map(|id| task(rng, id, lanes, share)).collect();
    match TaskSet::new(tasks, platform) {
        Ok(set) => Some(set),
        Err(error) => {
            assert!(!error.to_string().is_empty());
            None
        }
    }
}

#[test]
fn sets_of_tasks_are_admitted_or_refused() {
    let (mut admitted, mut refused) = (0u64, 0u64);
    seeds("sets_of_tasks", 150, |rng| {
        let Some(set) = fleet(rng) else { return };
        let names = if rng.one_in(4) { INSERTING } else { POLICIES };
        let name = rng.pick(names);
        let policy = by_name(name).expect("a policy of the list");
        let mut request = AdmissionRequest::new(&set);
        if set.tasks().len() < 100 && rng.one_in(2) {
            request = request.tight();
        }
        match AdmissionController::new(policy).analyze(&request).verdict {
            Verdict::Admitted(certificate) => {
                admitted += 1;
                for task in certificate.lanes().iter().flat_map(|lane| lane.tasks()) {
                    let deadline = set.task(task.task).expect("a task of the set").deadline;
                    assert!(task.wcrt <= deadline, "{name}: {task:?}");
                }
            }
            Verdict::Refused(_) => refused += 1,
        }
        if set.tasks().len() < 100 {
            let policy = by_name(name).expect("a policy of the list");
            if let Ok(charged) = charge(&set) {
                let report = shared_queue(&LaneProblem::of_lanes(&set, charged, policy.as_ref()));
                assert!(!report.expect("lanes of one policy").describe().is_empty());
            }
        }
    });
    assert!(admitted > 5 && refused > 5, "{admitted} {refused}");
}

#[test]
fn periodic_tasks_are_explored_or_undecided() {
    let limits = Limits { states: 3_000, bytes: Bytes::new(8 << 20) };
    let (mut decided, mut refused) = (0u64, 0u64);
    seeds("periodic_tasks", 150, |rng| {
        let tasks: Vec<PeriodicTask> = (0..rng.range(0, 5))
            .map(|task| {
                let period = *rng.pick(&[4, 6, 8, 12, 1 << 20, 1 << 50]);
                let mut value =
                    |usual: u64| Nanos::new(if rng.one_in(12) { rng.number() } else { rng.range(0, usual) });
                PeriodicTask {
                    task: if value(20).is_zero() { 0 } else { task },
                    offset: value(period / 2),
                    period: if value(20).is_zero() { value(9) } else { Nanos::new(period) },
                    jitter: value(2),
                    cost_min: value(1),
                    cost_max: value(3).saturating_add(Nanos::new(1)),
                    deadline: Nanos::new(period).saturating_add(value(6)),
                    priority: value(3).get(),
                }
            })
            .collect();
        let policy = *rng.pick(&[JobPolicy::FixedPriority, JobPolicy::EarliestDeadline]);
        match explore_periodic(&tasks, policy, limits, &mut || true) {
            Ok(report) => {
                decided += u64::from(!matches!(report.verdict, SagVerdict::Undecided { .. }));
                assert!(report.complete || report.verdict != SagVerdict::Schedulable);
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty());
            }
        }
        edges_between(rng, &tasks, policy, limits);
    });
    assert!(decided > 5 && refused > 5, "{decided} {refused}");
}

/// Edges drawn at random, with loops and cycles among them, over the first jobs of the tasks.
fn edges_between(rng: &mut Rng, tasks: &[PeriodicTask], policy: JobPolicy, limits: Limits) {
    let Ok(mut jobs) = jobs_of(tasks, policy, Time::new(rng.range(1, 40))) else { return };
    jobs.truncate(200);
    let mut key = || JobKey { task: rng.range(0, 4), job: rng.range(1, 3) };
    let drawn: Vec<(JobKey, JobKey)> = (0..3).map(|_| (key(), key())).collect();
    let edges: Vec<Edge> = drawn
        .into_iter()
        .map(|(from, to)| Edge { from, to, delay_min: Nanos::ZERO, delay_max: Nanos::new(rng.range(0, 1)) })
        .collect();
    if let Ok(set) = JobSet::new(jobs, &edges[..rng.below(4)]) {
        let options = Options { cores: rng.range(1, 3) as u32, limits, ..Options::default() };
        explore(&set, &options, &mut || true).expect("options that go together");
    }
}
