//! What a verdict on 30 tasks of one lane costs: feasibility by solver and referee, and the tight certificate.
//!
//! A verdict is everything from the task set to a certificate or to the solver's no: charging, solving, and for a set
//! that fits the referee's check of the claim. The reasons and remedies of a refusal come after its verdict and are
//! timed apart. Each set counts once, with the median of its runs: the distribution is one over sets, not over the
//! machine's interruptions.

use std::hint::black_box;
use std::time::Instant;

use aegis_benches::effort::Effort;
use aegis_benches::percentile::{Series, median, timer_cost};
use aegis_benches::sets::random_lane;
use aegis_sched::analysis::{LaneProblem, decide};
use aegis_sched::policy::by_name;
use aegis_sched::referee::certify;
use aegis_sched::{AdmissionController, AdmissionRequest, SchedulingPolicy, TaskSet, charge};
use aegis_types::{LaneId, Nanos};
use criterion::BenchmarkId;

const TASKS: u16 = 30;

/// Runs of each set, of which the median counts.
const RUNS: usize = 9;

/// A policy with the limit of a verdict under it.
const CLASSES: [(&str, &str, Nanos); 2] =
    [("np-fp", "dm", Nanos::from_micros(50)), ("np-edf", "edf", Nanos::from_micros(500))];

/// Whether the set is certified.
fn verdict(set: &TaskSet, policy: &dyn SchedulingPolicy) -> bool {
    let Ok(charged) = charge(set) else { return false };
    let problems = LaneProblem::of_lanes(set, charged, policy);
    let claims =
        problems.iter().map(|problem| decide(problem).map(|claim| vec![claim])).collect::<Result<_, _>>();
    claims.is_ok_and(|ladders| certify(set, policy, 1, ladders).is_ok())
}

/// `count` sets, their utilisations spread evenly from 50 to 90 %.
fn sets(count: u64) -> Vec<TaskSet> {
    let ppm = |index: u64| 500_000 + 400_000 * index / count.saturating_sub(1).max(1);
    (0..count).map(|index| random_lane(index + 1, TASKS, ppm(index)).expect("a legal set")).collect()
}

fn timed(runs: usize, mut work: impl FnMut()) -> std::time::Duration {
    let mut spans: Vec<_> = (0..runs)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed()
        })
        .collect();
    median(&mut spans)
}

/// The verdict once more, its two sides timed apart; the referee sees only sets that the solver finds feasible.
fn parts(set: &TaskSet, policy: &dyn SchedulingPolicy, solver: &mut Series, referee: &mut Series) -> bool {
    let Ok(charged) = charge(set) else { return false };
    let problem = LaneProblem::of_lane(set, &charged, policy, LaneId::new(0));
    solver.record(timed(RUNS, || {
        black_box(decide(black_box(&problem)).is_ok());
    }));
    let Ok(claim) = decide(&problem) else { return false };
    let mut claims = vec![vec![vec![claim.clone()]]; RUNS].into_iter();
    referee.record(timed(RUNS, || {
        let ladders = claims.next().unwrap_or_default();
        black_box(certify(set, policy, 1, black_box(ladders)).is_ok());
    }));
    certify(set, policy, 1, vec![vec![claim]]).is_ok()
}

fn tails(sets: &[TaskSet]) {
    for (class, name, limit) in CLASSES {
        let policy = by_name(name).expect("one of the listed names");
        let controller = AdmissionController::new(by_name(name).expect("one of the listed names"));
        let series = |what: &str| Series::new(format!("verdict/{class}/{what}"));
        let mut all = series("verdict").limited(limit);
        let (mut solver, mut referee) = (series("of it: solver"), series("of it: referee"));
        let (mut admitted, mut refused) = (series("report, admitted"), series("report, refused"));
        let mut tight = series("tight certificate");
        let mut fitting = 0;
        for set in sets {
            all.record(timed(RUNS, || {
                black_box(verdict(set, policy.as_ref()));
            }));
            let fits = parts(set, policy.as_ref(), &mut solver, &mut referee);
            fitting += u64::from(fits);
            let request = AdmissionRequest::new(set);
            let report = timed(if fits { RUNS } else { 1 }, || {
                black_box(controller.analyze(&request));
            });
            if fits {
                admitted.record(report);
                tight.record(timed(1, || {
                    black_box(controller.analyze(&request.tight()));
                }));
            } else {
                refused.record(report);
            }
        }
        println!("{all} ({fitting} of {} admitted)", sets.len());
        for series in
            [&solver, &referee, &admitted, &refused, &tight].into_iter().filter(|series| series.count() > 0)
        {
            println!("{series}");
        }
    }
}

fn means(effort: Effort) {
    let mut criterion = effort.criterion();
    let mut group = criterion.benchmark_group("verdict");
    for (class, name, _) in CLASSES {
        let policy = by_name(name).expect("one of the listed names");
        for percent in [50, 70, 90] {
            let set = random_lane(1, TASKS, percent * 10_000).expect("a legal set");
            group.bench_with_input(BenchmarkId::new(class, format!("{percent} %")), &set, |bencher, set| {
                bencher.iter(|| verdict(black_box(set), policy.as_ref()));
            });
        }
    }
    group.finish();
    criterion.final_summary();
}

fn main() {
    let effort = Effort::asked();
    let sets = sets(effort.choose(400, 12));
    println!("verdict: {}; {} sets of {TASKS} tasks, 50 to 90 % utilised", effort.note(), sets.len());
    println!("{}", timer_cost(effort.choose(100_000, 10_000)));
    tails(&sets);
    means(effort);
}
