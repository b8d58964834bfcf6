//! A witness run by the engine itself, in virtual time.
//!
//! A refused lane has no certificate, and without one there is no engine. What a witness says is about its jobs alone,
//! so they are given to an engine as they are: each job is a task of its own that arrives once, with the job's own
//! segments and jitter, the number that orders it, and a deadline so far away that any schedule keeps it. Those tasks
//! are admitted and refereed like any other. Deadlines do not order jobs where the class does not say so; where it
//! does, all of them are put off by the same span, which leaves the order as it is. Numbers of tasks follow the lane's
//! tasks and the order of their jobs, so that ties are broken as on the lane.

use aegis_types::records::SegmentOutcome;
use aegis_types::{DispatchSeq, LaneId, Nanos, RawRecord, TaskId, Time};

use crate::admission::{AdmissionController, AdmissionRequest};
use crate::analysis::problem::LaneProblem;
use crate::engine::{Engine, Input, Outbox};
use crate::error::ModelError;
use crate::model::{Arrival, Basis, Criticality, OccupancyBudget, OnOverrun, Task, TaskSet};
use crate::platform::{Overheads, PartitionModel, Platform};
use crate::policy::{EarliestDeadline, Fifo, FixedPriority, PolicyClass, SchedulingPolicy};
use crate::witness::{Miss, WitnessJob};

/// What the engine made of the jobs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enacted {
    /// Jobs in the order of their ends.
    pub ends: Vec<EnactedEnd>,
    /// What the engine recorded. Its tasks are the jobs: by the lane's tasks, then in the order given.
    pub records: Vec<RawRecord>,
}

/// The end of a job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnactedEnd {
    /// The task that it is a job of.
    pub task: TaskId,
    /// Its nominal arrival, as the engine has it.
    pub arrival: Time,
    /// When its last segment ended.
    pub end: Time,
}

/// Why the engine was not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnactError {
    /// The order of jobs is the policy's affair.
    #[error(
        "jobs of a {class} policy have no order of their own; legal are classes that order jobs by a number"
    )]
    Free {
        /// The class.
        class: PolicyClass,
    },
    /// A job is not one of the lane's, or is released before it arrives.
    #[error(
        "job {position} of {task}, arriving at {arrival} and released at {release}, is none of the lane; legal are \
         jobs of its tasks, released when they arrive or later"
    )]
    Foreign {
        /// Its position among those given.
        position: usize,
        /// Its task.
        task: TaskId,
        /// Its arrival.
        arrival: Time,
        /// Its release.
        release: Time,
    },
    /// The jobs' spans add up to more than the range of time.
    #[error("the jobs' spans exceed the range of time")]
    Range,
    /// The jobs make no task set.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// Nobody vouches for the jobs as tasks, so that there is no engine for them.
    #[error("{jobs} jobs were not certified as tasks of their own")]
    Uncertified {
        /// How many there are.
        jobs: usize,
    },
}

impl Enacted {
    /// The first job of `task`, or of any, that ended after the deadline that the lane gives it.
    pub fn miss(&self, problem: &LaneProblem, task: Option<TaskId>) -> Option<Miss> {
        self.ends.iter().filter(|end| task.is_none_or(|task| task == end.task)).find_map(|end| {
            let contract = problem.tasks.iter().find(|known| known.id == end.task)?;
            let deadline = end.arrival.saturating_add(contract.deadline);
            let EnactedEnd { task, arrival, end } = *end;
            (end > deadline).then_some(Miss { task, arrival, deadline, end })
        })
    }
}

/// Runs the jobs on the lane, each segment for the span that the job gives it. Jobs of one task come in their order.
///
/// # Errors
/// [`EnactError`]: nothing was run.
pub fn enact(problem: &LaneProblem, jobs: &[WitnessJob]) -> Result<Enacted, EnactError> {
    let policy = policy(problem.class)?;
    let ordered = ordered(problem, jobs)?;
    let platform =
        Platform::new(vec![PartitionModel { name: "lane".into(), lanes: 1 }], Overheads::default())?;
    let patience = patience(problem, jobs).ok_or(EnactError::Range)?;
    let mut keys: Vec<u64> = problem.tasks.iter().map(|task| task.key).collect();
    keys.sort_unstable();
    keys.dedup();
    let task = |(number, &(position, job)): (usize, &(usize, &WitnessJob))| {
        let key = problem.tasks[position].key;
        let rank = keys.partition_point(|&other| other < key);
        single(number, job, Nanos::new(key), rank, (problem.class, patience))
    };
    let tasks: Option<Vec<Task>> = ordered.iter().enumerate().map(task).collect();
    let set = TaskSet::new(tasks.ok_or(EnactError::Range)?, platform)?;
    let report = AdmissionController::new(self::policy(problem.class)?).analyze(&AdmissionRequest::new(&set));
    let certificate = report.certificate().ok_or(EnactError::Uncertified { jobs: jobs.len() })?;
    let engine = Engine::new(&set, certificate.clone(), policy, Time::ZERO)?;
    let out = engine.outbox();
    let enacted = Enacted { ends: Vec::with_capacity(jobs.len()), records: Vec::new() };
    let mut run = Run { engine, out, jobs: &ordered, problem, flight: None, enacted };
    run.through();
    Ok(run.enacted)
}

/// A policy of the class whose numbers can be given.
fn policy(class: PolicyClass) -> Result<Box<dyn SchedulingPolicy>, EnactError> {
    match class {
        PolicyClass::StaticPriority => Ok(Box::new(FixedPriority)),
        PolicyClass::AbsoluteDeadline => Ok(Box::new(EarliestDeadline)),
        PolicyClass::ArrivalOrder => Ok(Box::new(Fifo)),
        PolicyClass::WorkConserving
        | PolicyClass::Fair
        | PolicyClass::Precautious
        | PolicyClass::CriticalWindow => Err(EnactError::Free { class }),
    }
}

/// The jobs by position of their task, in their order; that is the order of the numbers that they get.
fn ordered<'a>(
    problem: &LaneProblem,
    jobs: &'a [WitnessJob],
) -> Result<Vec<(usize, &'a WitnessJob)>, EnactError> {
    let own = |(position, job): (usize, &'a WitnessJob)| {
        let WitnessJob { task, arrival, release, .. } = *job;
        let known = problem.tasks.iter().position(|known| known.id == task);
        known.filter(|_| arrival <= release).map(|known| (known, job)).ok_or(EnactError::Foreign {
            position,
            task,
            arrival,
            release,
        })
    };
    let mut ordered = jobs.iter().enumerate().map(own).collect::<Result<Vec<_>, _>>()?;
    ordered.sort_by_key(|(position, _)| *position);
    Ok(ordered)
}

/// A span within which all the jobs end in any order, four times over, so that even a second job of each would fit.
fn patience(problem: &LaneProblem, jobs: &[WitnessJob]) -> Option<Nanos> {
    let work =
        jobs.iter().flat_map(|job| &job.segments).try_fold(0u64, |sum, it| sum.checked_add(it.get()))?;
    let jitter = jobs.iter().map(|job| job.release.since(job.arrival).get()).max()?;
    let key = match problem.class {
        PolicyClass::AbsoluteDeadline => problem.tasks.iter().map(|task| task.key).max()?,
        _ => 0,
    };
    work.checked_add(jitter)?.checked_add(key)?.checked_add(1)?.checked_mul(4).map(Nanos::new)
}

/// A job as a task that arrives once.
fn single(
    number: usize,
    job: &WitnessJob,
    key: Nanos,
    rank: usize,
    (class, patience): (PolicyClass, Nanos),
) -> Option<Task> {
    let budget = |&bound: &Nanos| OccupancyBudget { bound, basis: Basis::Declared };
    let deadline = match class {
        PolicyClass::AbsoluteDeadline => patience.checked_add(key)?,
        _ => patience,
    };
    Some(Task {
        // Sets have at most 10,000 tasks; what is beyond is refused for its number.
        id: TaskId::new(u16::try_from(number).unwrap_or(u16::MAX)),
        name: format!("job {number}"),
        lane: LaneId::new(0),
        period: patience,
        deadline,
        jitter: job.release.since(job.arrival),
        arrival: Arrival::Sporadic,
        segments: job.segments.iter().map(budget).collect(),
        priority: Some(u32::try_from(rank).unwrap_or(u32::MAX)),
        criticality: Criticality::Medium,
        on_overrun: OnOverrun::Keep,
        retries: 0,
        weight: 1,
        excludes: Vec::new(),
    })
}

/// The one lane in virtual time.
struct Run<'a> {
    engine: Engine,
    out: Outbox,
    jobs: &'a [(usize, &'a WitnessJob)],
    problem: &'a LaneProblem,
    flight: Option<(Time, DispatchSeq)>,
    enacted: Enacted,
}

impl Run<'_> {
    fn through(&mut self) {
        let mut coming: Vec<usize> = (0..self.jobs.len()).collect();
        coming.sort_by_key(|&number| self.jobs[number].1.release);
        let mut coming = coming.into_iter().peekable();
        loop {
            let release = coming.peek().map(|&number| self.jobs[number].1.release);
            let end = self.flight.map(|flight| flight.0);
            let Some(now) = [release, end].into_iter().flatten().min() else { return };
            if let Some((_, dispatch)) = self.flight.take_if(|(end, _)| *end == now) {
                let (lane, outcome) = (LaneId::new(0), SegmentOutcome::Done);
                self.engine.handle(now, Input::Completed { lane, dispatch, outcome }, &mut self.out);
            }
            while let Some(number) = coming.next_if(|&number| self.jobs[number].1.release == now) {
                let task = TaskId::new(u16::try_from(number).unwrap_or(u16::MAX));
                self.engine.handle(now, Input::Arrival { task, token: number as u64 }, &mut self.out);
            }
            self.engine.handle(now, Input::Decide, &mut self.out);
            self.collect(now);
        }
    }

    fn collect(&mut self, now: Time) {
        for record in self.out.records() {
            let sequence = self.enacted.records.len() as u32;
            self.enacted.records.push(record.placed(0, sequence));
        }
        let ends = self.out.ends().iter().map(|end| EnactedEnd {
            task: self.problem.tasks[self.jobs[end.job.task.index()].0].id,
            arrival: end.arrival,
            end: end.ended,
        });
        self.enacted.ends.extend(ends);
        if let Some(command) = self.out.commands().first() {
            let job = self.jobs[command.job.task.index()].1;
            self.flight = Some((now.saturating_add(job.segments[command.segment.index()]), command.dispatch));
        }
        self.out.clear();
    }
}
