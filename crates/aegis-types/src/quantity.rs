//! Units as types: a span is not an instant, and neither is a size.
//!
//! All arithmetic that can overflow is checked: in analysis an overflow means "not schedulable", never a wrapped
//! bound. The operators `+` and `-` are therefore deliberately absent.

use std::fmt;

use crate::parse;

/// A span of time in nanoseconds (0 to about 584 years).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Nanos(u64);

impl Nanos {
    /// The empty span.
    pub const ZERO: Self = Self(0);
    /// The largest span that can be represented.
    pub const MAX: Self = Self(u64::MAX);

    /// A span of `ns` nanoseconds.
    pub const fn new(ns: u64) -> Self {
        Self(ns)
    }

    /// A span of `us` microseconds.
    ///
    /// # Panics
    /// If the span does not fit 64 bits of nanoseconds; meant for constants.
    pub const fn from_micros(us: u64) -> Self {
        Self(us.checked_mul(1_000).expect("microseconds fit u64 nanoseconds"))
    }

    /// A span of `ms` milliseconds.
    ///
    /// # Panics
    /// If the span does not fit 64 bits of nanoseconds; meant for constants.
    pub const fn from_millis(ms: u64) -> Self {
        Self(ms.checked_mul(1_000_000).expect("milliseconds fit u64 nanoseconds"))
    }

    /// The span in nanoseconds.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The span in microseconds, for people; analysis never uses it.
    pub fn as_micros_f64(self) -> f64 {
        self.0 as f64 / 1e3
    }

    /// Whether the span is empty.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` on overflow.
    pub const fn checked_add(self, rhs: Self) -> Option<Self> {
        match self.0.checked_add(rhs.0) {
            Some(ns) => Some(Self(ns)),
            None => None,
        }
    }

    /// The difference, or `None` if `rhs` is longer.
    pub const fn checked_sub(self, rhs: Self) -> Option<Self> {
        match self.0.checked_sub(rhs.0) {
            Some(ns) => Some(Self(ns)),
            None => None,
        }
    }

    /// The product, or `None` on overflow.
    pub const fn checked_mul(self, factor: u64) -> Option<Self> {
        match self.0.checked_mul(factor) {
            Some(ns) => Some(Self(ns)),
            None => None,
        }
    }

    /// The difference, or zero if `rhs` is longer.
    pub const fn saturating_sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }

    /// The sum, or [`Nanos::MAX`] on overflow. For statistics and accumulated overruns, where the largest value is
    /// the conservative one.
    pub const fn saturating_add(self, rhs: Self) -> Self {
        Self(self.0.saturating_add(rhs.0))
    }

    /// `ceil(self * ppm / 10^6)`: scaling against ourselves. `None` on overflow.
    pub const fn scale_ppm_up(self, ppm: u64) -> Option<Self> {
        let scaled = (self.0 as u128 * ppm as u128).div_ceil(1_000_000);
        if scaled > u64::MAX as u128 { None } else { Some(Self(scaled as u64)) }
    }
}

/// An instant on the one host clock, in nanoseconds since the run's epoch.
///
/// `Time + Time` does not compile; instants move by spans only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// The run's epoch.
    pub const ZERO: Self = Self(0);
    /// The last instant that can be represented.
    pub const MAX: Self = Self(u64::MAX);

    /// The instant `ns` nanoseconds after the epoch.
    pub const fn new(ns: u64) -> Self {
        Self(ns)
    }

    /// Nanoseconds since the epoch.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The instant `span` later, or `None` past the end of time.
    pub const fn checked_add(self, span: Nanos) -> Option<Self> {
        match self.0.checked_add(span.0) {
            Some(ns) => Some(Self(ns)),
            None => None,
        }
    }

    /// The instant `span` later, or [`Time::MAX`].
    pub const fn saturating_add(self, span: Nanos) -> Self {
        Self(self.0.saturating_add(span.0))
    }

    /// The instant `span` earlier, or the epoch.
    pub const fn saturating_sub(self, span: Nanos) -> Self {
        Self(self.0.saturating_sub(span.0))
    }

    /// The span since `earlier`, or `None` if `earlier` lies in the future.
    pub const fn checked_since(self, earlier: Self) -> Option<Nanos> {
        match self.0.checked_sub(earlier.0) {
            Some(ns) => Some(Nanos(ns)),
            None => None,
        }
    }

    /// The span since `earlier`, or zero if `earlier` lies in the future.
    pub const fn since(self, earlier: Self) -> Nanos {
        Nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A size or an offset of memory in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bytes(u64);

impl Bytes {
    /// No bytes.
    pub const ZERO: Self = Self(0);
    /// The largest size that can be represented.
    pub const MAX: Self = Self(u64::MAX);

    /// A size of `bytes` bytes.
    pub const fn new(bytes: u64) -> Self {
        Self(bytes)
    }

    /// The size in bytes.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether there are no bytes.
    pub const fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// The sum, or `None` on overflow.
    pub const fn checked_add(self, rhs: Self) -> Option<Self> {
        match self.0.checked_add(rhs.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The difference, or `None` if `rhs` is larger.
    pub const fn checked_sub(self, rhs: Self) -> Option<Self> {
        match self.0.checked_sub(rhs.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }

    /// The difference, or zero if `rhs` is larger.
    pub const fn saturating_sub(self, rhs: Self) -> Self {
        Self(self.0.saturating_sub(rhs.0))
    }

    /// The next multiple of `align`, or `None` on overflow or when `align` is zero.
    pub const fn checked_align_up(self, align: Bytes) -> Option<Self> {
        if align.0 == 0 {
            return None;
        }
        match self.0.checked_next_multiple_of(align.0) {
            Some(bytes) => Some(Self(bytes)),
            None => None,
        }
    }
}

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&parse::print(self.0, parse::SPANS))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&parse::print(self.0, parse::SPANS))
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&parse::print(self.0, parse::SIZES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overflow_is_none() {
        assert_eq!(Nanos::MAX.checked_add(Nanos::new(1)), None);
        assert_eq!(Nanos::MAX.checked_mul(2), None);
        assert_eq!(Nanos::ZERO.checked_sub(Nanos::new(1)), None);
        assert_eq!(Time::MAX.checked_add(Nanos::new(1)), None);
        assert_eq!(Bytes::MAX.checked_align_up(Bytes::new(64)), None);
    }

    #[test]
    fn scaling_rounds_up() {
        assert_eq!(Nanos::new(1).scale_ppm_up(1), Some(Nanos::new(1)));
        assert_eq!(Nanos::new(10).scale_ppm_up(1_200_000), Some(Nanos::new(12)));
        assert_eq!(Nanos::MAX.scale_ppm_up(1_000_001), None);
    }

    #[test]
    fn instants_and_spans() {
        let later = Time::new(5).checked_add(Nanos::new(7)).expect("fits");
        assert_eq!(later.checked_since(Time::new(5)), Some(Nanos::new(7)));
        assert_eq!(Time::new(5).checked_since(later), None);
        assert_eq!(Time::new(5).since(later), Nanos::ZERO);
    }
}
