//! How long visits of the launcher to a model are, by what was done in them.
//!
//! A job of a hundred segments is visited a hundred times, and only two of the visits move its data. One distribution of
//! all of them would show the launch of a segment, whatever the copies take; so each kind has one of its own, and what
//! is told is the median of the longest kind. What makes visits to one model longer than those to another is its data,
//! and every visit pays for that; the tail is the host's, and is measured with the sum of turns that is charged.

use aegis_types::Nanos;
use hdrhistogram::Histogram;

use crate::error::RuntimeError;

/// What was done in a visit besides launching a segment and taking note of one that ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Visit {
    /// A job was begun: its inputs were brought.
    pub(super) fills: bool,
    /// A job of the lane was ended: its outputs were taken.
    pub(super) drains: bool,
}

/// Durations of visits, in room that is taken once.
pub(super) struct Turns {
    between: Histogram<u64>,
    filling: Histogram<u64>,
    draining: Histogram<u64>,
    both: Histogram<u64>,
    /// Questions whether a segment can still end, which are apart because a long segment is asked after often.
    asking: Histogram<u64>,
    /// By kind: a job was begun, one was ended.
    usual: [[Usual; 2]; 2],
}

/// How long visits of one kind are at most, but for about one in seventeen: a step up of a quarter for each that is longer
/// balances sixteen steps down of a sixty-fourth. Zero before the first.
///
/// Segments of one model differ, so a median would call the longest of them unusual.
#[derive(Clone, Copy, Debug, Default)]
struct Usual(u64);

impl Usual {
    /// Takes note of a visit, and returns by how much it was longer than usual, if it was more than twice as long.
    fn excess(&mut self, turn: Nanos) -> Nanos {
        let usual = self.0;
        if usual == 0 {
            self.0 = turn.get();
            return Nanos::ZERO;
        }
        let excess = turn.get().saturating_sub(usual);
        self.0 = if excess > 0 { usual.saturating_add(usual / 4 + 1) } else { usual - usual / 64 };
        Nanos::new(if excess > usual { excess } else { 0 })
    }
}

impl Turns {
    /// Up to 1 s, to one part in a hundred; what is longer is counted as 1 s.
    pub(super) fn new() -> Result<Self, RuntimeError> {
        let room = || {
            Histogram::new_with_max(1_000_000_000, 2).map_err(|error| RuntimeError::System {
                what: "making a distribution",
                reason: error.to_string(),
            })
        };
        let usual = <[[Usual; 2]; 2]>::default();
        Ok(Self {
            between: room()?,
            filling: room()?,
            draining: room()?,
            both: room()?,
            asking: room()?,
            usual,
        })
    }

    /// Takes a visit down, and returns by how much it was longer than such visits usually are, if it was more than twice as
    /// long. Allocates nothing.
    pub(super) fn push(&mut self, visit: Visit, turn: Nanos) -> Nanos {
        let kind = match (visit.fills, visit.drains) {
            (false, false) => &mut self.between,
            (true, false) => &mut self.filling,
            (false, true) => &mut self.draining,
            (true, true) => &mut self.both,
        };
        kind.saturating_record(turn.get());
        self.usual[usize::from(visit.fills)][usize::from(visit.drains)].excess(turn)
    }

    /// As [`push`](Self::push), of a question. Allocates nothing.
    pub(super) fn ask(&mut self, took: Nanos) {
        self.asking.saturating_record(took.get());
    }

    /// The median of visits that ended a job; zero without any.
    pub(super) fn draining(&self) -> Nanos {
        mark(&self.draining)
    }

    /// The median of the longest kind; zero without visits. A visit that ends one job and begins another is
    /// rare where the driver is slower than the launcher, so it counts as one of each at least, with `draining` the
    /// longest of the first kind on the lane.
    pub(super) fn mark(&self, draining: Nanos) -> Nanos {
        let apart = mark(&self.filling).saturating_add(draining.max(self.draining()));
        [&self.between, &self.both, &self.asking].map(mark).into_iter().fold(apart, Nanos::max)
    }
}

fn mark(kind: &Histogram<u64>) -> Nanos {
    if kind.is_empty() { Nanos::ZERO } else { Nanos::new(kind.value_at_quantile(0.5)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILLS: Visit = Visit { fills: true, drains: false };
    const DRAINS: Visit = Visit { fills: false, drains: true };
    const BOTH: Visit = Visit { fills: true, drains: true };

    /// Within the one part in a hundred that is kept.
    fn is_about(found: Nanos, micros: u64) -> bool {
        found >= Nanos::from_micros(micros) && found.get() <= micros * 1_010
    }

    #[test]
    fn two_copies_among_a_thousand_launches_are_not_averaged_away() {
        let mut turns = Turns::new().expect("room");
        for _ in 0..998 {
            let _usual = turns.push(Visit::default(), Nanos::from_micros(4));
        }
        assert!(is_about(turns.mark(Nanos::ZERO), 4));
        turns.push(FILLS, Nanos::from_micros(2_000));
        turns.push(DRAINS, Nanos::from_micros(500));
        assert!(is_about(turns.mark(Nanos::ZERO), 2_500), "{}", turns.mark(Nanos::ZERO));
        let of_a_mate = Nanos::from_micros(900);
        assert!(is_about(turns.mark(of_a_mate), 2_900), "{}", turns.mark(of_a_mate));
        turns.push(BOTH, Nanos::from_micros(4_000));
        assert!(is_about(turns.mark(of_a_mate), 4_000), "{}", turns.mark(of_a_mate));
    }

    #[test]
    fn questions_count_as_visits_and_hide_none() {
        let mut turns = Turns::new().expect("room");
        turns.push(Visit::default(), Nanos::from_micros(40));
        (0..998).for_each(|_| turns.ask(Nanos::from_micros(2)));
        assert!(is_about(turns.mark(Nanos::ZERO), 40));
        (0..1_998).for_each(|_| turns.ask(Nanos::from_micros(60)));
        assert!(is_about(turns.mark(Nanos::ZERO), 60));
    }

    #[test]
    fn a_visit_is_unusual_beside_others_of_its_kind_only() {
        let mut turns = Turns::new().expect("room");
        let us = Nanos::from_micros;
        for number in 0..10_000 {
            // One visit in eight is a long segment, and the lengths of all vary by a fifth.
            let usual = if number % 8 == 0 { 300 } else { 5 };
            assert_eq!(turns.push(Visit::default(), us(usual + usual * (number % 3) / 10)), Nanos::ZERO);
        }
        assert_eq!(turns.push(FILLS, us(2_000)), Nanos::ZERO, "nothing is known of such visits");
        let excess = turns.push(Visit::default(), us(1_500));
        assert!((1_000..=1_300).contains(&(excess.get() / 1_000)), "{excess}");
        let hidden = turns.push(Visit::default(), us(500));
        assert_eq!(hidden, Nanos::ZERO, "less than twice the usual length is not told from work");
    }

    #[test]
    fn a_model_that_nobody_visited_has_no_turn() {
        assert_eq!(Turns::new().expect("room").mark(Nanos::ZERO), Nanos::ZERO);
    }
}
