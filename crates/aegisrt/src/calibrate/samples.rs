//! Samples of one duration, and what is charged for it.

use aegis_types::Nanos;

use crate::config::Figure;

/// Samples of one overhead.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    sorted: Vec<Nanos>,
    /// How many larger ones were left out as stalls.
    stalls: u64,
}

impl Samples {
    /// Sorts the samples.
    pub fn new(mut samples: Vec<Nanos>) -> Self {
        samples.sort_unstable();
        Self { sorted: samples, stalls: 0 }
    }

    /// Samples of what threads do, without the largest thousandth: among many thousand samples those are preemptions,
    /// which are no cost of the step but stalls, and are declared as such with their number.
    pub(super) fn trimmed(samples: Vec<Nanos>) -> Self {
        let mut all = Self::new(samples);
        let (limit, count) = (all.quantile(999), all.count());
        all.sorted.retain(|sample| *sample <= limit);
        all.stalls = (count - all.count()) as u64;
        all
    }

    /// These and others.
    pub(super) fn with(mut self, others: Vec<Nanos>) -> Self {
        self.sorted.extend(others);
        self.sorted.sort_unstable();
        self
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.sorted.len()
    }

    /// The sample that `per_mille` of 1,000 do not exceed; zero without samples.
    pub fn quantile(&self, per_mille: usize) -> Nanos {
        let rank = (self.sorted.len() * per_mille).div_ceil(1_000);
        self.sorted.get(rank.saturating_sub(1)).copied().unwrap_or(Nanos::ZERO)
    }

    /// The largest; zero without samples.
    pub fn max(&self) -> Nanos {
        self.quantile(1_000)
    }

    pub(super) fn charged(&self, margin_ppm: u64) -> Nanos {
        let max = self.max();
        max.scale_ppm_up(1_000_000 + margin_ppm).unwrap_or(max)
    }

    /// The distribution under a name; `None` without samples.
    pub fn figure(&self, name: impl Into<String>) -> Option<Figure> {
        (!self.sorted.is_empty()).then(|| Figure {
            name: name.into(),
            samples: self.sorted.len() as u64,
            p50: self.quantile(500),
            p99: self.quantile(990),
            p999: self.quantile(999),
            max: self.max(),
            stalls: self.stalls,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_samples() {
        let samples = Samples::new((1..=1_000).rev().map(Nanos::new).collect());
        assert_eq!(samples.quantile(500), Nanos::new(500));
        assert_eq!(samples.quantile(999), Nanos::new(999));
        assert_eq!(samples.max(), Nanos::new(1_000));
        assert_eq!(Samples::default().max(), Nanos::ZERO);
        assert_eq!(samples.charged(200_000), Nanos::new(1_200));
        let figure = samples.figure("lap").expect("there are samples");
        assert_eq!(
            (figure.p50, figure.p99, figure.p999),
            (Nanos::new(500), Nanos::new(990), Nanos::new(999))
        );
        assert_eq!((figure.samples, figure.max, figure.stalls), (1_000, Nanos::new(1_000), 0));
        let trimmed =
            Samples::trimmed((1..=2_000).map(Nanos::new).collect()).figure("lap").expect("there are");
        assert_eq!((trimmed.samples, trimmed.max, trimmed.stalls), (1_998, Nanos::new(1_998), 2));
        assert_eq!(Samples::default().figure("lap"), None);
    }
}
