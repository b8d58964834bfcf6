//! Checks the states of a lane that stays free although a job is ready, by the rule of its policy.
//!
//! The states are replayed one step each, as for any set of jobs ([`super::sag`]); here stands what can be next where the
//! first job in turn may wait, and that the states of one hyperperiod stand for all that follow. What the rule says is the
//! policy's own definition ([`crate::policy::free_by`]), and the jobs are the tasks' ([`crate::sag::periodic`]).

use aegis_types::{JobId, Nanos, TaskId};

use super::sag::{CoverObjection, by_set, contained, has, replay};
use super::{Objection, check_deadlines, check_form};
use crate::analysis::claim::Claim;
use crate::analysis::problem::LaneProblem;
use crate::policy::{Awaited, free_by};
use crate::sag::concrete::{PeriodicCover, order, tasks_of};
use crate::sag::job::{Job, JobSet};
use crate::sag::periodic::jobs_of;
use crate::sag::report::IdleRule;

/// The rule, and how far the jobs of a set tell what it looks at.
pub(super) struct Keeps {
    rule: IdleRule,
    /// The smallest number of a task.
    first: u64,
    /// When the last task has its first arrival.
    offset: u64,
    /// How long any task goes without a release at most from there on.
    quiet: u64,
    /// Jobs that arrive from here on are not known.
    before: u64,
}

/// Checks that the states contain every schedule of the lane, and that the bounds of the claim hold in all of them.
pub(super) fn check(
    problem: &LaneProblem,
    offsets: &[Nanos],
    claim: &Claim,
    evidence: Option<&PeriodicCover>,
) -> Result<(), Objection> {
    check_deadlines(problem, claim)?;
    check_form(problem, claim)?;
    let lane = problem.lane;
    let (Some(rule), true) = (problem.class.inserts(), claim.overrun.is_zero()) else {
        return Err(Objection::Inserts { lane });
    };
    let Some(evidence) = evidence else {
        return if problem.tasks.is_empty() { Ok(()) } else { Err(Objection::Inserts { lane }) };
    };
    let tasks = tasks_of(problem, offsets).ok_or(Objection::Inserts { lane })?;
    let jobs = jobs_of(&tasks, order(rule), evidence.before).map_err(|_| Objection::Range)?;
    let set = JobSet::new(jobs, &[]).map_err(|_| Objection::Range)?;
    let quiet =
        tasks.iter().map(|task| task.period.saturating_add(task.jitter).get()).max().unwrap_or(u64::MAX);
    let first = tasks.iter().map(|task| task.priority).min().unwrap_or(0);
    let offset = offsets.iter().max().map_or(0, |offset| offset.get());
    let keeps = Keeps { rule, first, offset, quiet, before: evidence.before.get() };
    let objects = |objection| Objection::Cover { lane, objection };
    let covered = replay(&set, &evidence.cover, Some(&keeps)).map_err(objects)?;
    let periods: Vec<u64> = tasks.iter().map(|task| task.period.get()).collect();
    repeats(set.jobs(), evidence, offset, &periods).ok_or(objects(CoverObjection::Repeat))?;
    for (job, completion) in set.jobs().iter().zip(covered.completions()) {
        let place = problem.tasks.iter().position(|task| u64::from(task.id.get()) == job.key.task);
        let claimed = &claim.tasks[place.ok_or(Objection::WrongTasks)?];
        if completion.since(job.release_min) > claimed.bound {
            let arrival = i64::try_from(job.release_min.get()).unwrap_or(i64::MAX);
            return Err(Objection::Bound { task: claimed.task, claimed: claimed.bound, arrival });
        }
    }
    Ok(())
}

/// The last level, moved back by a hyperperiod, lies within an earlier one: what follows has been replayed already.
fn repeats(jobs: &[Job], evidence: &PeriodicCover, offset: u64, periods: &[u64]) -> Option<()> {
    let (last, levels) = evidence.cover.levels.split_last()?;
    let earlier = by_set(levels.get(evidence.level)?);
    let cycle = levels.len() - evidence.level;
    let prefix = jobs.iter().take_while(|job| job.release_min.get() < offset).count();
    let hyperperiod = jobs.get(prefix + cycle)?.release_min.since(jobs[prefix].release_min).get();
    let whole = periods.iter().all(|period| hyperperiod.is_multiple_of(*period));
    let made: u64 = periods.iter().map(|period| hyperperiod / period).sum();
    let within = |state: &crate::sag::CoverState| {
        // Nothing is dispatched from the last states, so that their sets have not been looked at.
        if state.dispatched.len() != jobs.len().div_ceil(64) {
            return false;
        }
        let mut moved = vec![0u64; state.dispatched.len()];
        for job in 0..jobs.len() {
            let there = if job < prefix { job } else { job + cycle };
            moved[job / 64] |= u64::from(there < jobs.len() && has(&state.dispatched, there)) << (job % 64);
        }
        let begun = (0..prefix + cycle).all(|job| has(&state.dispatched, job));
        let back = |instant: u64| instant.checked_sub(hyperperiod);
        let (Some(min), Some(max)) = (back(state.free_min.get()), back(state.free_max.get())) else {
            return false;
        };
        begun && contained(&earlier, &moved, (min, max))
    };
    (whole && made == cycle as u64 && last.iter().all(within)).then_some(())
}

/// A job and when it starts.
type Start = (usize, (u64, u64));

impl Keeps {
    /// Who can start when in a state. Time is cut where anything changes. In a piece any job can stand first that is
    /// possibly released while none before it is for certain. Once the core is free for certain, time passes by only as
    /// long as one of these may have to wait, or nothing is released for certain.
    pub(super) fn starts(
        &self,
        jobs: &[Job],
        set: &[u64],
        (free_min, free_max): (u64, u64),
        steps: &mut u64,
    ) -> Result<Vec<Start>, CoverObjection> {
        let missing = (0..jobs.len()).find(|&job| !has(set, job)).unwrap_or(jobs.len());
        let (mut found, mut at) = (Vec::<Start>::new(), free_min);
        loop {
            // Until then the next job of every task arrives.
            let near = at.max(self.offset).saturating_add(self.quiet);
            let is_near = |&job: &usize| jobs[job].release_min.get() <= near;
            let left: Vec<usize> =
                (missing..jobs.len()).take_while(is_near).filter(|&job| !has(set, job)).collect();
            *steps =
                steps.checked_sub((left.len() * left.len()) as u64 + 1).ok_or(CoverObjection::TooLong)?;
            if near >= self.before {
                return Err(CoverObjection::Short);
            }
            let window = |job: usize| (jobs[job].release_min.get(), jobs[job].release_max.get());
            let rank = |job: usize| (jobs[job].priority, jobs[job].key);
            let certain = left.iter().filter(|&&job| window(job).1 <= at).map(|&job| rank(job)).min();
            let first =
                |job: usize| window(job).0 <= at && certain.is_none_or(|certain| rank(job) <= certain);
            let releases = left.iter().flat_map(|&job| [window(job).0, window(job).1]);
            let mut cuts: Vec<u64> = releases.chain([free_max, free_max.saturating_add(1)]).collect();
            let (mut heads, mut waits) = (Vec::new(), certain.is_none());
            for job in left.iter().copied().filter(|&job| first(job)) {
                let ends = [false, true].map(|hoped| self.latest(jobs, &left, job, (at, hoped)));
                cuts.extend(ends.iter().flatten().map(|end| end.saturating_add(1)));
                let [must, may] = ends.map(|end| end.is_some_and(|end| at <= end));
                waits |= !must;
                heads.extend(may.then_some(job));
            }
            let ends = at >= free_max && !waits;
            let until = cuts.into_iter().filter(|&cut| cut > at).min().unwrap_or(u64::MAX);
            for job in heads {
                let last = if ends { at } else { until - 1 };
                match found.iter_mut().find(|(known, (_, before))| *known == job && *before + 1 >= at) {
                    Some((_, (_, before))) => *before = last,
                    None => found.push((job, (at, last))),
                }
            }
            if ends {
                return Ok(found);
            }
            at = until;
        }
    }

    /// The last instant at which a job may start by what is awaited at an instant: what is not released for certain, or,
    /// if `hoped`, what cannot be released yet while the job is first in turn. `None` where there is no such instant.
    fn latest(&self, jobs: &[Job], left: &[usize], own: usize, (at, hoped): (u64, bool)) -> Option<u64> {
        let (own, precautious) = (&jobs[own], self.rule == IdleRule::PrecautiousRm);
        let mut next: Vec<Awaited> = Vec::new();
        for job in left.iter().map(|&job| &jobs[job]) {
            // What would go first is not released while the job is first.
            let after = (job.priority, job.key) > (own.priority, own.key);
            let by = if hoped && after { job.release_min } else { job.release_max };
            let looked = if precautious { job.priority == self.first } else { job.key.task != own.key.task };
            let id = JobId::new(TaskId::new(u16::try_from(job.key.task).ok()?), job.key.job);
            if looked && by.get() > at && next.iter().all(|known| known.job.task != id.task) {
                let (deadline, arrival) = (job.deadline, job.release_max);
                next.push(Awaited { deadline, cost: job.cost_max, job: id, arrival });
            }
        }
        if precautious {
            next.sort_by_key(|job| job.arrival);
            next.truncate(usize::from(own.priority != self.first));
        }
        match free_by(&mut next) {
            None => Some(u64::MAX),
            Some((by, _)) => u64::try_from(by - i128::from(own.cost_max.get())).ok(),
        }
    }
}
