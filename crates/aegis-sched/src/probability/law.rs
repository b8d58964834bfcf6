//! Laws of execution times.

use aegis_types::Nanos;

use super::{LawError, upward};

/// The law of one execution time: finitely many values with whole weights, so that it is a law exactly. A value's
/// probability is its weight over the sum of the weights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Law {
    /// By value, no weight zero, no value twice.
    atoms: Vec<(Nanos, u64)>,
    total: u64,
}

impl Law {
    /// The largest sum of weights: below it every weight is a float exactly.
    pub const WEIGHT_MAX: u64 = 1 << 53;

    /// A law from values and weights, in any order; weights of equal values are added.
    ///
    /// # Errors
    /// [`LawError::Empty`] without a weight above zero, [`LawError::Weights`] above [`Law::WEIGHT_MAX`].
    pub fn new(mut atoms: Vec<(Nanos, u64)>) -> Result<Self, LawError> {
        atoms.retain(|(_, weight)| *weight > 0);
        atoms.sort_unstable();
        let total = atoms.iter().try_fold(0u64, |sum, (_, weight)| sum.checked_add(*weight));
        let total = total
            .filter(|&sum| sum <= Self::WEIGHT_MAX)
            .ok_or(LawError::Weights { max: Self::WEIGHT_MAX })?;
        if atoms.is_empty() {
            return Err(LawError::Empty);
        }
        atoms.dedup_by(|next, kept| {
            let equal = next.0 == kept.0;
            kept.1 += if equal { next.1 } else { 0 };
            equal
        });
        Ok(Self { atoms, total })
    }

    /// An execution time that is always the same.
    pub fn constant(value: Nanos) -> Self {
        Self { atoms: vec![(value, 1)], total: 1 }
    }

    /// The values with their weights, by value.
    pub fn atoms(&self) -> &[(Nanos, u64)] {
        &self.atoms
    }

    /// The sum of the weights.
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// The largest value.
    pub fn max(&self) -> Nanos {
        self.atoms.last().map_or(Nanos::ZERO, |(value, _)| *value)
    }

    /// Values with upper bounds of their probabilities.
    pub(super) fn masses(&self) -> impl Iterator<Item = (u64, f64)> + '_ {
        self.atoms.iter().map(|(value, weight)| (value.get(), upward::ratio(*weight, self.total)))
    }
}
