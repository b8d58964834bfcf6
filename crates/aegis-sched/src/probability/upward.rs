//! Arithmetic on masses that rounds up.
//!
//! A correctly rounded result lies within half a unit in the last place of the exact one, so the next float above it
//! is no less than the exact result. Masses are not negative, so sums and products of upper bounds are upper bounds.

/// An upper bound of `a + b`.
pub(super) fn add(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 { a + b } else { (a + b).next_up() }
}

/// An upper bound of `a * b`.
pub(super) fn multiply(a: f64, b: f64) -> f64 {
    if a == 0.0 || b == 0.0 {
        0.0
    } else if a == 1.0 || b == 1.0 {
        a * b
    } else {
        (a * b).next_up()
    }
}

/// An upper bound of `part / whole`, at most one.
pub(super) fn ratio(part: u64, whole: u64) -> f64 {
    if part == 0 {
        0.0
    } else if part >= whole {
        1.0
    } else {
        // Both conversions are off by half a unit at most: the numerator is raised, the denominator lowered.
        ((part as f64).next_up() / (whole as f64).next_down()).next_up().min(1.0)
    }
}
