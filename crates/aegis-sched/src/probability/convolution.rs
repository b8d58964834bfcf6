//! The tail of a sum of independent execution times, by convolution.
//!
//! Exact in values while there are few of them; beyond [`SUPPORT_MAX`] values are rounded up onto a grid (re-sampling;
//! Maxim, Cucu-Grosjean, RTSS 2013), which only moves mass towards later. All mass at or above the threshold is one
//! atom: nothing is lost there.

use aegis_types::Nanos;

use super::{Law, LawError, upward};

/// Values that a sum keeps before they are rounded up onto a grid.
pub const SUPPORT_MAX: usize = 4_096;

/// Jobs that are added up; more are refused.
pub const JOBS_MAX: u64 = 10_000;

/// An upper bound of P(sum > threshold) for independent draws: so many of each law.
///
/// # Errors
/// [`LawError::TooMany`] above [`JOBS_MAX`] jobs in sum.
pub fn exceedance(draws: &[(&Law, u64)], threshold: Nanos) -> Result<f64, LawError> {
    exceedance_within(draws, threshold, SUPPORT_MAX)
}

/// [`exceedance`] with another number of values kept; at least two are.
///
/// # Errors
/// As [`exceedance`].
pub fn exceedance_within(draws: &[(&Law, u64)], threshold: Nanos, support: usize) -> Result<f64, LawError> {
    let jobs = draws.iter().fold(0u64, |sum, (_, count)| sum.saturating_add(*count));
    if jobs > JOBS_MAX {
        return Err(LawError::TooMany { jobs, max: JOBS_MAX });
    }
    let mut sum = Sum { masses: vec![(0, 1.0)], above: 0.0, threshold: threshold.get() };
    for (law, count) in draws {
        let masses: Vec<(u64, f64)> = law.masses().collect();
        for _ in 0..*count {
            sum.add(&masses);
            sum.resample(support.max(2));
        }
    }
    Ok(sum.above.min(1.0))
}

/// A law with upper bounds for masses: values up to the threshold, and one atom for all above.
struct Sum {
    masses: Vec<(u64, f64)>,
    above: f64,
    threshold: u64,
}

impl Sum {
    fn add(&mut self, law: &[(u64, f64)]) {
        let mut products = Vec::with_capacity(self.masses.len() * law.len());
        for &(value, mass) in &self.masses {
            for &(more, factor) in law {
                let product = upward::multiply(mass, factor);
                match value.checked_add(more).filter(|&sum| sum <= self.threshold) {
                    Some(sum) => products.push((sum, product)),
                    None => self.above = upward::add(self.above, product),
                }
            }
        }
        self.masses = merged(products);
    }

    /// Rounds values up onto a grid if there are more than `support`. The grid ends at the largest value, so no mass
    /// passes the threshold by rounding alone.
    fn resample(&mut self, support: usize) {
        let (Some(&(low, _)), Some(&(high, _))) = (self.masses.first(), self.masses.last()) else { return };
        if self.masses.len() <= support {
            return;
        }
        let step = (high - low).div_ceil(support as u64 - 1).max(1);
        let onto = |value: u64| high - (high - value) / step * step;
        self.masses = merged(self.masses.iter().map(|&(value, mass)| (onto(value), mass)).collect());
    }
}

fn merged(mut masses: Vec<(u64, f64)>) -> Vec<(u64, f64)> {
    // By mass as well, so that sums are made in one order everywhere.
    masses.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    masses.dedup_by(|next, kept| {
        let equal = next.0 == kept.0;
        if equal {
            kept.1 = upward::add(kept.1, next.1);
        }
        equal
    });
    masses
}
