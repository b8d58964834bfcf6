//! What a trace does not hold. A reader that does not know of a gap would guess; this module says how much is missing
//! and where.

use aegis_types::{RawRecord, Time};
use serde::{Deserialize, Serialize};

/// Records of one producer that are missing in one place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The producer's number.
    pub producer: u16,
    /// Records missing here.
    pub lost: u64,
    /// The stamp of the producer's last record before the gap; `None` if it has none.
    pub after: Option<Time>,
    /// The stamp of the producer's first record after the gap; `None` if it has none.
    pub before: Option<Time>,
    /// The sequence number of the producer's first record after the gap; `None` if it has none.
    pub resumes: Option<u32>,
}

/// What became of everything that a producer emitted, told by the closing chunk of a trace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Records emitted.
    pub emitted: u64,
    /// Records that found the ring full.
    pub dropped: u64,
    /// Records that gave way to younger ones, where the trace is kept in bounded memory.
    pub overwritten: u64,
}

impl Gap {
    /// Whether part of the gap may lie in `[start, end)`.
    pub fn touches(&self, start: Time, end: Time) -> bool {
        self.after.is_none_or(|after| after < end) && self.before.is_none_or(|before| before >= start)
    }
}

/// The gaps of one producer, in order. `records` are all that is left of it, in the order in which they were emitted.
///
/// Without `totals` (the trace was not closed) the end cannot be judged, and the beginning is judged by the first
/// sequence number. A hole of 2^32 records or more between two that are left is seen modulo 2^32.
pub(crate) fn of(producer: u16, records: &[RawRecord], totals: Option<Totals>) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let (Some(first), Some(last)) = (records.first(), records.last()) else {
        let lost = totals.map_or(0, |t| t.emitted);
        gaps.push(Gap { producer, lost, after: None, before: None, resumes: None });
        gaps.retain(|gap| gap.lost > 0);
        return gaps;
    };
    let mut held = records.len() as u64;
    for (a, b) in records.iter().zip(&records[1..]) {
        let lost = u64::from(missing(a, b.sequence()));
        held += lost;
        if lost > 0 {
            gaps.push(Gap { resumes: Some(b.sequence()), ..between(producer, lost, Some(a), Some(b)) });
        }
    }
    let trailing = totals.map_or(0, |t| missing(last, t.emitted as u32).into());
    gaps.push(between(producer, trailing, Some(last), None));
    let leading =
        totals.map_or(first.sequence().into(), |t| t.emitted.saturating_sub(held.saturating_add(trailing)));
    gaps.insert(0, Gap { resumes: Some(first.sequence()), ..between(producer, leading, None, Some(first)) });
    gaps.retain(|gap| gap.lost > 0);
    gaps
}

/// Sequence numbers strictly between `record`'s and `next`.
fn missing(record: &RawRecord, next: u32) -> u32 {
    next.wrapping_sub(record.sequence()).wrapping_sub(1)
}

fn between(producer: u16, lost: u64, a: Option<&RawRecord>, b: Option<&RawRecord>) -> Gap {
    Gap { producer, lost, after: a.map(|r| r.stamp), before: b.map(|r| r.stamp), resumes: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(sequences: &[u32], emitted: Option<u64>, expected: &[(u64, Option<u64>, Option<u64>)]) {
        let record = |&s: &u32| RawRecord::new(Time::new(s.into()), 1, [0; 6]).placed(5, s);
        let records: Vec<_> = sequences.iter().map(record).collect();
        let totals = emitted.map(|emitted| Totals { emitted, ..Totals::default() });
        let seen: Vec<_> = of(5, &records, totals)
            .iter()
            .map(|g| (g.lost, g.after.map(Time::get), g.before.map(Time::get)))
            .collect();
        assert_eq!(seen, expected, "{sequences:?} of {emitted:?}");
    }

    #[test]
    fn gaps_are_found_at_every_place() {
        check(&[0, 1, 2], Some(3), &[]);
        check(&[], Some(0), &[]);
        check(&[], None, &[]);
        check(&[], Some(4), &[(4, None, None)]);
        check(&[2, 3], None, &[(2, None, Some(2))]);
        check(&[0, 4, 5], Some(9), &[(3, Some(0), Some(4)), (3, Some(5), None)]);
        check(&[3, 5], Some(7), &[(3, None, Some(3)), (1, Some(3), Some(5)), (1, Some(5), None)]);
    }

    #[test]
    fn gaps_are_counted_across_the_wrap() {
        let max = u32::MAX;
        check(
            &[max - 1, 1],
            Some((1 << 32) + 2),
            &[(u64::from(max) - 1, None, Some(u64::from(max) - 1)), (2, Some(u64::from(max) - 1), Some(1))],
        );
    }

    #[test]
    fn a_gap_touches_what_lies_between_its_ends() {
        let gap = Gap {
            producer: 0,
            lost: 1,
            after: Some(Time::new(10)),
            before: Some(Time::new(20)),
            resumes: Some(1),
        };
        let touches = |a, b| gap.touches(Time::new(a), Time::new(b));
        assert!(touches(0, 11) && touches(20, 30) && touches(12, 13));
        assert!(!touches(0, 10) && !touches(21, 30));
    }
}
