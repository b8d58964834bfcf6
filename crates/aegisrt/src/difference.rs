//! How far two tensors are apart.

use aegis_cuda::ElementType;

/// The largest difference of two numbers, as a share of the largest expected one or of one: one where other values than
/// floating-point numbers differ, not a number where one of two is none.
pub fn of_one(element: ElementType, expected: &[u8], found: &[u8]) -> f64 {
    if expected == found {
        return 0.0;
    }
    let size = usize::try_from(element.size().get()).unwrap_or(1);
    let is_real =
        matches!(element, ElementType::F16 | ElementType::Bf16 | ElementType::F32 | ElementType::F64);
    if !is_real || expected.len() != found.len() {
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
    use super::*;

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
