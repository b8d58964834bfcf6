//! A value that a source may not be able to give, with the reason kept.
//!
//! A machine that lacks a library, a permission or a sensor still has a report. A zero or an empty list in place of
//! the missing value would read as a measurement, so the reason travels in its place.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A value, or why nothing on this machine tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reading<T> {
    /// The value.
    Known(T),
    /// The reason.
    Unknown(String),
}

impl<T> Reading<T> {
    /// What a source says of something that is not its subject. Any other source's answer or reason goes first.
    pub const fn untold() -> Self {
        Self::Unknown(String::new())
    }

    /// The value, if it is known.
    pub const fn known(&self) -> Option<&T> {
        match self {
            Self::Known(value) => Some(value),
            Self::Unknown(_) => None,
        }
    }

    /// The reason, if the value is unknown.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Known(_) => None,
            Self::Unknown(reason) => Some(reason),
        }
    }

    /// This value, else the other one; the reasons of both where neither is known.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(value), _) | (Self::Unknown(_), Self::Known(value)) => Self::Known(value),
            (Self::Unknown(first), Self::Unknown(second)) => {
                let both = [first, second];
                Self::Unknown(
                    both.iter().filter(|one| !one.is_empty()).cloned().collect::<Vec<_>>().join("; "),
                )
            }
        }
    }

    /// The same with `reason` where no source had one.
    #[must_use]
    pub fn settled(self, reason: &str) -> Self {
        match self {
            Self::Unknown(none) if none.is_empty() => Self::Unknown(reason.to_owned()),
            told => told,
        }
    }

    /// The value made into another one.
    pub fn map<R>(self, f: impl FnOnce(T) -> R) -> Reading<R> {
        match self {
            Self::Known(value) => Reading::Known(f(value)),
            Self::Unknown(reason) => Reading::Unknown(reason),
        }
    }

    /// The value in words, or `unknown (reason)`.
    pub fn told(&self, words: impl FnOnce(&T) -> String) -> String {
        match self {
            Self::Known(value) => words(value),
            Self::Unknown(reason) if reason.is_empty() => "unknown".to_owned(),
            Self::Unknown(reason) => format!("unknown ({reason})"),
        }
    }
}

impl<T, E: fmt::Display> From<Result<T, E>> for Reading<T> {
    fn from(result: Result<T, E>) -> Self {
        match result {
            Ok(value) => Self::Known(value),
            Err(reason) => Self::Unknown(reason.to_string()),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Reading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.told(T::to_string))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_known_value_wins_and_reasons_add_up() {
        let known = |value: u32| Reading::Known(value);
        let unknown = |reason: &str| Reading::<u32>::Unknown(reason.to_owned());
        let cases = [
            (known(1), known(2), known(1)),
            (known(1), unknown("b"), known(1)),
            (unknown("a"), known(2), known(2)),
            (unknown("a"), unknown("b"), unknown("a; b")),
            (Reading::untold(), unknown("b"), unknown("b")),
            (unknown("a"), Reading::untold(), unknown("a")),
            (Reading::untold(), Reading::untold(), Reading::untold()),
        ];
        for (first, second, expected) in cases {
            assert_eq!(first.clone().or(second.clone()), expected, "{first:?} or {second:?}");
        }
    }

    #[test]
    fn unknown_values_are_told_with_their_reason() {
        assert_eq!(Reading::Known(7).to_string(), "7");
        assert_eq!(Reading::<u32>::Unknown("no sensor".into()).to_string(), "unknown (no sensor)");
        assert_eq!(Reading::<u32>::untold().to_string(), "unknown");
        assert_eq!(Reading::<u32>::untold().settled("none asked").to_string(), "unknown (none asked)");
        assert_eq!(Reading::<u32>::Unknown("kept".into()).settled("other"), Reading::Unknown("kept".into()));
        assert_eq!(Reading::Known(7).settled("other"), Reading::Known(7));
    }
}
