//! When a spinning thread did not run: the time between its looks, and the stalls among them.

use aegis_types::{Nanos, Time};
use hdrhistogram::Histogram;

use crate::config::{Figure, HostStalls};
use crate::error::RuntimeError;

/// From which length on a gap is a stall and not a piece of work: a cycle with something to do takes a tenth of it, a
/// preemption several times as long.
pub const STALL: Nanos = Nanos::from_micros(20);

/// Watches the gaps between a thread's looks. A look costs tens of nanoseconds, so that there are too many to keep.
#[derive(Debug)]
pub struct Gaps {
    histogram: Histogram<u64>,
    limit: Nanos,
    last: Option<Time>,
    start: Option<Time>,
    largest: Nanos,
    count: u64,
    /// When the last stall began.
    stalled: Option<Time>,
    closest: Option<Nanos>,
    observed: Nanos,
}

impl Gaps {
    /// Gaps of at least `limit` are stalls.
    ///
    /// # Errors
    /// [`RuntimeError::System`] if there is no memory for the distribution.
    pub fn new(limit: Nanos) -> Result<Self, RuntimeError> {
        let failed = |error: hdrhistogram::CreationError| RuntimeError::System {
            what: "making a distribution",
            reason: error.to_string(),
        };
        // Up to 10 s, and every value to one part in a thousand; what is longer is counted as 10 s here, while the
        // largest gap is kept exactly.
        let histogram = Histogram::new_with_max(10_000_000_000, 3).map_err(failed)?;
        Ok(Self {
            histogram,
            limit,
            last: None,
            start: None,
            largest: Nanos::ZERO,
            count: 0,
            stalled: None,
            closest: None,
            observed: Nanos::ZERO,
        })
    }

    /// The thread looks. Allocates nothing.
    pub fn look(&mut self, now: Time) {
        self.start.get_or_insert(now);
        let Some(last) = self.last.replace(now) else { return };
        let gap = now.since(last);
        self.histogram.saturating_record(gap.get());
        self.largest = self.largest.max(gap);
        if gap < self.limit {
            return;
        }
        self.count += 1;
        if let Some(before) = self.stalled.replace(last) {
            let apart = last.since(before);
            self.closest = Some(self.closest.map_or(apart, |closest| closest.min(apart)));
        }
    }

    /// The thread worked until now, and looks again: that was no gap.
    pub fn worked(&mut self, now: Time) {
        self.last = Some(now);
    }

    /// The thread stops looking on purpose: what comes until it looks again is no gap, and no distance of stalls.
    pub fn pause(&mut self) {
        if let (Some(start), Some(last)) = (self.start.take(), self.last.take()) {
            self.observed = self.observed.saturating_add(last.since(start));
        }
        self.stalled = None;
    }

    /// The distribution of gaps under a name; `None` without any.
    pub fn figure(&self, name: &str) -> Option<Figure> {
        // The histogram rounds up within its precision; the largest is known exactly and must stay the largest.
        let mark = |quantile: f64| Nanos::new(self.histogram.value_at_quantile(quantile)).min(self.largest);
        (!self.histogram.is_empty()).then(|| Figure {
            name: name.to_owned(),
            samples: self.histogram.len(),
            p50: mark(0.5),
            p99: mark(0.99),
            p999: mark(0.999),
            max: self.largest,
            stalls: 0,
        })
    }

    /// The stalls so far.
    pub fn stalls(&mut self) -> HostStalls {
        self.pause();
        HostStalls {
            observed: self.observed,
            limit: self.limit,
            count: self.count,
            largest: self.largest,
            closest: self.closest,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Slow and obvious: all gaps kept, every pair of stalls in one stretch compared.
    fn oracle(stretches: &[Vec<u64>], limit: u64) -> (u64, u64, Option<u64>, u64) {
        let (mut count, mut largest, mut closest, mut observed) = (0, 0, None::<u64>, 0);
        for stretch in stretches {
            let mut now = 0;
            let mut starts = Vec::new();
            for &gap in stretch {
                if gap >= limit {
                    starts.push(now);
                }
                now += gap;
                largest = largest.max(gap);
            }
            count += starts.len() as u64;
            observed += now;
            for (index, start) in starts.iter().enumerate() {
                for other in &starts[..index] {
                    closest = Some(closest.map_or(start - other, |closest| closest.min(start - other)));
                }
            }
        }
        (count, largest, closest, observed)
    }

    proptest! {
        #[test]
        fn stalls_are_those_of_all_gaps_kept(
            stretches in prop::collection::vec(prop::collection::vec(1u64..60_000, 1..40), 1..5),
        ) {
            let mut gaps = Gaps::new(STALL).expect("there is memory");
            let mut now = 5;
            for stretch in &stretches {
                gaps.look(Time::new(now));
                for gap in stretch {
                    now += gap;
                    gaps.look(Time::new(now));
                }
                gaps.pause();
                now += 1_000_000;
            }
            let found = gaps.stalls();
            let all: Vec<u64> = stretches.iter().flatten().copied().collect();
            let (count, largest, closest, observed) = oracle(&stretches, STALL.get());
            prop_assert_eq!((found.count, found.largest, found.closest, found.observed),
                (count, Nanos::new(largest), closest.map(Nanos::new), Nanos::new(observed)));
            let figure = gaps.figure("gaps").expect("there are gaps");
            prop_assert_eq!(figure.samples, all.len() as u64);
            prop_assert!(figure.marks().is_sorted_by_key(|(_, mark)| *mark), "{:?}", figure);
        }
    }

    #[test]
    fn a_pause_is_no_gap() {
        let mut gaps = Gaps::new(STALL).expect("there is memory");
        gaps.look(Time::new(0));
        gaps.pause();
        gaps.look(Time::new(1_000_000_000));
        assert_eq!(gaps.figure("gaps"), None);
        let stalls = gaps.stalls();
        assert_eq!((stalls.count, stalls.largest, stalls.closest), (0, Nanos::ZERO, None));
    }
}
