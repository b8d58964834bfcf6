//! Which buffer comes next: the rule of a branch, and the ranks that break its ties.
//!
//! No order is good on every instance, and one that is hopeless on an instance is often immediate on its neighbour.
//! That is why a search holds several and gives each a little time (Gomes, Selman 2001, on portfolios of searches).

use std::cmp::Reverse;

use super::state::{LITTLE, State};
use super::strip::{Range, Strip};

/// What a rank compares; larger goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Key {
    /// The most open bytes of a section at which the buffer is live.
    Total,
    /// Sections from first to last.
    Width,
    /// Size times width.
    Area,
    /// Earliest start.
    Lower,
    /// Open buffers that it overlaps.
    Overlaps,
    /// How often the worst of its sections ran out of room.
    Failures,
    /// How low it lies in the best placement that is known.
    Known,
}

/// How a branch is chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rule {
    /// The buffer that can go lowest: good packings at once, and the order of canonical solutions.
    Lowest,
    /// A buffer of the section that has the fewest left to come next, counted against how often it ran out of room:
    /// the rule dom/wdeg (Boussemart, Hemery, Lecoutre, Sais 2004) with sections as constraints.
    Tightest,
}

/// A rule and what breaks its ties.
#[derive(Clone, Copy, Debug)]
pub(super) struct Order {
    pub(super) rule: Rule,
    pub(super) keys: [Key; 3],
}

impl Order {
    /// How many of 64 neighbours in rank a try with noise exchanges. A known placement is worth following closely.
    pub(super) fn swaps(self) -> u64 {
        if self.keys[0] == Key::Known { 3 } else { 16 }
    }
}

/// The orders that are tried in turn.
const ORDERS: [Order; 8] = [
    Order { rule: Rule::Tightest, keys: [Key::Total, Key::Width, Key::Area] },
    Order { rule: Rule::Lowest, keys: [Key::Total, Key::Lower, Key::Width] },
    Order { rule: Rule::Tightest, keys: [Key::Overlaps, Key::Total, Key::Width] },
    Order { rule: Rule::Lowest, keys: [Key::Total, Key::Width, Key::Lower] },
    LEARNT[0],
    Order { rule: Rule::Lowest, keys: [Key::Width, Key::Area, Key::Total] },
    LEARNT[1],
    Order { rule: Rule::Lowest, keys: [Key::Overlaps, Key::Area, Key::Total] },
];

/// Orders that differ from try to try, by what failed before.
const LEARNT: [Order; 2] = [
    Order { rule: Rule::Lowest, keys: [Key::Failures, Key::Total, Key::Area] },
    Order { rule: Rule::Tightest, keys: [Key::Failures, Key::Overlaps, Key::Width] },
];

/// The order that begins like the best placement that is known, and departs from it where that is too high (Beck 2007, on
/// search that is guided by solutions). Only the section is chosen anew.
const GUIDED: Order = Order { rule: Rule::Tightest, keys: [Key::Known, Key::Total, Key::Width] };

/// What decides between buffers that could come next, the least first: floor, loose corners, rank; and the buffer.
type Next = (u64, u32, u32, usize);

/// Tries until every order had one.
pub(super) const ROUND: u64 = ORDERS.len() as u64;

/// Rounds before chance and known placements take part.
pub(super) const WARM: u64 = 3;

/// The order of a try. After the first round every second one uses what was learnt; where a known placement is to be
/// improved, after [`WARM`] rounds every second one is guided by it.
pub(super) const fn of(number: u64, improves: bool) -> Order {
    if improves && number >= WARM * ROUND && number.is_multiple_of(2) {
        return GUIDED;
    }
    if number >= ROUND && number.is_multiple_of(2) {
        return LEARNT[(number / 2 % 2) as usize];
    }
    ORDERS[(number % ROUND) as usize]
}

/// The open buffers of a range from first to last; equal ones by number.
pub(super) fn ranked(state: &State, strip: &Strip, range: Range, keys: [Key; 3]) -> Vec<usize> {
    let (first, last) = strip.items_of(range);
    let mut rows: Vec<_> = state
        .open_between(first, last)
        .map(|item| (Reverse(keys.map(|key| value(state, strip, item, key))), item))
        .collect();
    rows.sort_unstable();
    rows.into_iter().map(|(_, item)| item).collect()
}

fn value(state: &State, strip: &Strip, item: usize, key: Key) -> u64 {
    let width = u64::from(strip.hi[item] - strip.lo[item]);
    let sections = strip.lo[item] as usize..strip.hi[item] as usize;
    match key {
        Key::Total => state.rest[sections].iter().copied().max().unwrap_or(0),
        Key::Width => width,
        Key::Area => width.saturating_mul(strip.size[item]),
        Key::Lower => u64::MAX - u64::from(strip.lo[item]),
        Key::Overlaps => state.open_near(item).count() as u64,
        Key::Known => u64::MAX - state.known[item],
        Key::Failures => state.failures[sections].iter().copied().max().unwrap_or(0),
    }
}

/// The next buffer of a range, or `None` if no completion is left.
///
/// A buffer can be chosen only if nothing open fits below its floor: then whatever overlaps it comes above it, and to
/// branch on "it stays at its floor" or "it does not" loses nothing.
pub(super) fn choose(state: &State, strip: &Strip, range: Range, rule: Rule, rank: &[u32]) -> Option<usize> {
    let (first, last) = strip.items_of(range);
    let (mut fits, mut drops) = (u64::MAX, u64::MAX);
    let mut lowest: Option<Next> = None;
    for item in state.open_between(first, last) {
        let (floor, size) = (state.floor[item], strip.size[item]);
        fits = fits.min(state.least(item) + size);
        drops = drops.min(floor + size);
        if lowest.is_some_and(|lowest| lowest.0 < floor)
            || state.is_passed(item)
            || state.waits_for_twin(item)
        {
            continue;
        }
        let key = (floor, loose(state, strip, range, item), rank[item], item);
        if lowest.is_none_or(|lowest| key < lowest) {
            lowest = Some(key);
        }
    }
    // Nothing is placed below the lowest floor any more. A buffer that fits below it could drop there at the end, so
    // a completion of which no buffer can drop is in another branch.
    let (floor, _, _, item) = lowest.filter(|&(floor, ..)| floor < drops)?;
    match rule {
        Rule::Lowest => Some(item),
        Rule::Tightest => tightest(state, strip, range, fits, rank).or((floor < fits).then_some(item)),
    }
}

/// A buffer of the section with the fewest candidates for each failure that it had; of equals, the one with the least
/// slack. Sections and candidates that cannot win are left as soon as that shows.
fn tightest(state: &State, strip: &Strip, range: Range, fits: u64, rank: &[u32]) -> Option<usize> {
    // Candidates and weight of the best section, its slack, and the buffer.
    let mut best: Option<(u64, u64, u64, usize)> = None;
    for section in range.0 as usize..range.1 as usize {
        let weight = 1 + state.failures[section];
        let most = best.map_or(u64::MAX, |(next, of, ..)| next * weight / of);
        if state.rest[section] == 0 || most == 0 {
            continue;
        }
        let slack = state.slack(strip, section);
        let reach = state.lowest(section) + slack;
        let mut next = 0;
        let mut lowest: Option<Next> = None;
        for item in state.open_in(section) {
            next += u64::from(state.least(item) <= reach);
            if next > most {
                break;
            }
            let floor = state.floor[item];
            let free = floor < fits && lowest.is_none_or(|lowest| floor <= lowest.0);
            if !free || state.is_passed(item) || state.waits_for_twin(item) {
                continue;
            }
            let key = (floor, loose(state, strip, range, item), rank[item], item);
            if lowest.is_none_or(|lowest| key < lowest) {
                lowest = Some(key);
            }
        }
        let Some((.., item)) = lowest.filter(|_| next <= most) else { continue };
        let better = |(least, of, least_slack, _): (u64, u64, u64, usize)| {
            (next * of, slack) < (least * weight, least_slack)
        };
        if best.is_none_or(better) {
            best = Some((next, weight, slack, item));
        }
    }
    best.map(|(.., item)| item)
}

/// How many upper corners of an item at its floor are not level with what lies beside it.
///
/// Where little may be wasted, a step that no other buffer fills exactly is the start of waste, and a buffer that makes
/// two sections level is rarely wrong. So it counts before any rank. Where much may be wasted, it says nothing.
fn loose(state: &State, strip: &Strip, range: Range, item: usize) -> u32 {
    let end = state.floor[item] + strip.size[item];
    let level = |beside: u32| {
        let beside = beside as usize;
        let matters = || state.slack(strip, beside) <= state.capacity / LITTLE;
        state.rest[beside] > 0 && state.lowest(beside) == end && matters()
    };
    let left = strip.lo[item] > range.0 && level(strip.lo[item] - 1);
    let right = strip.hi[item] < range.1 && level(strip.hi[item]);
    2 - u32::from(left) - u32::from(right)
}
