//! Checks that states contain every schedule of a set of jobs on one core, and that none of them is late.
//!
//! From every state each job that can be next is dispatched once, and the state that this leads to must lie within
//! one that is claimed. By induction over the jobs dispatched no schedule leaves the claim (Nasri, Brandenburg, RTSS
//! 2017, for the rules of one step). What the exploration merged, in which order, and whether it lost something does
//! not matter: a claim that is too small fails, one that is too large merely asks for more.

use std::collections::BTreeMap;

use aegis_types::{Nanos, Time};

use super::concrete::Keeps;
pub use crate::objection::CoverObjection;
use crate::sag::cover::{Cover, CoverState};
use crate::sag::job::{Job, JobSet};

/// Steps that a check may take; one looks at one job in one state.
pub(crate) const STEPS_MAX: u64 = 1 << 32;

/// The proof that every job of a set meets its deadline on one core; only [`check`] makes one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoveredSet {
    completions: Vec<Time>,
    states: usize,
}

impl CoveredSet {
    /// A bound on the completion of each job, in the order of the set.
    pub fn completions(&self) -> &[Time] {
        &self.completions
    }

    /// How many states were replayed.
    pub const fn states(&self) -> usize {
        self.states
    }
}

/// Checks a cover.
///
/// # Errors
/// The first [`CoverObjection`].
pub fn check(set: &JobSet, cover: &Cover) -> Result<CoveredSet, CoverObjection> {
    replay(set, cover, None)
}

/// Checks as many levels as there are; `keeps` is the rule by which the core stays free although a job is ready.
pub(super) fn replay(
    set: &JobSet,
    cover: &Cover,
    keeps: Option<&Keeps>,
) -> Result<CoveredSet, CoverObjection> {
    let (before, mut order) = (predecessors(set)?, (0..set.jobs().len()).collect::<Vec<_>>());
    order.sort_by_key(|&job| (set.jobs()[job].priority, set.jobs()[job].key));
    let mut replay = Replay {
        jobs: set.jobs(),
        before,
        order,
        completions: vec![Time::new(0); set.jobs().len()],
        steps: STEPS_MAX,
        keeps,
    };
    let empty = vec![0; replay.jobs.len().div_ceil(64)];
    let free = if keeps.is_some() { replay.moved(&empty, 0) } else { 0 };
    let begins = cover.levels.first().is_some_and(|first| contained(&by_set(first), &empty, (free, free)));
    if !begins || keeps.is_none() && cover.levels.len() != replay.jobs.len() + 1 {
        return Err(CoverObjection::Shape);
    }
    for (level, pair) in cover.levels.windows(2).enumerate() {
        let next = by_set(&pair[1]);
        pair[0].iter().try_for_each(|state| replay.state(level, state, &next))?;
    }
    let states = cover.levels.iter().map(Vec::len).sum();
    Ok(CoveredSet { completions: replay.completions, states })
}

fn predecessors(set: &JobSet) -> Result<Vec<Vec<usize>>, CoverObjection> {
    if set.has_aborts() {
        return Err(CoverObjection::Abort);
    }
    let mut before = vec![Vec::new(); set.jobs().len()];
    for (from, to, longest) in set.edges() {
        if longest > Nanos::ZERO {
            return Err(CoverObjection::Delay);
        }
        before[to].push(from);
    }
    Ok(before)
}

/// Intervals in which the core becomes free, by set of jobs.
pub(super) type Free<'a> = BTreeMap<&'a [u64], Vec<(u64, u64)>>;

pub(super) fn by_set(states: &[CoverState]) -> Free<'_> {
    let mut free = Free::new();
    for state in states {
        let interval = (state.free_min.get(), state.free_max.get());
        free.entry(&state.dispatched).or_default().push(interval);
    }
    free
}

pub(super) fn contained(free: &Free<'_>, set: &[u64], (min, max): (u64, u64)) -> bool {
    free.get(set).is_some_and(|claimed| claimed.iter().any(|&(low, high)| low <= min && max <= high))
}

pub(super) fn has(set: &[u64], job: usize) -> bool {
    set[job / 64] >> (job % 64) & 1 == 1
}

struct Replay<'a> {
    jobs: &'a [Job],
    before: Vec<Vec<usize>>,
    /// Jobs by priority.
    order: Vec<usize>,
    completions: Vec<Time>,
    steps: u64,
    keeps: Option<&'a Keeps>,
}

impl Replay<'_> {
    /// Nothing happens before the first release of what is left, so that the core may as well become free then.
    fn moved(&self, set: &[u64], free: u64) -> u64 {
        let left = (0..self.jobs.len()).filter(|&job| !has(set, job));
        left.map(|job| self.jobs[job].release_min.get()).min().unwrap_or(0).max(free)
    }

    /// Dispatches everything that can be next in a state.
    fn state(&mut self, level: usize, state: &CoverState, next: &Free<'_>) -> Result<(), CoverObjection> {
        let set = &state.dispatched;
        let count: usize = set.iter().map(|word| word.count_ones() as usize).sum();
        let present = self.order.iter().filter(|&&job| set.len() > job / 64 && has(set, job)).count();
        if set.len() != self.jobs.len().div_ceil(64) || count != level || present != level {
            return Err(CoverObjection::Jobs { level });
        }
        let (free_min, free_max) = (state.free_min.get(), state.free_max.get());
        if let Some(keeps) = self.keeps {
            let starts = keeps.starts(self.jobs, set, (free_min, free_max), &mut self.steps)?;
            let mut starts = starts.into_iter();
            return starts.try_for_each(|(job, start)| self.dispatch(level + 1, set, job, start, next));
        }
        let ready: Vec<usize> = self
            .order
            .iter()
            .copied()
            .filter(|&job| !has(set, job) && self.before[job].iter().all(|&before| has(set, before)))
            .collect();
        let cost = self.jobs.len() + ready.len() * self.jobs.len();
        self.steps = self.steps.checked_sub(cost as u64).ok_or(CoverObjection::TooLong)?;
        // By then a job is certainly released and the core certainly free.
        let certain = ready.iter().map(|&job| self.jobs[job].release_max.get()).min().unwrap_or(0);
        let busy_by = free_max.max(certain);
        let mut outranked_by = u64::MAX;
        for job in ready {
            let (release_min, release_max) = (self.jobs[job].release_min, self.jobs[job].release_max);
            let start = (free_min.max(release_min.get()), busy_by.min(outranked_by.saturating_sub(1)));
            if outranked_by > 0 && start.0 <= start.1 {
                self.dispatch(level + 1, set, job, start, next)?;
            }
            outranked_by = outranked_by.min(release_max.get());
        }
        Ok(())
    }

    fn dispatch(
        &mut self,
        level: usize,
        set: &[u64],
        job: usize,
        start: (u64, u64),
        next: &Free<'_>,
    ) -> Result<(), CoverObjection> {
        let Job { key, cost_min, cost_max, deadline, .. } = self.jobs[job];
        let end = |start: u64, cost: Nanos| start.checked_add(cost.get()).ok_or(CoverObjection::Range);
        let (earliest, latest) = (end(start.0, cost_min)?, end(start.1, cost_max)?);
        let completion = Time::new(latest);
        if completion > deadline {
            return Err(CoverObjection::Deadline { job: key, completion, deadline });
        }
        self.completions[job] = self.completions[job].max(completion);
        let mut child = set.to_vec();
        child[job / 64] |= 1 << (job % 64);
        let (earliest, latest) = (self.moved(&child, earliest), self.moved(&child, latest));
        if contained(next, &child, (earliest, latest)) {
            return Ok(());
        }
        let (earliest, latest) = (Time::new(earliest), Time::new(latest));
        Err(CoverObjection::Missing { job: key, level, earliest, latest })
    }
}
