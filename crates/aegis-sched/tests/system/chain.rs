//! Chains against published values, and against lanes on which every chain is followed by hand.

use std::cell::Cell;

use aegis_sched::admission::Depth;
use aegis_sched::chain::{Chain, ChainBounds, ChainError, Hop, Link, LogicalTask, Step, logical_bounds};
use aegis_sched::policy::RateMonotonic;
use aegis_sched::{AdmissionController, AdmissionRequest, Arrival};
use aegis_types::{Nanos, TaskId};
use serde_json::Value;

use crate::fleet;
use crate::seeds::{Rng, counts_are_standard, for_seeds, vectors};

fn field(value: &Value, name: &str) -> u64 {
    value[name].as_u64().unwrap_or_else(|| panic!("{name} of {value}"))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().unwrap_or_else(|| panic!("{name} of {value}"))
}

#[test]
fn sporadic_chains_equal_the_published_bounds() {
    let Some(file) = vectors("analysis/chains/sporadic_chains.json") else { return };
    let cases = list(&file, "cases");
    assert!(!cases.is_empty());
    for case in cases {
        let tasks = list(case, "tasks");
        let hops: Vec<Hop> = tasks
            .iter()
            .zip(0u16..)
            .map(|(task, id)| Hop {
                task: TaskId::new(id),
                gap: Nanos::new(field(task, "Tmax")),
                response: Nanos::new(field(task, "R")),
            })
            .collect();
        let same = list(case, "link_same_ecu").iter().map(|same| same.as_bool().expect("a truth value"));
        let links = same.zip(tasks.windows(2)).map(|(same, pair)| {
            let consumer_first = field(&pair[1], "prio") < field(&pair[0], "prio");
            if consumer_first || !same { Link::Racing } else { Link::Settled }
        });
        let chain = Chain::with_links(hops.clone(), links.collect()).expect("a chain");
        let bounds = chain.bounds().expect("in range");
        assert_eq!(bounds.reaction.get(), field(case, "duerr19_max_reaction_time_thm5_4"), "{case}");
        assert_eq!(bounds.age.get(), field(case, "duerr19_max_reduced_data_age_thm5_10"), "{case}");
        let racing = Chain::new(hops).expect("a chain");
        assert_eq!(racing.davare().expect("in range").get(), field(case, "davare07"), "{case}");
        assert_eq!(racing.bounds().expect("in range").reaction, racing.davare().expect("in range"));
    }
}

#[test]
fn logical_chains_equal_the_enumerated_ones() {
    let Some(file) = vectors("analysis/chains/let_chains.json") else { return };
    let cases = file.as_array().expect("a list");
    assert!(!cases.is_empty());
    for case in cases {
        let tasks = list(case, "tasks").iter().map(|task| LogicalTask {
            phase: Nanos::new(field(task, "phase")),
            period: Nanos::new(field(task, "T")),
            deadline: Nanos::new(field(task, "D")),
        });
        let bounds = logical_bounds(&tasks.collect::<Vec<_>>()).expect("in range");
        assert_eq!(bounds.reaction.get(), field(case, "let_max_reaction_time"), "{case}");
        assert_eq!(bounds.held_age, bounds.reaction, "{case}");
    }
}

/// One job of a chain's task: when it reads and when it writes.
#[derive(Clone, Copy, Debug)]
struct Job {
    read: u64,
    write: u64,
}

/// The longest reaction, age and held age among the complete chains of a run, from `from` on: by following every
/// chain.
fn followed(tasks: &[Vec<Job>], from: u64) -> ChainBounds {
    let (mut reaction, mut age, mut held) = (0, 0, 0);
    for pair in tasks[0].windows(2).filter(|pair| pair[0].read >= from) {
        let answer = tasks[1..].iter().try_fold(pair[1].write, |write, jobs| {
            jobs.iter().find(|job| job.read >= write).map(|job| job.write)
        });
        reaction = reaction.max(answer.map_or(0, |answer| answer - pair[0].read));
    }
    let last = &tasks[tasks.len() - 1];
    for (index, end) in last.iter().enumerate().filter(|(_, job)| job.read >= from) {
        let origin = tasks[..tasks.len() - 1].iter().rev().try_fold(end.read, |read, jobs| {
            jobs.iter().rev().find(|job| job.write <= read).map(|job| job.read)
        });
        let Some(origin) = origin else { continue };
        age = age.max(end.write - origin);
        held = held.max(last.get(index + 1).map_or(0, |next| next.write - origin));
    }
    let [reaction, age, held_age] = [reaction, age, held].map(Nanos::new);
    ChainBounds { reaction, age, held_age }
}

#[test]
fn logical_chains_equal_a_long_run() {
    for_seeds("logical_chains_equal_a_long_run", 400, |rng| {
        let tasks: Vec<LogicalTask> = (0..rng.range(1, 4))
            .map(|_| {
                let period = rng.range(1, 9);
                let (phase, deadline) = (rng.range(0, 12), rng.range(1, period + 3));
                let [phase, period, deadline] = [phase, period, deadline].map(Nanos::new);
                LogicalTask { phase, period, deadline }
            })
            .collect();
        // Two hyperperiods of at most 2,520 after everything has started.
        let runs = tasks.iter().map(|task| {
            let (mut read, period) = (task.phase.get(), task.period.get());
            let mut jobs = Vec::new();
            while read < 6_000 {
                jobs.push(Job { read, write: read + task.deadline.get() });
                read += period;
            }
            jobs
        });
        let seen = followed(&runs.collect::<Vec<_>>(), 200);
        assert_eq!(logical_bounds(&tasks), Ok(seen), "{tasks:?}");
    });
}

/// A job on a lane.
struct Pending {
    task: usize,
    arrival: u64,
    release: u64,
    cost: u64,
}

/// A random system of two lanes, run once: jobs by task, with the largest gap and response that occurred.
struct Run {
    jobs: Vec<Vec<Job>>,
    gaps: Vec<u64>,
    responses: Vec<u64>,
    lanes: Vec<usize>,
    skips: Vec<u64>,
}

/// Non-preemptive static priorities, the lower number first, on each of two lanes; some jobs deliver nothing.
fn run(rng: &mut Rng, jitter_max: u64) -> Run {
    let count = rng.index(4) + 1;
    let lanes: Vec<usize> = (0..count).map(|_| rng.index(2)).collect();
    let periods: Vec<u64> = (0..count).map(|_| rng.range(4, 20)).collect();
    let mut gaps = vec![1; count];
    let mut queue: Vec<Vec<Pending>> = vec![Vec::new(), Vec::new()];
    for task in 0..count {
        let jitter = rng.range(0, jitter_max);
        let (mut arrival, mut release) = (rng.range(0, 10), 0);
        while arrival < 300 {
            release = release.max(arrival + rng.range(0, jitter));
            let cost = rng.range(1, periods[task] / 3 + 2);
            queue[lanes[task]].push(Pending { task, arrival, release, cost });
            let gap = periods[task] + if rng.one_in(3) { rng.range(0, periods[task]) } else { 0 };
            gaps[task] = gaps[task].max(gap);
            arrival += gap;
        }
    }
    let skips: Vec<u64> = (0..count).map(|_| rng.range(0, 2)).collect();
    let mut skipped = vec![0; count];
    let (mut jobs, mut responses) = (vec![Vec::new(); count], vec![1; count]);
    for mut pending in queue {
        let mut now = 0;
        while !pending.is_empty() {
            let ready = pending.iter().enumerate().filter(|(_, job)| job.release <= now);
            let Some((next, _)) = ready.min_by_key(|(_, job)| (job.task, job.arrival)) else {
                now = pending.iter().map(|job| job.release).min().unwrap_or(now);
                continue;
            };
            let Pending { task, arrival, cost, .. } = pending.remove(next);
            let read = now;
            now += cost;
            responses[task] = responses[task].max(now - arrival);
            if skipped[task] < skips[task] && rng.one_in(4) {
                skipped[task] += 1;
            } else {
                skipped[task] = 0;
                jobs[task].push(Job { read, write: now });
            }
        }
    }
    Run { jobs, gaps, responses, lanes, skips }
}

impl Run {
    fn hops(&self) -> Vec<Hop> {
        let numbers = (0u16..).zip(self.gaps.iter().zip(&self.skips).zip(&self.responses));
        let hop = |(id, ((&gap, &skips), &response))| Hop {
            task: TaskId::new(id),
            gap: Nanos::new(gap * (skips + 1)),
            response: Nanos::new(response),
        };
        numbers.map(hop).collect()
    }
}

/// A chain through the tasks of a run, in a rotation of their priorities: what was seen, the bounds for the gaps and
/// responses that occurred, and the same bounds with links on one lane to a less urgent consumer settled.
fn follow(rng: &mut Rng, jitter_max: u64) -> [ChainBounds; 3] {
    let run = run(rng, jitter_max);
    let turn = rng.index(run.jobs.len());
    let (mut hops, mut jobs) = (run.hops(), run.jobs.clone());
    hops.rotate_left(turn);
    jobs.rotate_left(turn);
    let link = |pair: &[Hop]| {
        let [from, to] = [pair[0].task.index(), pair[1].task.index()];
        let settled = run.lanes[from] == run.lanes[to] && from < to;
        if settled { Link::Settled } else { Link::Racing }
    };
    let links = hops.windows(2).map(link).collect();
    let racing = Chain::new(hops.clone()).expect("a chain").bounds().expect("in range");
    let settled = Chain::with_links(hops, links).expect("a chain").bounds().expect("in range");
    [followed(&jobs, 0), racing, settled]
}

fn within(seen: ChainBounds, bounds: ChainBounds) -> bool {
    seen.reaction <= bounds.reaction && seen.age <= bounds.age && seen.held_age <= bounds.held_age
}

#[test]
fn no_chain_on_lanes_exceeds_its_bounds() {
    let near = Cell::new(0u32);
    for_seeds("no_chain_on_lanes_exceeds_its_bounds", 6_000, |rng| {
        let [seen, bounds, _] = follow(rng, 12);
        assert!(within(seen, bounds), "{seen:?} exceeds {bounds:?}");
        near.set(near.get() + u32::from(seen.reaction.get() * 10 >= bounds.reaction.get() * 9));
    });
    assert!(!counts_are_standard() || near.get() > 0, "no reaction came within a tenth of its bound");
}

/// Without jitter a less urgent consumer on the same lane never overtakes, preemptive or not.
#[test]
fn settled_links_hold_without_jitter() {
    for_seeds("settled_links_hold_without_jitter", 6_000, |rng| {
        let [seen, _, bounds] = follow(rng, 0);
        assert!(within(seen, bounds), "{seen:?} exceeds {bounds:?}");
    });
}

/// The producer arrives at 10 but is released at 18; its less urgent consumer starts in between, on the same lane.
#[test]
fn settled_links_are_exceeded_with_jitter() {
    let job = |read, write| Job { read, write };
    let jobs = [vec![job(0, 1), job(18, 19), job(20, 21)], vec![job(17, 18), job(34, 35)]];
    let hop = |task, gap, response| Hop {
        task: TaskId::new(task),
        gap: Nanos::new(gap),
        response: Nanos::new(response),
    };
    let hops = vec![hop(0, 10, 9), hop(1, 17, 1)];
    let seen = followed(&jobs, 0);
    let bounds = |links| Chain::with_links(hops.clone(), links).expect("a chain").bounds().expect("in range");
    assert_eq!(seen.reaction, Nanos::new(35));
    assert_eq!(bounds(vec![Link::Racing]).reaction, Nanos::new(37));
    assert_eq!(bounds(vec![Link::Settled]).reaction, Nanos::new(28));
}

#[test]
fn certified_chains_need_a_largest_gap() {
    let mut tasks = fleet::tasks(&[(10, 100, 0), (20, 200, 1)]);
    tasks[0].arrival = Arrival::Sporadic;
    let set = fleet::set(tasks, 2);
    let controller = AdmissionController::new(Box::new(RateMonotonic));
    let request = AdmissionRequest { set: &set, epoch: 1, depth: Depth::TIGHT };
    let report = controller.analyze(&request);
    let certificate = report.certificate().expect("a light set");
    let step =
        |task, gap: Option<u64>, skips| Step { task: TaskId::new(task), gap: gap.map(Nanos::new), skips };
    let chain = |steps: &[Step]| Chain::certified(&set, certificate, steps);

    let (task, period) = (TaskId::new(0), Nanos::new(100));
    assert_eq!(chain(&[step(0, None, 0)]), Err(ChainError::NoGap { task, period }));
    let gap = Nanos::new(99);
    assert_eq!(chain(&[step(0, Some(99), 0)]), Err(ChainError::Gap { task, gap, period }));
    assert_eq!(chain(&[step(9, None, 0)]), Err(ChainError::Unknown { task: TaskId::new(9) }));
    assert_eq!(chain(&[]), Err(ChainError::Empty));
    assert_eq!(chain(&[step(0, Some(u64::MAX), 1)]), Err(ChainError::Range));

    let bounds = chain(&[step(0, Some(150), 0), step(1, None, 1)]).expect("a chain").bounds();
    let [reaction, age, held_age] = [150 + 10 + 400 + 20, 20 + 150 + 10, 20 + 150 + 10 + 400].map(Nanos::new);
    assert_eq!(bounds, Ok(ChainBounds { reaction, age, held_age }));
}

#[test]
fn hostile_chains_are_errors() {
    let logical = |phase, period, deadline| {
        let [phase, period, deadline] = [phase, period, deadline].map(Nanos::new);
        LogicalTask { phase, period, deadline }
    };
    assert_eq!(logical_bounds(&[]), Err(ChainError::Empty));
    let zero = |field| Err(ChainError::Zero { position: 1, field });
    assert_eq!(logical_bounds(&[logical(0, 5, 5), logical(0, 0, 5)]), zero("period"));
    assert_eq!(logical_bounds(&[logical(0, 5, 5), logical(0, 5, 0)]), zero("deadline"));
    let primes = [logical(0, u64::MAX, 1), logical(0, u64::MAX - 1, 1)];
    assert!(matches!(logical_bounds(&primes), Err(ChainError::TooLong { jobs: u64::MAX, .. })));
    assert!(matches!(
        logical_bounds(&[logical(0, 1, 1), logical(0, 1 << 40, 1)]),
        Err(ChainError::TooLong { .. })
    ));
    assert_eq!(logical_bounds(&[logical(u64::MAX, u64::MAX, u64::MAX)]), Err(ChainError::Range));

    let hop = Hop { task: TaskId::new(0), gap: Nanos::MAX, response: Nanos::MAX };
    assert_eq!(Chain::new(vec![hop]).expect("a chain").bounds(), Err(ChainError::Range));
    let links = vec![Link::Racing; 2];
    assert_eq!(Chain::with_links(vec![hop], links), Err(ChainError::Links { links: 2, hops: 1 }));
}
