//! Tails of a distribution of durations: p50, p99, p99.9 and the maximum, beside the limit that is to hold.
//!
//! Times are read with the system's monotonic clock, and reading it twice is part of every sample. That cost is
//! measured and printed, never subtracted: a limit that is met is met with it.

use std::fmt;
use std::time::{Duration, Instant};

use aegis_types::Nanos;
use hdrhistogram::Histogram;

/// Picoseconds in a nanosecond: a batch is divided by its length without rounding to whole nanoseconds.
const PICOS: u64 = 1_000;

/// The longest duration that is told apart: an hour. Longer ones count as an hour.
const LONGEST: u64 = 3_600_000_000_000 * PICOS;

/// Durations of one thing, to three significant digits.
#[derive(Clone, Debug)]
pub struct Series {
    name: String,
    picos: Histogram<u64>,
    limit: Option<Nanos>,
}

impl Series {
    /// An empty series without a limit.
    ///
    /// # Panics
    /// Never: the range and the digits of the histogram are fixed and legal.
    pub fn new(name: impl Into<String>) -> Self {
        let picos = Histogram::new_with_bounds(1, LONGEST, 3).expect("1 to an hour at three digits is legal");
        Self { name: name.into(), picos, limit: None }
    }

    /// The same series with a limit that its p99 is held against.
    #[must_use]
    pub fn limited(self, limit: Nanos) -> Self {
        Self { limit: Some(limit), ..self }
    }

    /// Adds one duration.
    pub fn record(&mut self, span: Duration) {
        self.record_batch(span, 1);
    }

    /// Adds the mean of a batch of `length` equal things that took `span` together.
    pub fn record_batch(&mut self, span: Duration, length: u64) {
        let picos = span.as_nanos().saturating_mul(PICOS.into()) / u128::from(length.max(1));
        self.picos.saturating_record(u64::try_from(picos).unwrap_or(LONGEST).max(1));
    }

    /// Runs `work` `n` times and adds how long each took.
    pub fn measure(&mut self, n: u64, mut work: impl FnMut()) {
        for _ in 0..n {
            let start = Instant::now();
            work();
            self.record(start.elapsed());
        }
    }

    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.picos.len()
    }

    /// The duration that the share `quantile` (0 to 1) of all does not exceed, in nanoseconds, rounded up.
    pub fn quantile(&self, quantile: f64) -> Nanos {
        Nanos::new(self.picos.value_at_quantile(quantile).div_ceil(PICOS))
    }

    /// Whether p99 is within the limit; `None` without a limit or without durations.
    pub fn is_met(&self) -> Option<bool> {
        self.limit.filter(|_| self.count() > 0).map(|limit| self.quantile(0.99) <= limit)
    }
}

/// One line: name, p50, p99, p99.9, maximum, n, limit, and whether it is met.
impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<34}", self.name)?;
        for (label, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            let text = span(self.picos.value_at_quantile(quantile));
            write!(f, " {label} {text:>9}")?;
        }
        write!(f, " n {:>8}", self.count())?;
        match (self.limit, self.is_met()) {
            (Some(limit), Some(true)) => write!(f, " limit p99 {limit} met"),
            (Some(limit), Some(false)) => write!(f, " limit p99 {limit} missed"),
            (Some(limit), None) => write!(f, " limit p99 {limit} unknown"),
            (None, _) => f.write_str(" no limit"),
        }
    }
}

/// What reading the clock twice takes: part of every duration that is measured alone.
pub fn timer_cost(n: u64) -> Series {
    let mut series = Series::new("timer");
    series.measure(n, || {});
    series
}

/// The median of some durations of the same work: one preempted run does not stand for the work. Zero without any.
pub fn median(spans: &mut [Duration]) -> Duration {
    spans.sort_unstable();
    spans.get(spans.len() / 2).copied().unwrap_or(Duration::ZERO)
}

fn span(picos: u64) -> String {
    let nanos = picos as f64 / PICOS as f64;
    if nanos < 10_000.0 {
        format!("{nanos:.1}ns")
    } else if nanos < 10_000_000.0 {
        format!("{:.1}us", nanos / 1e3)
    } else {
        format!("{:.1}ms", nanos / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(spans: impl IntoIterator<Item = u64>) -> Series {
        let mut series = Series::new("steps").limited(Nanos::from_micros(1));
        spans.into_iter().for_each(|nanos| series.record(Duration::from_nanos(nanos)));
        series
    }

    #[test]
    fn the_limit_is_held_against_the_99th_percentile() {
        let mut steps = series((0..99).map(|_| 900));
        steps.record(Duration::from_millis(3));
        assert_eq!((steps.count(), steps.is_met()), (100, Some(true)));
        steps.record(Duration::from_millis(3));
        assert_eq!(steps.is_met(), Some(false));
        assert_eq!(series([]).is_met(), None);
    }

    #[test]
    fn a_line_tells_everything() {
        let line = series((1..=1_000).map(|n| n * 10)).to_string();
        for part in ["steps", "p50  50", "p99  99", "max    10.0us", "n     1000", "limit p99 1us missed"] {
            assert!(line.contains(part), "`{part}` is not in: {line}");
        }
    }

    #[test]
    fn batches_are_divided_below_a_nanosecond() {
        let mut pushes = Series::new("push");
        pushes.record_batch(Duration::from_nanos(100), 64);
        let line = pushes.to_string();
        assert!(line.contains("p50     1.6ns") && line.ends_with("no limit"), "{line}");
        assert_eq!(pushes.quantile(0.5), Nanos::new(2));
    }

    #[test]
    fn one_preempted_run_does_not_move_the_median() {
        let mut spans = [5, 4, 900, 6, 5].map(Duration::from_micros);
        assert_eq!(median(&mut spans), Duration::from_micros(5));
        assert_eq!(median(&mut []), Duration::ZERO);
    }
}
