//! How far two sets of outputs are apart.

use aegis_cuda::{ElementType, TensorSpec};

use crate::difference;

/// The output that is farthest off, measured by what its type allows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Apart {
    /// Its name.
    pub output: String,
    /// The largest difference of two numbers, as a share of the output's largest number or of one.
    pub difference: f64,
    /// What that may be.
    pub tolerance: f64,
}

impl Apart {
    pub(super) fn is_within_tolerance(&self) -> bool {
        // Not a number is not within anything.
        self.difference <= self.tolerance
    }
}

/// Compares outputs number by number.
pub(super) fn largest(specs: &[TensorSpec], expected: &[Vec<u8>], found: &[Vec<u8>]) -> Apart {
    let mut worst = Apart { output: String::new(), difference: 0.0, tolerance: 1.0 };
    for (spec, (expected, found)) in specs.iter().zip(expected.iter().zip(found)) {
        let apart = Apart {
            output: spec.name.clone(),
            difference: difference::of_one(spec.element, expected, found),
            tolerance: tolerance(spec.element),
        };
        let share = |apart: &Apart| {
            if apart.tolerance > 0.0 { apart.difference / apart.tolerance } else { f64::INFINITY }
        };
        let is_worse = apart.difference.is_nan() || apart.difference > 0.0 && share(&apart) >= share(&worst);
        if worst.output.is_empty() || is_worse && !worst.difference.is_nan() {
            worst = apart;
        }
    }
    worst
}

/// What fusing nodes may change: rounding of each type, summed over a network's depth. Whole numbers are equal.
const fn tolerance(element: ElementType) -> f64 {
    match element {
        ElementType::F32 | ElementType::F64 => 1e-5,
        ElementType::F16 => 1e-2,
        ElementType::Bf16 => 5e-2,
        ElementType::I8
        | ElementType::I16
        | ElementType::I32
        | ElementType::I64
        | ElementType::U8
        | ElementType::U16
        | ElementType::U32
        | ElementType::U64
        | ElementType::Bool => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use aegis_types::Bytes;

    use super::*;

    fn spec(name: &str, element: ElementType) -> TensorSpec {
        TensorSpec { name: name.into(), element, shape: vec![2], bytes: Bytes::new(2 * element.size().get()) }
    }

    fn floats(numbers: [f32; 2]) -> Vec<u8> {
        numbers.iter().flat_map(|number| number.to_le_bytes()).collect()
    }

    #[test]
    fn differences_are_shares_of_the_largest_number() {
        let specs = [spec("a", ElementType::F32), spec("b", ElementType::I32)];
        let same = vec![1, 0, 0, 0, 2, 0, 0, 0];
        let compare = |a: [f32; 2], b: [f32; 2], c: &[u8]| {
            largest(&specs, &[floats(a), same.clone()], &[floats(b), c.to_vec()])
        };
        let equal = compare([1.0, -200.0], [1.0, -200.0], &same);
        assert!(equal.is_within_tolerance() && equal.difference == 0.0);
        let near = compare([1.0, -200.0], [1.001, -200.0], &same);
        assert!(near.is_within_tolerance() && (near.difference - 5e-6).abs() < 1e-7, "{near:?}");
        let far = compare([1.0, -2.0], [1.0, -2.1], &same);
        assert!(!far.is_within_tolerance() && far.output == "a", "{far:?}");
        let integer = compare([1.0, 1.0], [1.0, 1.0], &[1, 0, 0, 0, 3, 0, 0, 0]);
        assert!(!integer.is_within_tolerance() && integer.output == "b", "{integer:?}");
        assert!(!compare([1.0, 1.0], [f32::NAN, 1.0], &same).is_within_tolerance());
    }
}
