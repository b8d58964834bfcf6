//! Samples of one duration, and what is charged for it.

use aegis_types::Nanos;

use super::gaps::STALL;
use crate::config::Figure;

/// Samples of one overhead.
#[derive(Clone, Debug, Default)]
pub struct Samples {
    sorted: Vec<Nanos>,
    /// How many larger ones were left out as stalls.
    stalls: u64,
    /// The largest that [is no stall](sound), left out or not.
    largest: Nanos,
}

/// How many of the samples, which rise, are no stalls: all below [`STALL`], and of the others all but the largest
/// thousandth of the samples. More long ones than that are how the host is.
pub(super) fn sound(sorted: &[Nanos]) -> usize {
    let long = sorted.len() - sorted.partition_point(|sample| *sample < STALL);
    sorted.len() - long.min(sorted.len() / 1_000)
}

/// What is charged for a high-water mark.
pub(super) fn with_margin(span: Nanos, margin_ppm: u64) -> Nanos {
    span.scale_ppm_up(margin_ppm.saturating_add(1_000_000)).unwrap_or(Nanos::MAX)
}

/// Of what is never done.
pub(super) static NONE: Samples = Samples { sorted: Vec::new(), stalls: 0, largest: Nanos::ZERO };

impl Samples {
    /// Sorts the samples.
    pub fn new(mut samples: Vec<Nanos>) -> Self {
        samples.sort_unstable();
        let largest = samples.last().copied().unwrap_or(Nanos::ZERO);
        Self { sorted: samples, stalls: 0, largest }
    }

    /// Samples of a step without its stalls, which were `stalls`.
    pub(super) fn without(samples: Vec<Nanos>, stalls: u64) -> Self {
        Self { stalls, ..Self::new(samples) }
    }

    /// Samples of what threads do, without the largest thousandth: among many thousand samples those are preemptions,
    /// which are no cost of the step but stalls, and are declared as such with their number.
    pub(super) fn trimmed(samples: Vec<Nanos>) -> Self {
        let mut all = Self::new(samples);
        let sound = sound(&all.sorted);
        all.largest = sound.checked_sub(1).map_or(Nanos::ZERO, |last| all.sorted[last]);
        let (limit, count) = (all.quantile(999), all.count());
        all.sorted.retain(|sample| *sample <= limit);
        all.stalls = (count - all.count()) as u64;
        all
    }

    /// These and others.
    pub(super) fn with(mut self, others: Vec<Nanos>) -> Self {
        self.sorted.extend(others);
        self.sorted.sort_unstable();
        self.largest = self.largest.max(self.max());
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
        with_margin(self.max(), margin_ppm)
    }

    /// How much longer than the longest that is kept one was that was left out and is no stall.
    pub(super) fn beyond(&self) -> Nanos {
        self.largest.saturating_sub(self.max())
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

    #[test]
    fn only_stalls_are_lost_without_a_trace() {
        let of = |long: usize, length: Nanos| {
            let samples = std::iter::repeat_n(Nanos::new(100), 4_000 - long);
            Samples::trimmed(samples.chain(std::iter::repeat_n(length, long)).collect())
        };
        let tick = Nanos::from_micros(19);
        assert_eq!(of(3, tick).beyond(), tick.saturating_sub(Nanos::new(100)), "no stall of the host's");
        assert_eq!(of(4, STALL).beyond(), Nanos::ZERO, "a thousandth of stalls");
        assert_eq!((of(5, STALL).max(), of(5, STALL).beyond()), (STALL, Nanos::ZERO), "how the host is");
        assert_eq!(Samples::default().beyond(), Nanos::ZERO);
    }
}
