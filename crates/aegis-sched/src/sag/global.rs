//! Several identical cores under one queue, or delays between jobs: safe bounds, not exact ones.
//!
//! A state has one interval for each core, sorted, in which that many cores become free (Nasri, Nelissen,
//! Brandenburg, ECRTS 2018; precedence as in ECRTS 2019):
//!
//! ```text
//! R_J^min = max(r_J^min, EFT of predecessors + delay)    R_J^max = max(r_J^max, LFT of predecessors + delay)
//! EST = max(R_J^min, A_1^min)    t_wc = max(A_1^max, min R_x^max)    t_hp = min over x before J of R_x^max
//! LST = min(t_wc, t_hp - 1)                              J may be next if EST <= LST
//! child: sort(EST + C^min, max(EST, A_k^min)), sort(LST + C^max, max(EST, A_k^max)) for k = 2..m
//! ```
//!
//! States of one set are merged if the intervals of every core overlap or touch. Completions of jobs whose successors
//! wait are carried along, and joined when states are.

use super::lane::{is_ready, touch};
use super::level::{Entry, Index, JobBits, Level, SetRef};
use super::search::{Dispatch, Halt, Search};
use super::table::{Table, WORD};

/// Numbers of a carried completion: position, earliest, latest.
const NOTE: usize = 3;

/// A job that may be released in a state.
#[derive(Clone, Copy, Debug)]
struct Candidate {
    rank: u32,
    position: usize,
    ready_min: u64,
    ready_max: u64,
}

/// Lists that every state fills anew.
#[derive(Debug, Default)]
struct Scratch {
    state: Vec<u64>,
    notes: Vec<u64>,
    candidates: Vec<Candidate>,
    dispatches: Vec<Dispatch>,
    child: JobBits,
    child_state: Vec<u64>,
    child_notes: Vec<u64>,
}

/// The exploration of several cores.
///
/// The payload of a state: earliest availability of each core, ascending; latest of each, ascending; where its carried
/// completions begin. How many those are follows from the set, so that all states of a set carry the same jobs.
#[derive(Debug)]
pub(super) struct Cores {
    cores: usize,
    current: Level,
    next: Level,
    index: Index,
    scratch: Scratch,
}

impl Cores {
    /// Nothing dispatched, all cores free from the beginning.
    pub(super) fn new(cores: usize) -> Result<Self, Halt> {
        let payload = 2 * cores + 2;
        let (mut current, next, mut index) = (Level::new(payload), Level::new(payload), Index::default());
        current.reset(&next, &mut index, usize::MAX);
        current.entry(&mut index, &JobBits::default(), &vec![0; payload])?;
        Ok(Self { cores, current, next, index, scratch: Scratch::default() })
    }

    /// Dispatches one more job in every state.
    pub(super) fn step(&mut self, search: &mut Search<'_>) -> Result<(), Halt> {
        let room = search.room(&self.current, &self.index);
        self.next.reset(&self.current, &mut self.index, room);
        let outcome = self.expand_all(search);
        search.account(&self.current, &self.next, &self.index);
        std::mem::swap(&mut self.current, &mut self.next);
        outcome
    }

    fn expand_all(&mut self, search: &mut Search<'_>) -> Result<(), Halt> {
        for node in 0..self.current.len() {
            self.scratch.load(&self.current, self.current.head(node));
            self.expand(search, node)?;
            let mut further = self.current.further(node);
            while let Some(place) = further {
                let (state, after) = self.current.spilled(place);
                self.scratch.load(&self.current, state);
                further = after;
                self.expand(search, node)?;
            }
        }
        Ok(())
    }

    fn expand(&mut self, search: &mut Search<'_>, node: usize) -> Result<(), Halt> {
        let set = self.current.set(node);
        let free = (self.scratch.state[0], self.scratch.state[self.cores]);
        let work = self.scratch.eligible(&search.table, set, free);
        search.spend(work)?;
        for at in 0..self.scratch.dispatches.len() {
            let dispatch = self.scratch.dispatches[at];
            let cost = search.table.costs[dispatch.position];
            let end = search.table.completions(&dispatch);
            search.complete(dispatch.position, end.0, end.1)?;
            self.scratch.child.become_child(set, dispatch.position, cost.key);
            self.scratch.occupy(self.cores, dispatch.start_min, end);
            self.scratch.carry(&search.table, dispatch.position, end);
            add(self.cores, &mut self.next, &mut self.index, &mut self.scratch)?;
        }
        Ok(())
    }
}

/// Adds the child, or joins it with a state that it touches on every core.
fn add(cores: usize, next: &mut Level, index: &mut Index, scratch: &mut Scratch) -> Result<(), Halt> {
    let Scratch { child, child_state, child_notes, .. } = scratch;
    let begin = 2 * cores;
    let Entry::Present(node) = next.entry(index, child, child_state)? else {
        // The record just added is the last one.
        let node = next.len() - 1;
        let notes = next.note(child_notes)?;
        next.head_mut(node)[begin] = notes;
        return Ok(());
    };
    if join(cores, next.head_mut(node), child_state) {
        let notes = next.head(node)[begin];
        join_notes(next, notes, child_notes);
        return Ok(());
    }
    let mut further = next.further(node);
    while let Some(place) = further {
        if join(cores, next.spilled_mut(place), child_state) {
            let notes = next.spilled(place).0[begin];
            join_notes(next, notes, child_notes);
            return Ok(());
        }
        further = next.spilled(place).1;
    }
    child_state[begin] = next.note(child_notes)?;
    Ok(next.push_state(node, child_state)?)
}

impl Scratch {
    fn load(&mut self, level: &Level, state: &[u64]) {
        self.state.clear();
        self.state.extend_from_slice(state);
        let [.., begin, len] = state else { return };
        self.notes.clear();
        self.notes.extend_from_slice(&level.notes[*begin as usize..(*begin + *len) as usize]);
    }

    /// When the predecessors of a job have completed and the delays after them passed, for all that is known.
    fn ready(&self, table: &Table, position: usize) -> (u64, u64) {
        let window = &table.windows[position];
        let mut ready = (window.release_min, window.release_max);
        if window.waits > 0 {
            // Carried completions lie in the order of positions.
            let notes = self.notes.as_chunks::<NOTE>().0;
            for before in &table.before[position] {
                let place = notes.binary_search_by_key(&(before.job as u64), |note| note[0]);
                let [_, min, max] = notes[place.expect("a completion is carried while a successor waits")];
                ready = (ready.0.max(min + before.delay_min), ready.1.max(max + before.delay_max));
            }
        }
        ready
    }

    fn eligible(&mut self, table: &Table, set: SetRef<'_>, (free_min, free_max): (u64, u64)) -> usize {
        self.candidates.clear();
        let mut looked_at = 0;
        let (mut busy_by, mut first) = (u64::MAX - 1, u32::MAX);
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
                let (ready_min, ready_max) = self.ready(table, position);
                busy_by = busy_by.min(free_max.max(ready_max));
                if ready_max <= free_min {
                    first = first.min(job.rank);
                }
                self.candidates.push(Candidate { rank: job.rank, position, ready_min, ready_max });
            }
        }
        self.candidates.retain(|candidate| candidate.rank <= first);
        self.candidates.sort_unstable_by_key(|candidate| candidate.rank);
        self.dispatches.clear();
        let mut outranked_by = u64::MAX;
        for candidate in &self.candidates {
            let start_min = free_min.max(candidate.ready_min);
            let start_max = busy_by.min(outranked_by - 1);
            if start_min <= start_max {
                self.dispatches.push(Dispatch { position: candidate.position, start_min, start_max });
            }
            outranked_by = outranked_by.min(candidate.ready_max);
            if outranked_by <= free_min {
                break;
            }
        }
        looked_at
    }

    /// The cores after a start: one is busy until the end, none was free for anything later before the start.
    fn occupy(&mut self, cores: usize, start: u64, end: (u64, u64)) {
        self.child_state.clear();
        for (from, end) in [(0, end.0), (cores, end.1)] {
            self.child_state.push(end);
            let others = self.state[from + 1..from + cores].iter().map(|&free| free.max(start));
            self.child_state.extend(others);
            self.child_state[from..].sort_unstable();
        }
        self.child_state.push(0);
    }

    /// Completions whose successors still wait, by position.
    fn carry(&mut self, table: &Table, position: usize, end: (u64, u64)) {
        self.child_notes.clear();
        if !table.after.is_empty() {
            let mut own = (!table.after[position].is_empty()).then_some([position as u64, end.0, end.1]);
            for note in self.notes.chunks_exact(NOTE) {
                if own.is_some_and(|own| own[0] < note[0])
                    && let Some(own) = own.take()
                {
                    self.child_notes.extend(own);
                }
                if table.after[note[0] as usize].iter().any(|&next| !self.child.contains(next)) {
                    self.child_notes.extend_from_slice(note);
                }
            }
            self.child_notes.extend(own.into_iter().flatten());
        }
        self.child_state.push(self.child_notes.len() as u64);
    }
}

/// Widens a state to contain another of the same set, if they touch on every core.
fn join(cores: usize, state: &mut [u64], other: &[u64]) -> bool {
    let near = |core: usize| touch((state[core], state[cores + core]), (other[core], other[cores + core]));
    if !(0..cores).all(near) {
        return false;
    }
    for core in 0..cores {
        state[core] = state[core].min(other[core]);
        state[cores + core] = state[cores + core].max(other[cores + core]);
    }
    true
}

fn join_notes(level: &mut Level, begin: u64, others: &[u64]) {
    let begin = begin as usize;
    let kept = &mut level.notes[begin..begin + others.len()];
    for (kept, other) in kept.chunks_exact_mut(NOTE).zip(others.chunks_exact(NOTE)) {
        kept[1] = kept[1].min(other[1]);
        kept[2] = kept[2].max(other[2]);
    }
}
