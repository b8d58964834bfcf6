//! Text of quantities: exact in both directions, so that a value survives a round trip through a file.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::quantity::{Bytes, Nanos, Time};

/// Units of a quantity, smallest first: name and how many base units it holds.
pub(crate) type Units = &'static [(&'static str, u64)];

/// Units of time.
pub(crate) const SPANS: Units = &[("ns", 1), ("us", 1_000), ("ms", 1_000_000), ("s", 1_000_000_000)];
/// Units of memory.
pub(crate) const SIZES: Units = &[("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

/// Why a text is not a quantity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuantityError {
    /// The number has no unit or an unknown one.
    #[error("`{text}` needs one of the units {legal}")]
    Unit {
        /// The text as written.
        text: String,
        /// The units that would be legal.
        legal: String,
    },
    /// What stands before the unit is not a plain decimal number.
    #[error("`{text}` is not a number: write digits, at most one point, no sign, for example `{example}`")]
    Number {
        /// The text as written.
        text: String,
        /// A legal text.
        example: &'static str,
    },
    /// The value is finer than the smallest unit.
    #[error("`{text}` is finer than the smallest unit, {unit}")]
    TooFine {
        /// The text as written.
        text: String,
        /// The smallest unit.
        unit: &'static str,
    },
    /// The value does not fit 64 bits of the smallest unit.
    #[error("`{text}` is too large: at most {max}")]
    TooLarge {
        /// The text as written.
        text: String,
        /// The largest legal value.
        max: String,
    },
}

/// Prints `value` in the largest unit that needs at most three decimals, else in the smallest unit.
pub(crate) fn print(value: u64, units: Units) -> String {
    let decimal = units[1].1 == 1_000;
    let chosen = units.iter().rev().find(|(_, size)| {
        let step = if decimal && *size > 1 { size / 1_000 } else { *size };
        value >= *size && value.is_multiple_of(step)
    });
    let (name, size) = chosen.copied().unwrap_or(units[0]);
    let (whole, rest) = (value / size, value % size);
    if rest == 0 {
        return format!("{whole}{name}");
    }
    let thousandths = rest / (size / 1_000);
    let text = format!("{whole}.{thousandths:03}");
    format!("{}{name}", text.trim_end_matches('0'))
}

fn parse(text: &str, units: Units, example: &'static str) -> Result<u64, QuantityError> {
    let trimmed = text.trim();
    let split = trimmed.find(char::is_alphabetic).unwrap_or(trimmed.len());
    let (number, unit) = (trimmed[..split].trim_end(), &trimmed[split..]);
    // The micro sign, and the Greek letter that keyboards have for it.
    let unit = if matches!(unit, "\u{b5}s" | "\u{3bc}s") { "us" } else { unit };
    let Some((_, size)) = units.iter().find(|(name, _)| *name == unit) else {
        let legal: Vec<&str> = units.iter().map(|(name, _)| *name).collect();
        return Err(QuantityError::Unit { text: text.into(), legal: legal.join(", ") });
    };
    let bad = || QuantityError::Number { text: text.into(), example };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) || number.ends_with('.') {
        return Err(bad());
    }
    let too_large = || QuantityError::TooLarge { text: text.into(), max: print(u64::MAX, units) };
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    let mut value = whole.checked_mul(u128::from(*size)).ok_or_else(too_large)?;
    if !fraction.is_empty() {
        let fraction = fraction.trim_end_matches('0');
        let scale = u32::try_from(fraction.len()).ok().and_then(|n| 10u128.checked_pow(n));
        let part: u128 = if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| bad())? };
        let too_fine = || QuantityError::TooFine { text: text.into(), unit: units[0].0 };
        let scaled = part.checked_mul(u128::from(*size)).ok_or_else(too_fine)?;
        let scale = scale.ok_or_else(too_fine)?;
        if scaled % scale != 0 {
            return Err(too_fine());
        }
        value = value.checked_add(scaled / scale).ok_or_else(too_large)?;
    }
    u64::try_from(value).map_err(|_| too_large())
}

macro_rules! text_of {
    ($type:ty, $units:expr, $example:literal) => {
        impl FromStr for $type {
            type Err = QuantityError;

            fn from_str(text: &str) -> Result<Self, QuantityError> {
                parse(text, $units, $example).map(Self::new)
            }
        }

        /// Text such as
        #[doc = concat!("`", $example, "`")]
        /// in human-readable formats, a 64-bit integer of the smallest unit in binary ones.
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                if to.is_human_readable() { to.collect_str(self) } else { to.serialize_u64(self.get()) }
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                struct Text;
                impl de::Visitor<'_> for Text {
                    type Value = $type;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a text with a unit, for example \"", $example, "\""))
                    }
                    fn visit_str<E: de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                if from.is_human_readable() {
                    from.deserialize_str(Text)
                } else {
                    u64::deserialize(from).map(Self::new)
                }
            }
        }
    };
}

text_of!(Nanos, SPANS, "33ms");
text_of!(Time, SPANS, "1.5s");
text_of!(Bytes, SIZES, "256MiB");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_and_read_spans() {
        let check = |text: &str, ns: u64, printed: &str| {
            let span: Nanos = text.parse().expect(text);
            assert_eq!((span.get(), span.to_string().as_str()), (ns, printed), "{text}");
        };
        check("33ms", 33_000_000, "33ms");
        check("1.5 us", 1_500, "1.5us");
        check("0ms", 0, "0ns");
        check("1234567ns", 1_234_567, "1234.567us");
        check("33.0ms", 33_000_000, "33ms");
        check("33\u{b5}s", 33_000, "33us");
        check("0.5 \u{3bc}s", 500, "500ns");
        check("2000ms", 2_000_000_000, "2s");
    }

    #[test]
    fn people_write_and_read_sizes() {
        let check = |text: &str, bytes: u64, printed: &str| {
            let size: Bytes = text.parse().expect(text);
            assert_eq!((size.get(), size.to_string().as_str()), (bytes, printed), "{text}");
        };
        check("256MiB", 256 << 20, "256MiB");
        check("1.5KiB", 1536, "1536B");
        check("0B", 0, "0B");
    }

    #[test]
    fn every_value_survives_a_round_trip() {
        let mut x: u64 = 0x9E37_79B9_7F4A_7C15;
        for shift in (0..2_000).map(|i| i % 64) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let value = x >> shift;
            let (span, size) = (Nanos::new(value), Bytes::new(value));
            assert_eq!(span.to_string().parse(), Ok(span));
            assert_eq!(size.to_string().parse(), Ok(size));
        }
    }

    #[test]
    fn bad_text_says_what_is_legal() {
        let check = |text: &str, part: &str| {
            let error = text.parse::<Nanos>().expect_err(text).to_string();
            assert!(error.contains(part) && error.contains(text.trim()), "{text}: {error}");
        };
        check("33", "ns, us, ms, s");
        check("33 min", "ns, us, ms, s");
        check("-3ms", "no sign");
        check("1.ms", "digits");
        check("0.1ns", "finer");
        check("1.00000000000000000000000000000000000000000001s", "finer");
        check("99999999999s", "too large");
        check("999999999999999999999999999999999999999999999s", "too large");
        check("", "unit");
    }
}
