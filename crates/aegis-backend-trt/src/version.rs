//! Version numbers of the vendor's libraries, and which of them fit which headers.
//!
//! The vendor writes a version as one integer and has changed how: 8.x as 1000, 100 and 1, later ones as 10000, 100
//! and 1. TensorRT-RTX, another product with the same functions, counts from 1.x in the later way.

use std::fmt;

/// A version of TensorRT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Another one is another binary interface.
    pub major: i32,
    /// Grows the interface at its end.
    pub minor: i32,
    /// Changes no interface.
    pub patch: i32,
}

impl Version {
    /// Reads the vendor's integer.
    ///
    /// # Errors
    /// What the number says instead, in words.
    pub(crate) fn decode(number: i32) -> Result<Self, String> {
        let split = |major| Self { major: number / major, minor: number % major / 100, patch: number % 100 };
        match number {
            1_000..10_000 => Ok(split(1_000)),
            10_000..20_000 => {
                let Self { major, minor, patch } = split(10_000);
                Err(format!("it is TensorRT-RTX {major}.{minor}.{patch}, another product; legal is TensorRT"))
            }
            100_000.. => Ok(split(10_000)),
            _ => Err(format!("it says that its version is {number}, which no TensorRT has said")),
        }
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

/// What a compilation of the shim fits: libraries of its headers' major version that are not older than what it uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fit {
    /// The headers, in the vendor's writing.
    pub headers: i32,
    /// The oldest library that has every function used, in the same writing.
    pub oldest: i32,
}

impl Fit {
    /// Whether a library of this version may be called.
    ///
    /// Within a major version the vendor's interface only grows at its end, so that older libraries lack functions and
    /// newer ones do not. Between major versions it has changed in place: a call would land in another function.
    pub(crate) fn takes(self, library: Version) -> bool {
        let (Ok(headers), Ok(oldest)) = (Version::decode(self.headers), Version::decode(self.oldest)) else {
            return false;
        };
        headers.major == library.major && library >= oldest
    }

    /// The versions that fit, in words.
    pub(crate) fn range(self) -> String {
        match (Version::decode(self.headers), Version::decode(self.oldest)) {
            (Ok(headers), Ok(oldest)) => format!("{}.x from {oldest} (headers of {headers})", headers.major),
            _ => format!("none: its headers say {}", self.headers),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(major: i32, minor: i32, patch: i32) -> Version {
        Version { major, minor, patch }
    }

    #[test]
    fn each_way_of_writing_a_version_is_read() {
        for (number, expected) in [
            (8_601, version(8, 6, 1)),
            (8_500, version(8, 5, 0)),
            (100_300, version(10, 3, 0)),
            (101_303, version(10, 13, 3)),
            (110_400, version(11, 4, 0)),
        ] {
            assert_eq!(Version::decode(number), Ok(expected));
        }
        for (number, word) in
            [(10_700, "TensorRT-RTX 1.7.0"), (0, "no TensorRT"), (-1, "no TensorRT"), (50_000, "50000")]
        {
            let reason = Version::decode(number).unwrap_err();
            assert!(reason.contains(word), "{number}: {reason}");
        }
    }

    #[test]
    fn a_library_fits_headers_of_its_own_major_version_from_the_oldest_on() {
        let fit = Fit { headers: 110_400, oldest: 110_000 };
        for (library, fits) in [
            (version(11, 0, 0), true),
            (version(11, 4, 0), true),
            (version(11, 9, 1), true),
            (version(10, 16, 1), false),
            (version(12, 0, 0), false),
            (version(8, 6, 1), false),
        ] {
            assert_eq!(fit.takes(library), fits, "{library}");
        }
        let fit = Fit { headers: 100_300, oldest: 100_100 };
        assert!(fit.takes(version(10, 1, 0)) && !fit.takes(version(10, 0, 1)));
        assert_eq!(fit.range(), "10.x from 10.1.0 (headers of 10.3.0)");
        assert!(Fit { headers: 8_601, oldest: 8_600 }.takes(version(8, 6, 3)));
    }
}
