//! One schedule that misses, taken out of the intervals: releases and costs that a simulator replays.
//!
//! Only two levels are held while exploring, so a refused set is explored once more, with every dispatch written down
//! until the miss. From there the way back is walked with single instants: a job that starts at s in a state
//! (S, [e, l]) does so when the core becomes free at min(s, l), and some dispatch into S ends at that very instant.
//! Every job is released at min(r^max, s), s its start: as late as its interval and its start let it be, so that
//! nothing it must not disturb sees it earlier.

use aegis_types::{Nanos, Time};

use super::explore::explore_lane;
use super::job::{Job, JobSet};
use super::report::{Limits, OnMiss};
use super::search::{Halt, Search};
use super::table::Table;

/// A dispatch that was looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    /// The node of its state, in the level it belongs to.
    pub(super) parent: usize,
    /// The node it leads to, in the level after.
    pub(super) child: usize,
    pub(super) position: usize,
    /// The latest instant at which the core becomes free in the state.
    pub(super) free_max: u64,
    pub(super) start: (u64, u64),
    /// Before this instant nothing happens in the node it leads to.
    pub(super) quiet: u64,
}

/// All dispatches looked at, by level.
#[derive(Debug, Default)]
pub(super) struct Log {
    levels: Vec<Vec<Step>>,
    room: usize,
}

impl Log {
    pub(super) fn begin_level(&mut self) {
        self.levels.push(Vec::new());
    }

    /// `false` if there is no room for it.
    pub(super) fn push(&mut self, step: Step) -> bool {
        if self.room < size_of::<Step>() {
            return false;
        }
        self.room -= size_of::<Step>();
        self.levels.last_mut().expect("a level begins before its steps").push(step);
        true
    }

    /// Where the last dispatch leads.
    pub(super) fn lead_to(&mut self, child: usize, quiet: u64) {
        if let Some(step) = self.levels.last_mut().and_then(|level| level.last_mut()) {
            (step.child, step.quiet) = (child, quiet);
        }
    }
}

/// A schedule in which a job misses its deadline: the same jobs, in the same order, each with one release and one
/// cost. A job that has not started by then is released last and runs longest.
///
/// On one core, without delays between jobs and without inserted idle time. `None` where no deadline can be missed,
/// where `limits` do not suffice (every dispatch is kept, besides two levels of states), or where `keep_going` says
/// no.
pub fn witness(set: &JobSet, limits: Limits, keep_going: &mut dyn FnMut() -> bool) -> Option<Vec<Job>> {
    if set.has_delays() || set.has_aborts() {
        return None;
    }
    let table = Table::of(set);
    let mut search = Search::new(table, limits, OnMiss::Stop, keep_going);
    let room = usize::try_from(limits.bytes.get()).unwrap_or(usize::MAX);
    let (end, log) = explore_lane(&mut search, None, Some(Log { room, ..Log::default() }));
    match (end, log) {
        (Err(Halt::Miss), Some(log)) => walk_back(set, &search.table, &log),
        _ => None,
    }
}

fn walk_back(set: &JobSet, table: &Table, log: &Log) -> Option<Vec<Job>> {
    let mut jobs = set.jobs().to_vec();
    for job in &mut jobs {
        (job.release_min, job.cost_min) = (job.release_max, job.cost_max);
    }
    let mut fix = |step: &Step, start: u64, cost: u64| {
        let job = &mut jobs[table.origin[step.position]];
        job.release_max = job.release_max.min(Time::new(start));
        job.release_min = job.release_max;
        (job.cost_min, job.cost_max) = (Nanos::new(cost), Nanos::new(cost));
    };
    // The last dispatch looked at is the one that ends too late.
    let (last, before) = log.levels.split_last()?;
    let miss = last.last()?;
    fix(miss, miss.start.1, table.costs[miss.position].max);
    let (mut node, mut free) = (miss.parent, miss.start.1.min(miss.free_max));
    for level in before.iter().rev() {
        let (step, end) = level
            .iter()
            .filter(|step| step.child == node)
            .find_map(|step| Some((step, end_at(step, table, free)?)))?;
        let cost = table.costs[step.position];
        let start = step.start.0.max(end.saturating_sub(cost.max));
        fix(step, start, end - start);
        (node, free) = (step.parent, start.min(step.free_max));
    }
    Some(jobs)
}

/// When a dispatch ends so that the core counts as free from `free` on, if it can.
fn end_at(step: &Step, table: &Table, free: u64) -> Option<u64> {
    let cost = table.costs[step.position];
    let (min, max) = (step.start.0 + cost.min, step.start.1 + cost.max);
    let end = if free == step.quiet { max.min(free).max(min) } else { free };
    ((min..=max).contains(&end) && end.max(step.quiet) == free).then_some(end)
}
