//! Quantities that only a device's state has, each in the finest unit that a source gives.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A clock frequency in hertz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hertz(u64);

impl Hertz {
    /// A frequency in hertz.
    pub const fn new(hertz: u64) -> Self {
        Self(hertz)
    }

    /// A frequency in whole megahertz.
    pub const fn from_megahertz(megahertz: u32) -> Self {
        Self(megahertz as u64 * 1_000_000)
    }

    /// A frequency in whole kilohertz.
    pub const fn from_kilohertz(kilohertz: u32) -> Self {
        Self(kilohertz as u64 * 1_000)
    }

    /// The frequency in hertz.
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Hertz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thousandths(f, i64::try_from(self.0 / 1_000).unwrap_or(i64::MAX), "MHz")
    }
}

/// A temperature in thousandths of a degree Celsius.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Millicelsius(i32);

impl Millicelsius {
    /// A temperature in thousandths of a degree.
    pub const fn new(thousandths: i32) -> Self {
        Self(thousandths)
    }

    /// The temperature in thousandths of a degree.
    pub const fn get(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Millicelsius {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thousandths(f, i64::from(self.0), "degrees C")
    }
}

/// A power in milliwatts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Milliwatts(u32);

impl Milliwatts {
    /// A power in milliwatts.
    pub const fn new(milliwatts: u32) -> Self {
        Self(milliwatts)
    }

    /// The power in milliwatts.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Milliwatts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        thousandths(f, i64::from(self.0), "W")
    }
}

/// A share in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Permille(u32);

impl Permille {
    /// A share in thousandths.
    pub const fn new(thousandths: u32) -> Self {
        Self(thousandths)
    }

    /// The share in thousandths.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Permille {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}%", self.0 / 10, self.0 % 10)
    }
}

/// A number of thousandths with at most three decimals, of which trailing zeros are left out.
fn thousandths(f: &mut fmt::Formatter<'_>, value: i64, unit: &str) -> fmt::Result {
    let sign = if value < 0 { "-" } else { "" };
    let (whole, rest) = (value.unsigned_abs() / 1_000, value.unsigned_abs() % 1_000);
    let text = format!("{sign}{whole}.{rest:03}");
    write!(f, "{} {unit}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_told_without_idle_zeros() {
        let cases = [
            (Hertz::from_megahertz(1_980).to_string(), "1980 MHz"),
            (Hertz::new(1_300_500_000).to_string(), "1300.5 MHz"),
            (Hertz::from_kilohertz(76_800).to_string(), "76.8 MHz"),
            (Hertz::new(0).to_string(), "0 MHz"),
            (Hertz::new(u64::MAX).to_string(), "18446744073709.551 MHz"),
            (Millicelsius::new(44_093).to_string(), "44.093 degrees C"),
            (Millicelsius::new(-500).to_string(), "-0.5 degrees C"),
            (Milliwatts::new(71_000).to_string(), "71 W"),
            (Permille::new(985).to_string(), "98.5%"),
        ];
        for (told, expected) in cases {
            assert_eq!(told, expected);
        }
    }
}
