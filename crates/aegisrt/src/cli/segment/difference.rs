//! How far two sets of outputs are apart.

use aegis_cuda::{ElementType, TensorSpec};

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
            difference: of_one(spec.element, expected, found),
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

fn of_one(element: ElementType, expected: &[u8], found: &[u8]) -> f64 {
    if expected == found {
        return 0.0;
    }
    let size = usize::try_from(element.size().get()).unwrap_or(1);
    if tolerance(element) == 0.0 || expected.len() != found.len() {
        return 1.0;
    }
    let numbers =
        |bytes: &[u8]| bytes.chunks_exact(size).map(|word| number(element, word)).collect::<Vec<f64>>();
    let (expected, found) = (numbers(expected), numbers(found));
    let scale = expected.iter().fold(1.0f64, |most, number| most.max(number.abs()));
    let apart = |(a, b): (&f64, &f64)| if a.to_bits() == b.to_bits() { 0.0 } else { (a - b).abs() / scale };
    let pairs = expected.iter().zip(&found).map(apart);
    pairs.fold(0.0, |worst: f64, apart| if apart.is_nan() || apart > worst { apart } else { worst })
}

/// A floating-point number of a type.
fn number(element: ElementType, word: &[u8]) -> f64 {
    let two = || u16::from_le_bytes([word[0], word[1]]);
    let four = || [word[0], word[1], word[2], word[3]];
    match element {
        ElementType::F64 => {
            f64::from_bits(word.iter().rev().fold(0, |bits, byte| bits << 8 | u64::from(*byte)))
        }
        ElementType::F16 => half(two()),
        ElementType::Bf16 => f64::from(f32::from_bits(u32::from(two()) << 16)),
        _ => f64::from(f32::from_le_bytes(four())),
    }
}

/// A number of half precision: sign, five bits of exponent, ten of fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1F), f64::from(bits & 0x3FF) / 1024.0);
    sign * match exponent {
        0 => fraction * 2.0f64.powi(-14),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction) * 2.0f64.powi(exponent - 15),
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

    #[test]
    fn half_precision_is_read() {
        for (bits, value) in
            [(0x3C00, 1.0), (0xC000, -2.0), (0x3555, 0.333_251_953_125), (0x0001, 5.960_464_477_539_063e-8)]
        {
            assert_eq!(half(bits), value);
        }
        assert!(half(0x7C00).is_infinite() && half(0x7E00).is_nan());
    }
}
