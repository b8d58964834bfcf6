//! The tail of a sum of independent execution times, by Chernoff's bound: fast, and one or two decades above the truth.
//!
//! ```text
//! P(S >= x) <= exp( sum of n_i ln M_i(s) - s x )   for every s > 0,   M_i(s) = E[exp(s C_i)]
//! ```
//!
//! Chen, Chen, SIES 2017; Chen, Ueter, von der Brueggen, Chen, DATE 2019 (the exponent is convex in s, so its least value
//! is found by bisection of the derivative). Times are whole, so P(S > t) is P(S >= t + 1): x = t + 1. Any s gives a
//! bound, so the search may end anywhere; what its arithmetic rounds is covered by `ROUNDING`.

use aegis_types::Nanos;

use super::{Law, LawError};

/// Relative error that the exponent is charged with, over the sum of the magnitudes of its parts. Some thousand
/// times what `exp`, `ln` and the sums of one evaluation lose.
const ROUNDING: f64 = 1e-12;

/// Halvings of the interval in which s is looked for.
const HALVINGS: u32 = 100;

/// An upper bound of P(sum > threshold) for independent draws: so many of each law.
///
/// # Errors
/// [`LawError::Range`] where the largest sum does not fit.
pub fn exceedance(draws: &[(&Law, u64)], threshold: Nanos) -> Result<f64, LawError> {
    let largest = draws
        .iter()
        .try_fold(0u64, |sum, (law, count)| sum.checked_add(law.max().get().checked_mul(*count)?));
    let largest = largest.ok_or(LawError::Range)?;
    if largest <= threshold.get() {
        return Ok(0.0);
    }
    // Below the largest sum, so it fits.
    let exponent = Exponent { draws, x: threshold.get() + 1 };
    let unit = 1.0 / largest as f64;
    let mut high = unit;
    // Beyond this factor every exponential but that of a law's largest value is zero.
    while exponent.slope(high) < 0.0 && high < unit * 1e18 {
        high *= 2.0;
    }
    let mut low = 0.0;
    for _ in 0..HALVINGS {
        let middle = f64::midpoint(low, high);
        if exponent.slope(middle) < 0.0 { low = middle } else { high = middle }
    }
    Ok(exponent.bound(low).min(exponent.bound(high)).min(1.0))
}

struct Exponent<'a> {
    draws: &'a [(&'a Law, u64)],
    x: u64,
}

impl Exponent<'_> {
    /// The derivative by s.
    fn slope(&self, s: f64) -> f64 {
        let mean = |law: &Law| {
            let (mass, moment) = tilted(law, s)
                .fold((0.0, 0.0), |(mass, moment), (value, weight)| (mass + weight, moment + weight * value));
            moment / mass
        };
        self.draws.iter().map(|(law, count)| *count as f64 * mean(law)).sum::<f64>() - self.x as f64
    }

    /// The bound at s, with its rounding.
    fn bound(&self, s: f64) -> f64 {
        let mut exponent = -s * self.x as f64;
        let mut magnitude = exponent.abs() + 1.0;
        for (law, count) in self.draws {
            // ln M(s) = s max + ln E[exp(s (C - max))]: nothing overflows.
            let (count, top) = (*count as f64, s * law.max().get() as f64);
            let rest = (tilted(law, s).map(|(_, weight)| weight).sum::<f64>() / law.total() as f64).ln();
            exponent += count * (top + rest);
            magnitude += count * (top + rest.abs() + 1.0);
        }
        (exponent + magnitude * ROUNDING).exp().next_up()
    }
}

/// Values with their weights times exp(s (value - max)): at most the weight, and the weight itself for the largest.
fn tilted(law: &Law, s: f64) -> impl Iterator<Item = (f64, f64)> + '_ {
    let max = law.max().get();
    law.atoms().iter().map(move |(value, weight)| {
        let below = (max - value.get()) as f64;
        (value.get() as f64, *weight as f64 * (-s * below).exp())
    })
}
