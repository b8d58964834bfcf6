//! All states of an exploration, handed out, so that somebody else can check that no schedule is missing.
//!
//! Nothing is trusted of this: the [referee](crate::referee::sag) replays one step from every state.

use aegis_types::Time;

use super::job::JobSet;
use super::lane::Lane;
use super::level::{SetRef, contains};
use super::report::{Limits, OnMiss};
use super::search::Search;
use super::table::{Table, WORD};

/// Jobs already dispatched, and when the core becomes free after them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct CoverState {
    /// Bit `j % 64` of word `j / 64`: whether the job at position `j` of the set is dispatched. As many words as all
    /// jobs need.
    pub dispatched: Vec<u64>,
    /// The earliest instant at which the core becomes free.
    pub free_min: Time,
    /// The latest instant at which the core becomes free.
    pub free_max: Time,
}

/// States that together contain every schedule of a set on one core; as many levels as jobs, and one more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cover {
    /// States by the number of jobs dispatched.
    pub levels: Vec<Vec<CoverState>>,
}

/// Explores a set on one core and keeps every state. `None` where there are delays between jobs or aborts, where a
/// deadline can be missed, where `limits` do not suffice, or where `keep_going` says no.
pub fn cover(set: &JobSet, limits: Limits, keep_going: &mut dyn FnMut() -> bool) -> Option<Cover> {
    if set.has_delays() || set.has_aborts() {
        return None;
    }
    let table = Table::of(set);
    let mut search = Search::new(table, limits, OnMiss::Stop, keep_going);
    let mut lane = Lane::new(None, None).ok()?;
    let mut room = limits.bytes.get();
    let mut cover = Cover { levels: vec![states(&lane, &search.table, &mut room)?] };
    for _ in 0..search.table.len() {
        lane.step(&mut search).ok()?;
        cover.levels.push(states(&lane, &search.table, &mut room)?);
    }
    Some(cover)
}

fn states(lane: &Lane, table: &Table, room: &mut u64) -> Option<Vec<CoverState>> {
    let size = (table.len().div_ceil(WORD) * size_of::<u64>() + size_of::<CoverState>()) as u64;
    let mut states = Vec::new();
    for (_, set, (free_min, free_max)) in lane.states() {
        *room = room.checked_sub(size)?;
        let dispatched = dispatched(set, table);
        states.push(CoverState { dispatched, free_min: Time::new(free_min), free_max: Time::new(free_max) });
    }
    Some(states)
}

fn dispatched(set: SetRef<'_>, table: &Table) -> Vec<u64> {
    let mut words = vec![0; table.len().div_ceil(WORD)];
    for (position, &place) in table.origin.iter().enumerate() {
        if contains(set.base, set.words, position) {
            words[place / WORD] |= 1 << (place % WORD);
        }
    }
    words
}
