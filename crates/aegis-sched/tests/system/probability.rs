//! Tails of sums against published values and whole enumerations; probabilities of failure against lanes on which
//! every combination of execution times is run.

use std::cell::Cell;

use aegis_sched::PolicyClass;
use aegis_sched::analysis::{Blocking, LaneProblem, LaneTask};
use aegis_sched::probability::{
    FailureBound, LateJobs, Law, LawError, Method, TaskLaws, chernoff, convolution, failure,
};
use aegis_types::{LaneId, Nanos, TaskId};
use serde_json::Value;

use crate::seeds::{Rng, counts_are_standard, for_seeds, vectors};

fn law(atoms: &[(u64, u64)]) -> Law {
    Law::new(atoms.iter().map(|&(value, weight)| (Nanos::new(value), weight)).collect()).expect("a law")
}

/// A law from values with fractions as text.
fn parsed(pmf: &Value) -> Law {
    let atoms = pmf.as_array().expect("a list").iter().map(|atom| {
        let (part, whole) = atom[1].as_str().and_then(|text| text.split_once('/')).expect("a fraction");
        let number = |text: &str| text.parse::<u64>().expect("a number");
        (atom[0].as_u64().expect("a value"), number(part), number(whole))
    });
    let atoms: Vec<_> = atoms.collect();
    let whole: u64 = 1_000_000;
    let weights: Vec<(u64, u64)> =
        atoms.iter().map(|&(value, part, denominator)| (value, part * (whole / denominator))).collect();
    assert_eq!(weights.iter().map(|(_, weight)| weight).sum::<u64>(), whole, "{pmf}");
    law(&weights)
}

#[test]
fn tails_equal_the_published_ones() {
    let Some(file) = vectors("analysis/prob/sum_exceedance.json") else { return };
    let cases = file.as_array().expect("a list");
    assert!(!cases.is_empty());
    for case in cases {
        let tasks = case["tasks"].as_array().expect("tasks");
        let laws: Vec<(Law, u64)> = tasks
            .iter()
            .map(|task| (parsed(&task["pmf"]), task["njobs"].as_u64().expect("a count")))
            .collect();
        let draws: Vec<(&Law, u64)> = laws.iter().map(|(law, count)| (law, *count)).collect();
        let threshold = Nanos::new(case["threshold"].as_u64().expect("a threshold"));
        let float = |name: &str| case[name].as_f64().expect("a number");

        let exact = float("exact_float");
        let convolved = convolution::exceedance(&draws, threshold).expect("few jobs");
        assert!(convolved >= exact && convolved <= exact * (1.0 + 1e-9), "{convolved} for {exact}: {case}");

        let optimal = float("chernoff_optimal_for_ge_threshold_plus_1");
        let bounded = chernoff::exceedance(&draws, threshold).expect("in range");
        assert!(
            bounded >= exact && (bounded / optimal - 1.0).abs() < 1e-6,
            "{bounded} for {optimal}: {case}"
        );
    }
}

/// All combinations of draws: the weight of those whose sum exceeds the threshold, and the weight of all.
fn enumerated(draws: &[(&Law, u64)], threshold: u64) -> (u128, u128) {
    let single: Vec<&Law> = draws.iter().flat_map(|(law, count)| (0..*count).map(move |_| *law)).collect();
    let mut sums = vec![(0u64, 1u128)];
    for law in &single {
        let atoms = law.atoms();
        let next = sums.iter().flat_map(|&(sum, weight)| {
            atoms.iter().map(move |(value, more)| (sum + value.get(), weight * u128::from(*more)))
        });
        sums = next.collect();
    }
    let whole = single.iter().map(|law| u128::from(law.total())).product();
    (sums.iter().filter(|(sum, _)| *sum > threshold).map(|(_, weight)| weight).sum(), whole)
}

/// Whether a bound is no less than a fraction, up to the rounding of the comparison itself.
fn covers(bound: f64, (part, whole): (u128, u128)) -> bool {
    bound * whole as f64 >= part as f64 * (1.0 - 1e-15)
}

fn random_law(rng: &mut Rng, values: (u64, u64), count: u64) -> Law {
    let atoms: Vec<(u64, u64)> =
        (0..count).map(|_| (rng.range(values.0, values.1), rng.range(1, 20))).collect();
    law(&atoms)
}

#[test]
fn tails_are_never_below_the_enumerated_ones() {
    let rounded = Cell::new(0u32);
    for_seeds("tails_are_never_below_the_enumerated_ones", 2_000, |rng| {
        let laws: Vec<Law> = (0..rng.range(1, 3))
            .map(|_| {
                let count = rng.range(1, 3);
                random_law(rng, (0, 40), count)
            })
            .collect();
        let draws: Vec<(&Law, u64)> = laws.iter().map(|law| (law, rng.range(0, 3))).collect();
        let threshold = rng.range(0, 150);
        let exact = enumerated(&draws, threshold);
        let limit = Nanos::new(threshold);
        let chernoff = chernoff::exceedance(&draws, limit).expect("in range");
        assert!(covers(chernoff, exact), "{chernoff} below {exact:?}: {draws:?} > {threshold}");
        let convolved = convolution::exceedance(&draws, limit).expect("few jobs");
        let fraction = exact.0 as f64 / exact.1 as f64;
        assert!(
            covers(convolved, exact) && convolved <= fraction * (1.0 + 1e-9),
            "{convolved} for {fraction}: {draws:?} > {threshold}"
        );
        assert!(convolved <= chernoff * (1.0 + 1e-9), "{convolved} above {chernoff}");
        let support = usize::try_from(rng.range(2, 8)).expect("small");
        let coarse = convolution::exceedance_within(&draws, limit, support).expect("few jobs");
        assert!(covers(coarse, exact), "{coarse} below {exact:?}: {draws:?} > {threshold} within {support}");
        rounded.set(rounded.get() + u32::from(coarse > convolved));
    });
    assert!(!counts_are_standard() || rounded.get() > 0, "nothing was ever rounded up");
}

/// A job on the lane: its execution times are chosen later.
#[derive(Clone, Copy, Debug)]
struct Job {
    task: usize,
    arrival: u64,
    release: u64,
}

/// Whether each job was late, and whether an earlier deadline of the lane had been missed when it was released.
fn run(problem: &LaneProblem, jobs: &[Job], times: &[Vec<u64>], drop: bool) -> Vec<(bool, bool)> {
    let deadline = |job: &Job| job.arrival + problem.tasks[job.task].deadline.get();
    let mut done = vec![0usize; jobs.len()];
    let mut ends: Vec<Option<u64>> = vec![None; jobs.len()];
    let mut now = 0;
    loop {
        let open = |index: &usize| {
            let (index, job) = (*index, &jobs[*index]);
            let first = !jobs[..index].iter().enumerate().any(|(earlier, other)| {
                let gone = drop && deadline(other) <= now;
                other.task == job.task && ends[earlier].is_none() && !gone
            });
            ends[index].is_none() && first && !(drop && deadline(job) <= now)
        };
        let waiting: Vec<usize> = (0..jobs.len()).filter(open).collect();
        let ready = waiting.iter().copied().filter(|&index| jobs[index].release <= now);
        let key = |&index: &usize| match problem.class {
            PolicyClass::StaticPriority => problem.tasks[jobs[index].task].key,
            PolicyClass::AbsoluteDeadline => jobs[index].arrival + problem.tasks[jobs[index].task].key,
            PolicyClass::ArrivalOrder => jobs[index].release,
            _ => (now * 31 + index as u64 * 17) % 7,
        };
        if let Some(next) = ready.min_by_key(|index| (key(index), *index)) {
            now += times[next][done[next]];
            done[next] += 1;
            ends[next] = (done[next] == times[next].len()).then_some(now);
        } else if let Some(release) =
            waiting.iter().map(|&index| jobs[index].release).filter(|&r| r > now).min()
        {
            now = release;
        } else {
            break;
        }
    }
    let late: Vec<bool> =
        jobs.iter().zip(&ends).map(|(job, end)| end.is_none_or(|end| end > deadline(job))).collect();
    let earlier =
        |job: &Job| jobs.iter().zip(&late).any(|(other, &late)| late && deadline(other) <= job.release);
    jobs.iter().zip(&late).map(|(job, &late)| (late, earlier(job))).collect()
}

fn lane(rng: &mut Rng, class: PolicyClass) -> (LaneProblem, Vec<TaskLaws>) {
    let (mut tasks, mut laws) = (Vec::new(), Vec::new());
    for id in 0..u16::try_from(rng.range(1, 3)).expect("few") {
        let (period, segments) = (rng.range(8, 24), if rng.one_in(4) { 2 } else { 1 });
        let deadline = rng.range(period / 2 + 2, period + period / 3);
        let key = match class {
            PolicyClass::AbsoluteDeadline => deadline,
            _ => rng.range(0, 2),
        };
        tasks.push(LaneTask {
            id: TaskId::new(id),
            segments: vec![Nanos::new(1); segments],
            period: Nanos::new(period),
            deadline: Nanos::new(deadline),
            jitter: Nanos::new(if rng.one_in(2) { rng.range(0, 2) } else { 0 }),
            key,
        });
        let law = |rng: &mut Rng| {
            let (usual, rare) = (rng.range(1, 2), rng.range(3, 9));
            law(&[(usual, rng.range(5, 30)), (rare, 1)])
        };
        laws.push(TaskLaws { segments: (0..segments).map(|_| law(rng)).collect() });
    }
    let lane = LaneId::new(0);
    (LaneProblem { lane, tasks, class, blocking: Blocking::Attained, overrun: Nanos::ZERO }, laws)
}

/// Jobs of every task as the contracts allow, few enough that all their execution times can be combined.
fn jobs(rng: &mut Rng, problem: &LaneProblem, laws: &[TaskLaws]) -> Vec<Job> {
    let mut jobs = Vec::new();
    let dense = rng.one_in(2);
    for (task, contract) in problem.tasks.iter().enumerate() {
        let mut arrival = if dense { rng.range(0, 3) } else { rng.range(0, 30) };
        let mut release = 0;
        while arrival < 60 {
            release = release.max(arrival + rng.range(0, contract.jitter.get()));
            jobs.push(Job { task, arrival, release });
            arrival += contract.period.get() + if rng.one_in(3) { rng.range(0, 9) } else { 0 };
        }
    }
    jobs.sort_by_key(|job| job.arrival);
    let mut segments = 0;
    jobs.into_iter()
        .take_while(|job| {
            segments += laws[job.task].segments.len();
            segments <= 9
        })
        .collect()
}

/// The weight of each outcome over all combinations of execution times: late, and late as the first.
fn outcomes(problem: &LaneProblem, laws: &[TaskLaws], jobs: &[Job], drop: bool) -> (Vec<[u128; 2]>, u128) {
    let draws: Vec<(usize, &Law)> = jobs
        .iter()
        .enumerate()
        .flat_map(|(index, job)| laws[job.task].segments.iter().map(move |law| (index, law)))
        .collect();
    let whole = draws.iter().map(|(_, law)| u128::from(law.total())).product();
    let mut counts = vec![[0u128; 2]; jobs.len()];
    for choice in 0..1usize << draws.len() {
        let (mut weight, mut times) = (1u128, vec![Vec::new(); jobs.len()]);
        for (bit, (index, law)) in draws.iter().enumerate() {
            let (value, more) = law.atoms()[choice >> bit & 1];
            weight *= u128::from(more);
            times[*index].push(value.get());
        }
        for (count, (late, earlier)) in counts.iter_mut().zip(run(problem, jobs, &times, drop)) {
            count[0] += if late { weight } else { 0 };
            count[1] += if late && !earlier { weight } else { 0 };
        }
    }
    (counts, whole)
}

/// The rule that a synchronous release is the worst case, for tasks of one segment under static priorities.
fn synchronous(problem: &LaneProblem, laws: &[TaskLaws], position: usize) -> f64 {
    let me = &problem.tasks[position];
    let urgent = |task: &LaneTask| task.id != me.id && task.key <= me.key;
    let blockers = problem.tasks.iter().zip(laws).filter(|(task, _)| task.key > me.key);
    let blocking = blockers.map(|(_, laws)| laws.segments[0].max().get()).max().unwrap_or(0);
    let late = |length: u64| {
        let window = me.deadline.get().checked_sub(me.jitter.get() + length)?;
        let jobs = |task: &LaneTask| (window + task.jitter.get()) / task.period.get() + 1;
        let draws: Vec<(&Law, u64)> = problem
            .tasks
            .iter()
            .zip(laws)
            .filter(|(task, _)| urgent(task))
            .map(|(task, laws)| (&laws.segments[0], jobs(task)))
            .collect();
        convolution::exceedance(&draws, Nanos::new(window.checked_sub(blocking)?)).ok()
    };
    let law = &laws[position].segments[0];
    let mass = |weight: u64| weight as f64 / law.total() as f64;
    law.atoms().iter().map(|(value, weight)| mass(*weight) * late(value.get()).unwrap_or(1.0)).sum()
}

/// The control takes the synchronous release for the worst case.
#[test]
fn failures_are_never_more_likely_than_bounded() {
    let classes = [
        PolicyClass::StaticPriority,
        PolicyClass::AbsoluteDeadline,
        PolicyClass::ArrivalOrder,
        PolicyClass::WorkConserving,
    ];
    let (telling, late, caught) = (Cell::new([0u32; 4]), Cell::new(0u32), Cell::new(0u32));
    for_seeds("failures_are_never_more_likely_than_bounded", 600, |rng| {
        let class = rng.index(classes.len());
        let (problem, laws) = lane(rng, classes[class]);
        let whole_jobs = class == 0 && laws.iter().all(|laws| laws.segments.len() == 1);
        let bounds = |late_jobs, method| -> Vec<f64> {
            let bound = |position| failure(&problem, &laws, position, late_jobs, method).expect("in range");
            (0..laws.len()).map(|position| FailureBound::probability(bound(position))).collect()
        };
        for late_jobs in [LateJobs::Dropped, LateJobs::First] {
            let [quick, slow] =
                [Method::Chernoff, Method::Convolution].map(|method| bounds(late_jobs, method));
            for _ in 0..3 {
                let jobs = jobs(rng, &problem, &laws);
                let (counts, whole) = outcomes(&problem, &laws, &jobs, late_jobs == LateJobs::Dropped);
                for (job, count) in jobs.iter().zip(counts) {
                    let count = count[usize::from(late_jobs == LateJobs::First)];
                    for bound in [quick[job.task], slow[job.task]] {
                        let text = || format!("{late_jobs:?} {job:?} of {jobs:?} {problem:?} {laws:?}");
                        assert!(covers(bound, (count, whole)), "{bound} < {count}/{whole}: {}", text());
                        let mut told = telling.get();
                        told[class] += u32::from(bound < 0.5);
                        telling.set(told);
                    }
                    late.set(late.get() + u32::from(count > 0));
                    let naive = || synchronous(&problem, &laws, job.task) * (1.0 + 1e-9);
                    caught.set(caught.get() + u32::from(whole_jobs && !covers(naive(), (count, whole))));
                }
            }
        }
    });
    if counts_are_standard() {
        let (telling, late, caught) = (telling.get(), late.get(), caught.get());
        assert!(telling.iter().all(|&told| told > 100) && late > 100, "{telling:?} told, {late} late");
        assert!(caught > 0, "the synchronous release was never exceeded");
    }
}

#[test]
fn hostile_laws_are_errors() {
    let span = Nanos::new;
    assert_eq!(Law::new(Vec::new()), Err(LawError::Empty));
    assert_eq!(Law::new(vec![(span(1), 0)]), Err(LawError::Empty));
    let heavy = vec![(span(1), u64::MAX), (span(2), 1)];
    assert_eq!(Law::new(heavy), Err(LawError::Weights { max: Law::WEIGHT_MAX }));
    let twice = Law::new(vec![(span(4), 1), (span(1), 2), (span(4), 3)]).expect("a law");
    assert_eq!((twice.atoms(), twice.total()), (&[(span(1), 2), (span(4), 4)][..], 6));

    let long = Law::constant(Nanos::MAX);
    assert_eq!(chernoff::exceedance(&[(&long, 2)], span(1)), Err(LawError::Range));
    assert_eq!(convolution::exceedance(&[(&long, 2)], Nanos::MAX), Ok(1.0));
    assert!(matches!(convolution::exceedance(&[(&long, u64::MAX)], span(1)), Err(LawError::TooMany { .. })));
    assert_eq!(chernoff::exceedance(&[(&long, 1)], Nanos::MAX), Ok(0.0));

    let (problem, laws) = lane(&mut Rng::new(1), PolicyClass::StaticPriority);
    let ask = |laws: &[TaskLaws], position| {
        failure(&problem, laws, position, LateJobs::First, Method::Chernoff).map(FailureBound::probability)
    };
    assert!(matches!(ask(&[], 0), Err(LawError::Count { found: 0, .. })));
    assert!(matches!(ask(&laws, 99), Err(LawError::Position { position: 99, .. })));
    let mut short = laws.clone();
    short[0].segments.clear();
    assert!(matches!(ask(&short, 0), Err(LawError::Count { found: 0, .. })));

    let mut hostile = problem.clone();
    let ask = |problem: &LaneProblem| {
        failure(problem, &laws, 0, LateJobs::First, Method::Convolution).map(FailureBound::probability)
    };
    hostile.tasks[0].deadline = Nanos::ZERO;
    assert_eq!(ask(&hostile), Ok(1.0));
    for task in &mut hostile.tasks {
        (task.deadline, task.period) = (Nanos::MAX, span(1));
    }
    assert!(matches!(ask(&hostile), Err(LawError::Range | LawError::TooMany { .. })));
    hostile.tasks[0].period = Nanos::ZERO;
    assert_eq!(ask(&hostile), Err(LawError::Period { task: TaskId::new(0) }));
}
