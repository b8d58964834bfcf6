//! One core: what may run next in a state, and the states of the next level.

use super::idle::Rule;
use super::level::{Entry, Index, JobBits, Level, SetRef, contains};
use super::report::Limit;
use super::search::{Dispatch, Halt, Search};
use super::table::{Before, Table, WORD};
use super::witness::{Log, Step};

/// A released job, as far as the choice among several needs it.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    rank: u32,
    position: u32,
    release_min: u64,
    release_max: u64,
}

/// Lists that every state fills anew.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    candidates: Vec<Candidate>,
    dispatches: Vec<Dispatch>,
    child: JobBits,
}

/// The exploration of one core: two levels, and the index of the one that grows.
#[derive(Debug)]
pub(super) struct Lane {
    current: Level,
    next: Level,
    index: Index,
    scratch: Scratch,
    rule: Option<Rule>,
    /// Every dispatch, where a schedule is to be taken out of them.
    pub(super) log: Option<Log>,
}

impl Lane {
    /// Nothing dispatched, the core free from the beginning.
    pub(super) fn new(rule: Option<Rule>, log: Option<Log>) -> Result<Self, Halt> {
        let (mut current, mut index) = (Level::new(2), Index::default());
        let parents = Level::new(2);
        current.reset(&parents, &mut index, usize::MAX);
        current.entry(&mut index, &JobBits::default(), &[0, 0])?;
        Ok(Self { current, next: parents, index, scratch: Scratch::default(), rule, log })
    }

    /// Goes on under a rule that knows more jobs.
    pub(super) fn follow(&mut self, rule: Rule) {
        self.rule = Some(rule);
    }

    /// Dispatches one more job in every state.
    pub(super) fn step(&mut self, search: &mut Search<'_>) -> Result<(), Halt> {
        let room = search.room(&self.current, &self.index);
        self.next.reset(&self.current, &mut self.index, room);
        if let Some(log) = &mut self.log {
            log.begin_level();
        }
        let outcome = self.expand_all(search);
        search.account(&self.current, &self.next, &self.index);
        std::mem::swap(&mut self.current, &mut self.next);
        outcome
    }

    /// All states: the first missing job, the set, and when the core becomes free.
    pub(super) fn states(&self) -> impl Iterator<Item = (usize, SetRef<'_>, (u64, u64))> {
        (0..self.current.len()).flat_map(|node| {
            let set = self.current.set(node);
            let missing = set.base * WORD + set.words.first().map_or(0, |word| word.trailing_ones() as usize);
            self.current.states(node).map(move |state| (missing, set, (state[0], state[1])))
        })
    }

    fn expand_all(&mut self, search: &mut Search<'_>) -> Result<(), Halt> {
        for node in 0..self.current.len() {
            let head = self.current.head(node);
            let (free_min, free_max) = (head[0], head[1]);
            self.expand(search, node, free_min, free_max)?;
            let mut further = self.current.further(node);
            while let Some(place) = further {
                let (state, after) = self.current.spilled(place);
                let (free_min, free_max) = (state[0], state[1]);
                further = after;
                self.expand(search, node, free_min, free_max)?;
            }
        }
        Ok(())
    }

    fn expand(
        &mut self,
        search: &mut Search<'_>,
        node: usize,
        free_min: u64,
        free_max: u64,
    ) -> Result<(), Halt> {
        let set = self.current.set(node);
        let Scratch { candidates, dispatches, child } = &mut self.scratch;
        dispatches.clear();
        let work = match &self.rule {
            None => eligible(&search.table, set, (free_min, free_max), candidates, dispatches),
            Some(rule) => rule
                .eligible(&search.table, set, (free_min, free_max), dispatches)
                .ok_or(Halt::Limit(Limit::Stopped))?,
        };
        search.spend(work)?;
        for dispatch in &*dispatches {
            let cost = search.table.costs[dispatch.position];
            let (mut min, mut max) = search.table.completions(dispatch);
            if let Some(log) = &mut self.log {
                let start = (dispatch.start_min, dispatch.start_max);
                let position = dispatch.position;
                let step = Step { parent: node, child: usize::MAX, position, free_max, start, quiet: 0 };
                if !log.push(step) {
                    return Err(Halt::Limit(Limit::Memory));
                }
            }
            search.complete(dispatch.position, min, max)?;
            child.become_child(set, dispatch.position, cost.key);
            let missing = child.first_missing();
            // Nothing happens before the earliest release of what is left.
            let left = search.table.costs.get(missing).map(|_| search.table.windows[missing].release_min);
            let quiet = left.unwrap_or(0);
            (min, max) = (min.max(quiet), max.max(quiet));
            let found = match self.next.entry(&mut self.index, child, &[min, max])? {
                Entry::Present(found) => {
                    merge(&mut self.next, found, min, max)?;
                    found
                }
                Entry::Added => self.next.len() - 1,
            };
            if let Some(log) = &mut self.log {
                log.lead_to(found, quiet);
            }
        }
        Ok(())
    }
}

/// Whether all predecessors of a job are dispatched.
pub(super) fn is_ready(set: SetRef<'_>, before: &[Before]) -> bool {
    before.iter().all(|before| contains(set.base, set.words, before.job))
}

/// Finds what may run next; returns how many jobs were looked at.
fn eligible(
    table: &Table,
    set: SetRef<'_>,
    (free_min, free_max): (u64, u64),
    candidates: &mut Vec<Candidate>,
    dispatches: &mut Vec<Dispatch>,
) -> usize {
    candidates.clear();
    let mut looked_at = 0;
    // The earliest instant by which some job is certainly released, and the bound on starts that follows from it.
    let (mut certain, mut busy_by) = (u64::MAX, u64::MAX - 1);
    // The first of those that are certainly there as soon as the core is free: nothing after it is ever next.
    let mut first = u32::MAX;
    'scan: for word in set.base..table.windows.len() / WORD {
        let mut missing = !set.words.get(word - set.base).copied().unwrap_or(0);
        while missing != 0 {
            let position = word * WORD + missing.trailing_zeros() as usize;
            missing &= missing - 1;
            let job = &table.windows[position];
            if job.release_min > busy_by {
                break 'scan;
            }
            looked_at += 1;
            if job.waits > 0 && !is_ready(set, &table.before[position]) {
                continue;
            }
            if job.release_max < certain {
                certain = job.release_max;
                busy_by = free_max.max(certain);
            }
            if job.rank > first {
                continue;
            }
            if job.release_max <= free_min {
                first = job.rank;
            }
            candidates.push(Candidate {
                rank: job.rank,
                position: position as u32,
                release_min: job.release_min,
                release_max: job.release_max,
            });
        }
    }
    candidates.retain(|candidate| candidate.rank <= first);
    candidates.sort_unstable_by_key(|candidate| candidate.rank);
    let mut outranked_by = u64::MAX;
    for candidate in candidates {
        let start_min = free_min.max(candidate.release_min);
        let start_max = busy_by.min(outranked_by - 1);
        if start_min <= start_max {
            dispatches.push(Dispatch { position: candidate.position as usize, start_min, start_max });
        }
        outranked_by = outranked_by.min(candidate.release_max);
        if outranked_by <= free_min {
            break;
        }
    }
    looked_at
}

/// Whether two intervals of instants have no instant between them.
pub(super) const fn touch(a: (u64, u64), b: (u64, u64)) -> bool {
    a.0 <= b.1 + 1 && b.0 <= a.1 + 1
}

/// Adds an interval to a set that is there, and joins all that it touches. The intervals present touch none of each
/// other, so what touches the union touches the interval added.
#[inline]
fn merge(level: &mut Level, node: usize, min: u64, max: u64) -> Result<(), Halt> {
    let head = level.head_mut(node);
    let mut union = (min, max);
    let in_head = touch((head[0], head[1]), (min, max));
    if in_head {
        union = (min.min(head[0]), max.max(head[1]));
        (head[0], head[1]) = union;
    }
    match level.further(node) {
        None if in_head => Ok(()),
        None => Ok(level.push_state(node, &[min, max])?),
        Some(first) => merge_chain(level, node, (min, max), in_head.then_some(union), first),
    }
}

/// Where the union of the joined intervals is kept.
#[derive(Clone, Copy)]
enum Holder {
    Head,
    Further(usize),
}

fn merge_chain(
    level: &mut Level,
    node: usize,
    added: (u64, u64),
    head: Option<(u64, u64)>,
    first: usize,
) -> Result<(), Halt> {
    let mut union = head.unwrap_or(added);
    let mut holder = head.map(|_| Holder::Head);
    let (mut before, mut place) = (None, Some(first));
    while let Some(here) = place {
        let (state, after) = level.spilled(here);
        let interval = (state[0], state[1]);
        place = after;
        if !touch(interval, added) {
            before = Some(here);
            continue;
        }
        union = (union.0.min(interval.0), union.1.max(interval.1));
        if holder.is_none() {
            holder = Some(Holder::Further(here));
            before = Some(here);
        } else {
            level.unlink(node, before, here);
        }
    }
    let state = match holder {
        Some(Holder::Head) => level.head_mut(node),
        Some(Holder::Further(place)) => level.spilled_mut(place),
        None => return Ok(level.push_state(node, &[added.0, added.1])?),
    };
    state.copy_from_slice(&[union.0, union.1]);
    Ok(())
}
