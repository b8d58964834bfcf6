//! Segments that wait for excluded ones never hold their lane longer than charged; charging direct conflicts alone is
//! the control that must be caught.

use std::cell::Cell;

use aegis_sched::analysis::{LaneProblem, Stop, respond};
use aegis_sched::exclusion::{Exclusion, ExclusionError};
use aegis_sched::policy::FixedPriority;
use aegis_sched::{
    AdmissionController, AdmissionRequest, Basis, Confidence, Overheads, PartitionModel, Platform, TaskSet,
    charge,
};
use aegis_types::{LaneId, Nanos, TaskId};

use crate::fleet;
use crate::seeds::{Rng, counts_are_standard, for_seeds};
use crate::sim::{Done, Job, Running, run};

const LANES: usize = 4;

struct System {
    /// Cost, period, lane.
    specs: Vec<(u64, u64, u16)>,
    exclusion: Exclusion,
}

fn id(task: usize) -> TaskId {
    TaskId::new(u16::try_from(task).expect("few tasks"))
}

fn system(rng: &mut Rng) -> System {
    let specs: Vec<(u64, u64, u16)> = (0..rng.range(2, 6))
        .map(|_| (rng.range(1, 6), rng.range(20, 60), u16::try_from(rng.range(0, 3)).expect("few lanes")))
        .collect();
    let mut pairs = Vec::new();
    for a in 0..specs.len() {
        pairs.extend((0..a).filter(|_| rng.one_in(3)).map(|b| (id(a), id(b))));
    }
    System { specs, exclusion: Exclusion::new(pairs).expect("different tasks") }
}

impl System {
    fn places(&self) -> Vec<(LaneId, Nanos)> {
        self.specs.iter().map(|&(cost, _, lane)| (LaneId::new(lane), Nanos::new(cost))).collect()
    }

    /// What charging direct conflicts alone would allow a segment to wait.
    fn direct_wait(&self, task: usize) -> u64 {
        let lanes = (0..LANES).filter(|&lane| lane != usize::from(self.specs[task].2)).map(|lane| {
            let there = self.specs.iter().enumerate().filter(|(other, spec)| {
                usize::from(spec.2) == lane && self.exclusion.excludes(id(task), id(*other))
            });
            there.map(|(_, spec)| spec.0).max().unwrap_or(0)
        });
        lanes.sum()
    }

    fn jobs(&self, rng: &mut Rng) -> Vec<Job> {
        let mut jobs = Vec::new();
        let dense = rng.one_in(2);
        for (task, &(cost, period, lane)) in self.specs.iter().enumerate() {
            let mut arrival = rng.range(0, if dense { 4 } else { period });
            while arrival < 150 {
                let work = if rng.one_in(3) { rng.range(1, cost) } else { cost };
                let (lane, key) = (usize::from(lane), task as u64);
                jobs.push(Job { task, lane, key, arrival, release: arrival, work });
                arrival += period + if rng.one_in(2) { rng.range(0, 9) } else { 0 };
            }
        }
        jobs
    }

    /// One tick: what conflicts with an unfinished segment that was decided earlier does not move.
    fn tick(&self, running: &mut [Option<Running>]) {
        let before: Vec<Option<Running>> = running.to_vec();
        for (lane, slot) in running.iter_mut().enumerate() {
            let Some(own) = slot else { continue };
            let waits = before.iter().enumerate().any(|(other_lane, other)| {
                other.is_some_and(|other| {
                    (other.decided, other_lane) < (own.decided, lane)
                        && self.exclusion.excludes(id(own.job.task), id(other.job.task))
                })
            });
            own.left -= u64::from(!waits);
        }
    }
}

#[test]
fn no_segment_waits_longer_than_its_component_allows() {
    let (caught, waited) = (Cell::new(0u32), Cell::new(0u32));
    for_seeds("no_segment_waits_longer_than_its_component_allows", 3_000, |rng| {
        let system = system(rng);
        let waits = system.exclusion.waits(&system.places()).expect("in range");
        let set = fleet::set(fleet::tasks(&system.specs), u16::try_from(LANES).expect("few"));
        let set = system.exclusion.beside(&set).expect("in range");
        let problems = LaneProblem::of_lanes(&set, charge(&set).expect("in range"), &FixedPriority);
        let claims = problems.iter().map(|problem| respond(problem, Stop::Never));
        let bounds: Vec<_> = claims.flatten().flat_map(|claim| claim.tasks).collect();
        for _ in 0..2 {
            for Done { task, arrival, decided, end } in
                run(LANES, system.jobs(rng), |lanes| system.tick(lanes))
            {
                let (held, cost) = (end - decided, system.specs[task].0);
                let charged = cost + waits[task].get();
                assert!(
                    held <= charged,
                    "task {task} holds its lane for {held} > {charged}: {:?}",
                    system.specs
                );
                if let Some(bound) = bounds.iter().find(|bound| bound.task.index() == task) {
                    assert!(end - arrival <= bound.bound.get(), "task {task} responds in {}", end - arrival);
                }
                waited.set(waited.get() + u32::from(held > cost));
                caught.set(caught.get() + u32::from(held > cost + system.direct_wait(task)));
            }
        }
    });
    if counts_are_standard() {
        assert!(waited.get() > 100, "hardly anything ever waited");
        assert!(caught.get() > 0, "charging direct conflicts alone was never exceeded");
    }
}

/// Lane 0 runs c, on lane 1 b waits for c, on lane 2 a waits for b: a conflicts with b only, and waits for both.
#[test]
fn a_neighbour_may_itself_be_waiting() {
    let [c, b, a, alone] = [0, 1, 2, 3].map(TaskId::new);
    let exclusion = Exclusion::new([(a, b), (b, c), (a, alone)]).expect("different tasks");
    let spans = [(0, 5), (1, 3), (2, 1), (2, 9)];
    let places: Vec<(LaneId, Nanos)> =
        spans.iter().map(|&(lane, cost)| (LaneId::new(lane), Nanos::new(cost))).collect();
    let waits = exclusion.waits(&places).expect("in range");
    // The conflict of `a` with a task of its own lane joins nothing.
    assert_eq!(waits, [4, 6, 8, 0].map(Nanos::new));
    let specs = spans.iter().map(|&(lane, cost)| (cost, 100, lane)).collect();
    let system = System { specs, exclusion };
    let job = |task: usize, lane, work, release| Job { task, lane, key: 0, arrival: release, release, work };
    let done =
        run(LANES, vec![job(0, 0, 5, 0), job(1, 1, 3, 0), job(2, 2, 1, 0)], |lanes| system.tick(lanes));
    let held = done.iter().find(|done| done.task == 2).map(|done| done.end - done.decided);
    assert_eq!((held, system.direct_wait(2)), (Some(9), 3));
}

/// Waiting is charged once for each attempt, and includes the overheads of what is waited for.
#[test]
fn waiting_is_charged_with_its_overheads() {
    let mut tasks = fleet::tasks(&[(10, 1_000, 0), (20, 1_000, 1)]);
    tasks[0].retries = 2;
    let partitions = vec![PartitionModel { name: "all".to_owned(), lanes: 2 }];
    let overheads = Overheads { handoff: Nanos::new(3), ..Overheads::default() };
    let set = TaskSet::new(tasks, Platform::new(partitions, overheads).expect("legal")).expect("legal");
    let exclusion = Exclusion::new([(TaskId::new(1), TaskId::new(0))]).expect("different tasks");
    let charged = |set: &TaskSet| -> Vec<u64> {
        charge(set).expect("in range").iter().map(|task| task.segments[0].get()).collect()
    };
    let [first, second] = [3 * (10 + 3), 20 + 3];
    assert_eq!(charged(&set), [first, second]);
    assert_eq!(charged(&exclusion.beside(&set).expect("in range")), [first + 3 * second, second + first]);
}

/// What a job may wait for is in its bound, so that the bound is known no better: through neighbours as well.
#[test]
fn a_bound_is_no_better_known_than_what_it_waits_for() {
    let measured = || Basis::Measured { samples: 300, margin_ppm: 200_000, level: "fleet".to_owned() };
    let mut tasks = fleet::tasks(&[(5, 100, 0), (4, 100, 1), (3, 100, 2), (2, 100, 3)]);
    tasks[2].segments[0].basis = measured();
    (tasks[0].excludes, tasks[2].excludes) = (vec![id(1)], vec![id(1)]);
    let apart = fleet::set(tasks, 4);
    let set = Exclusion::of(&apart).beside(&apart).expect("in range");
    let report = AdmissionController::new(Box::new(FixedPriority)).analyze(&AdmissionRequest::new(&set));
    let proven = report
        .tasks
        .iter()
        .map(|task| matches!(task.confidence, Confidence::Proven { .. }))
        .collect::<Vec<_>>();
    assert_eq!(proven, [false, false, false, true], "task 3 excludes nobody");
    let certificate = report.certificate().expect("it fits");
    let bases = certificate.lanes().iter().map(|lane| lane.tasks()[0].basis.clone()).collect::<Vec<_>>();
    assert_eq!(bases, [measured(), measured(), measured(), Basis::Declared]);
}

#[test]
fn hostile_pairs_are_errors() {
    let [zero, one, far] = [0, 1, 900].map(TaskId::new);
    assert_eq!(Exclusion::new([(one, one)]), Err(ExclusionError::Itself { task: one }));
    let places = [(LaneId::new(0), Nanos::MAX), (LaneId::new(1), Nanos::MAX), (LaneId::new(2), Nanos::MAX)];
    let unknown = Exclusion::new([(far, zero)]).expect("different tasks");
    assert_eq!(unknown.waits(&places), Err(ExclusionError::Unknown { task: far, tasks: 3 }));
    let wide = Exclusion::new([(zero, one), (one, TaskId::new(2))]).expect("different tasks");
    assert_eq!(wide.waits(&places), Err(ExclusionError::Range));
    assert_eq!(Exclusion::default().waits(&places), Ok(vec![Nanos::ZERO; 3]));
}
