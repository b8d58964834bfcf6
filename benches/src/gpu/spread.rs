//! How durations spread: counts in a histogram while measuring, a few numbers and sparse counts in a result.

use aegis_types::Nanos;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// The longest duration that is told apart: an hour.
const LONGEST: u64 = 3_600_000_000_000;

/// Steps of a written histogram within a factor of two: 3 % apart, so that a thousand samples stay a short list.
const STEPS_PER_OCTAVE: f64 = 24.0;

/// Durations of one thing, to three significant digits, with the exact extremes.
#[derive(Clone, Debug)]
pub struct Spread {
    counts: Histogram<u64>,
    least: u64,
    most: u64,
}

/// What is written of a [`Spread`]. Durations are in nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields are the usual statistics, with their units in their names")]
pub struct SpreadRow {
    pub n: u64,
    pub mean_ns: f64,
    /// Standard deviation over mean.
    pub cv: f64,
    pub min_ns: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
    pub p999_ns: u64,
    pub max_ns: u64,
    /// Lower edge of a step and how many samples lie in it; empty steps are left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub histogram: Vec<(u64, u64)>,
}

impl Default for Spread {
    fn default() -> Self {
        Self::new()
    }
}

impl Spread {
    /// An empty one.
    ///
    /// # Panics
    /// Never: the range and the digits of the histogram are fixed and legal.
    pub fn new() -> Self {
        let counts =
            Histogram::new_with_bounds(1, LONGEST, 3).expect("1 to an hour at three digits is legal");
        Self { counts, least: u64::MAX, most: 0 }
    }

    /// Adds one duration. Allocates nothing.
    pub fn add(&mut self, span: Nanos) {
        self.counts.saturating_record(span.get().max(1));
        self.least = self.least.min(span.get());
        self.most = self.most.max(span.get());
    }

    /// Adds the counts of a histogram whose exact largest value is known.
    pub fn add_histogram(&mut self, counts: &Histogram<u64>, most: Nanos) {
        for step in counts.iter_recorded() {
            let (value, count) = (step.value_iterated_to(), step.count_since_last_iteration());
            self.counts.saturating_record_n(value.max(1), count);
            self.least = self.least.min(value);
        }
        self.most = self.most.max(most.get());
    }

    /// Adds every duration of another.
    pub fn merge(&mut self, other: &Self) {
        // Both have the bounds of `new`, which is the only way that adding could fail.
        let _same_bounds = self.counts.add(&other.counts);
        self.least = self.least.min(other.least);
        self.most = self.most.max(other.most);
    }

    /// How many durations it holds.
    pub fn count(&self) -> u64 {
        self.counts.len()
    }

    /// The duration that the share `quantile` (0 to 1) of all does not exceed; zero without any.
    pub fn quantile(&self, quantile: f64) -> Nanos {
        if self.counts.is_empty() {
            return Nanos::ZERO;
        }
        // A step of the histogram may end above the largest sample.
        Nanos::new(self.counts.value_at_quantile(quantile).min(self.most))
    }

    /// The largest, exactly; zero without any.
    pub const fn max(&self) -> Nanos {
        Nanos::new(self.most)
    }

    /// Standard deviation over mean; zero without any.
    pub fn variation(&self) -> f64 {
        if self.counts.is_empty() { 0.0 } else { self.counts.stdev() / self.counts.mean() }
    }

    /// Standard deviation over mean of the samples up to the quantile `upto`.
    pub fn trimmed_variation(&self, upto: f64) -> f64 {
        // The histogram's own value: the exact maximum may lie inside the last step.
        let limit = self.counts.value_at_quantile(upto);
        let mut kept = Self::new();
        for step in self.counts.iter_recorded().take_while(|step| step.value_iterated_to() <= limit) {
            kept.counts.saturating_record_n(step.value_iterated_to(), step.count_since_last_iteration());
        }
        kept.variation()
    }

    /// What is written, without the histogram.
    pub fn row(&self) -> SpreadRow {
        if self.counts.is_empty() {
            return SpreadRow::default();
        }
        SpreadRow {
            n: self.count(),
            mean_ns: (self.counts.mean() * 10.0).round() / 10.0,
            cv: (self.variation() * 1e5).round() / 1e5,
            min_ns: self.least,
            p50_ns: self.quantile(0.5).get(),
            p99_ns: self.quantile(0.99).get(),
            p999_ns: self.quantile(0.999).get(),
            max_ns: self.most,
            histogram: Vec::new(),
        }
    }

    /// What is written, with a histogram whose steps are 3 % apart.
    pub fn row_with_histogram(&self) -> SpreadRow {
        let mut histogram: Vec<(u64, u64)> = Vec::new();
        for step in self.counts.iter_recorded() {
            let edge = step_edge(step.value_iterated_to());
            match histogram.last_mut() {
                Some((last, count)) if *last == edge => *count += step.count_since_last_iteration(),
                _ => histogram.push((edge, step.count_since_last_iteration())),
            }
        }
        SpreadRow { histogram, ..self.row() }
    }

    /// How many clusters the samples form: maxima that hold at least 5 % of the samples, parted by a gap in which the
    /// counts fall below a quarter of the smaller of the two. More than one says that there are modes, not noise.
    pub fn modes(&self) -> usize {
        modes(&self.row_with_histogram().histogram, self.count())
    }
}

fn step_edge(value: u64) -> u64 {
    let step = ((value.max(1) as f64).log2() * STEPS_PER_OCTAVE).floor();
    (step / STEPS_PER_OCTAVE).exp2().floor() as u64
}

fn modes(histogram: &[(u64, u64)], total: u64) -> usize {
    let mut found = 0;
    let mut peak = 0u64;
    let mut valley = 0u64;
    let mut last_edge = 0.0f64;
    for &(edge, count) in histogram {
        // Steps that are left out are empty: a gap of more than one step is a valley of zero.
        let gap = (edge as f64).log2() - last_edge > 2.5 / STEPS_PER_OCTAVE;
        last_edge = (edge as f64).log2();
        valley = if gap { 0 } else { valley.min(count) };
        if count * 20 >= total {
            if peak == 0 || valley * 4 < peak.min(count) {
                found += 1;
                peak = count;
            }
            peak = peak.max(count);
            valley = count;
        }
    }
    found
}

impl SpreadRow {
    /// `p50 / p99 / p99.9 / max` in microseconds, for tables.
    pub fn brief(&self) -> String {
        let us = |ns: u64| ns as f64 / 1e3;
        format!(
            "{:>8.1} {:>8.1} {:>8.1} {:>8.1}",
            us(self.p50_ns),
            us(self.p99_ns),
            us(self.p999_ns),
            us(self.max_ns)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(spans: impl IntoIterator<Item = u64>) -> Spread {
        let mut spread = Spread::new();
        spans.into_iter().for_each(|span| spread.add(Nanos::new(span)));
        spread
    }

    #[test]
    fn a_row_holds_the_extremes_exactly_and_every_sample_once() {
        let spread = of((1..=1_000).map(|n| n * 1_003));
        let row = spread.row_with_histogram();
        assert_eq!((row.n, row.min_ns, row.max_ns), (1_000, 1_003, 1_003_000));
        assert_eq!(row.histogram.iter().map(|(_, count)| count).sum::<u64>(), 1_000);
        assert!(row.histogram.is_sorted_by(|a, b| a.0 < b.0) && row.histogram.len() < 260);
        assert!((row.p50_ns as f64 / 501_500.0 - 1.0).abs() < 0.01, "{row:?}");
    }

    #[test]
    fn the_variation_of_a_constant_is_zero_and_of_a_pair_is_known() {
        assert!(of([5_000; 50]).variation() < 1e-3);
        // Half at 1, half at 3: the mean is 2 and the deviation 1.
        let pair = of((0..100).map(|n| if n % 2 == 0 { 1_000_000 } else { 3_000_000 }));
        assert!((pair.variation() - 0.5).abs() < 0.01, "{}", pair.variation());
        assert_eq!(of([]).row(), SpreadRow::default());
    }

    #[test]
    fn two_clusters_are_two_modes_and_one_is_one() {
        let noise = |centre: u64| (0..500u64).map(move |n| centre + (n * 7_919) % (centre / 100));
        assert_eq!(of(noise(100_000)).modes(), 1);
        assert_eq!(of(noise(100_000).chain(noise(150_000))).modes(), 2);
        assert_eq!(of(noise(100_000).chain([900_000, 950_000])).modes(), 1, "two outliers are no mode");
    }

    #[test]
    fn merging_is_adding() {
        let mut left = of([10, 20]);
        left.merge(&of([5, 40]));
        assert_eq!((left.count(), left.max(), left.row().min_ns), (4, Nanos::new(40), 5));
    }
}
