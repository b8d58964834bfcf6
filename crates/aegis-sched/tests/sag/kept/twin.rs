//! The engine as the twin of what is explored: run by run it starts and ends what the oracle does.

use std::collections::BTreeMap;

use aegis_sched::engine::LaneKeptFree;
use aegis_sched::policy::by_name;
use aegis_sched::{Certificate, Engine, Input, ReplayEnd, TaskSet, replay};
use aegis_types::records::{AssumptionBroken, SegmentOutcome, Standing};
use aegis_types::{JobId, LaneId, RawRecord, Record, TaskId, Time};

use super::oracle::{Drawn, World};
use super::{RULES, judged, set, tiny};
use crate::generate::{counts_are_standard, for_seeds};

/// The most runs that are made of one set.
const RUNS_MAX: u64 = 400;

/// What a run of the engine left.
pub struct Run {
    /// Start and end of each job that started, by task and number.
    pub ran: BTreeMap<JobId, (u64, u64)>,
    pub records: Vec<RawRecord>,
}

/// Runs the engine with these releases and costs until an instant, as its documentation asks a driver to.
pub fn run(set: &TaskSet, certificate: &Certificate, policy: &str, jobs: &[Drawn], end: u64) -> Run {
    let policy = by_name(policy).expect("listed");
    let mut engine = Engine::new(set, certificate.clone(), policy, Time::ZERO).expect("an engine");
    let (mut out, mut run) = (engine.outbox(), Run { ran: BTreeMap::new(), records: Vec::new() });
    let number = |job: &Drawn| {
        let before =
            jobs.iter().filter(|other| other.task == job.task && other.arrival < job.arrival).count();
        JobId::new(TaskId::new(job.task as u16), before as u64)
    };
    let cost: BTreeMap<JobId, u64> = jobs.iter().map(|job| (number(job), job.cost)).collect();
    let mut flight = None;
    for at in 0..end {
        let now = Time::new(at);
        if let Some((_, dispatch)) = flight.take_if(|(ends, _)| *ends == at) {
            let (lane, outcome) = (LaneId::new(0), SegmentOutcome::Done);
            engine.handle(now, Input::Completed { lane, dispatch, outcome }, &mut out);
        }
        // A timer is handled when the run says that the job is released: a tick before would release it too early.
        if jobs.iter().any(|job| job.release == at) {
            engine.handle(now, Input::Tick, &mut out);
        }
        engine.handle(now, Input::Decide, &mut out);
        for command in out.commands() {
            let ends = at + cost[&command.job];
            run.ran.insert(command.job, (at, ends));
            flight = Some((ends, command.dispatch));
        }
        assert!(
            out.ends().iter().all(|job| job.standing == Standing::Covered && job.response() <= job.bound)
        );
        for record in out.records() {
            let sequence = u32::try_from(run.records.len()).expect("few records");
            run.records.push(record.placed(0, sequence));
        }
        out.clear();
    }
    run
}

/// Releases of different tasks that a tick cannot tell apart: it releases whatever is due.
fn releases_are_told_apart(jobs: &[Drawn]) -> bool {
    let due = |at: u64| jobs.iter().filter(move |job| job.arrival <= at && job.release > at);
    jobs.iter().all(|job| due(job.release).next().is_none())
}

#[test]
fn the_engine_starts_what_the_oracle_starts_when_it_does() {
    let (mut runs, mut kept, mut sets) = (0u64, 0u64, 0u32);
    for_seeds("the_engine_starts_what_the_oracle_starts_when_it_does", 300, |rng| {
        let jitter = rng.chance(5);
        let tasks = tiny(rng, jitter);
        for (name, rule) in RULES {
            let end = World::once(&tasks);
            let world = World { tasks: &tasks, rule, kept: true, end };
            let set = set(&tasks);
            let report = judged(name, &set);
            let Some(certificate) = report.certificate().filter(|_| world.combinations() <= RUNS_MAX) else {
                continue;
            };
            sets += 1;
            world.every(|jobs| {
                if !releases_are_told_apart(jobs) {
                    return;
                }
                let run = run(&set, certificate, name, jobs, end);
                let walked = world.walk(jobs);
                let mut numbers = vec![0; tasks.len()];
                for (job, expected) in jobs.iter().zip(walked) {
                    let id = JobId::new(TaskId::new(job.task as u16), numbers[job.task]);
                    numbers[job.task] += 1;
                    assert_eq!(run.ran.get(&id).copied(), expected, "{name} {id}: {jobs:?} of {tasks:?}");
                }
                assert!(run.records.iter().all(|record| AssumptionBroken::read(record).is_none()));
                runs += 1;
                kept += u64::from(run.records.iter().any(|record| LaneKeptFree::read(record).is_some()));
            });
        }
    });
    println!("{runs} runs of {sets} sets, {kept} with a lane that was kept free");
    if counts_are_standard() {
        assert!(runs > 2_000 && kept > 200, "{runs} {kept}");
    }
}

#[test]
fn a_replay_keeps_the_lane_free_again() {
    let mut told = 0;
    for_seeds("a_replay_keeps_the_lane_free_again", 150, |rng| {
        let tasks = tiny(rng, false);
        let set = set(&tasks);
        for (name, rule) in RULES {
            let report = judged(name, &set);
            let Some(certificate) = report.certificate() else { continue };
            let end = World::once(&tasks);
            let world = World { tasks: &tasks, rule, kept: true, end };
            let run = run(&set, certificate, name, &world.longest(), end);
            let again = |records: &[RawRecord]| {
                replay(records, &set, certificate, by_name(name).expect("listed")).expect("an engine").end
            };
            assert_eq!(again(&run.records), ReplayEnd::Identical);
            let Some(position) = run.records.iter().position(|record| LaneKeptFree::read(record).is_some())
            else {
                continue;
            };
            told += 1;
            let mut forged = run.records.clone();
            forged[position].payload[2] ^= 1 << 40;
            assert!(matches!(again(&forged), ReplayEnd::Diverged { position: at, .. } if at == position));
        }
    });
    assert!(!counts_are_standard() || told > 10, "{told}");
}

/// A runtime that runs jobs in the same order and never waits is found out: it leaves the bounds.
#[test]
fn leaving_the_idle_time_out_breaks_the_bounds() {
    let mut broken = 0;
    for_seeds("leaving_the_idle_time_out_breaks_the_bounds", 300, |rng| {
        let tasks = tiny(rng, false);
        for (name, rule) in RULES {
            let report = judged(name, &set(&tasks));
            if !report.is_admitted() {
                continue;
            }
            let world = World { tasks: &tasks, rule, kept: false, end: World::once(&tasks) };
            let jobs = world.longest();
            let beyond = |(job, ran): (&Drawn, Option<(u64, u64)>)| {
                let bound = report.tasks[job.task].wcrt.expect("it is admitted");
                ran.is_some_and(|(_, end)| end - job.arrival > bound.get())
            };
            broken += u32::from(jobs.iter().zip(world.walk(&jobs)).any(beyond));
        }
    });
    println!("{broken} sets leave their bounds without idle time");
    assert!(!counts_are_standard() || broken > 20, "{broken}");
}
