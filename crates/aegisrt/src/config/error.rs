//! What is wrong in a file: where it stands, what it says and what would be legal.

use std::fmt;
use std::path::PathBuf;

use aegis_sched::ModelError;
use aegis_types::{Nanos, Severity};

/// Where something stands in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file, as it was named to us.
    pub file: PathBuf,
    /// Line and column, both from 1, the column in characters; `None` where only the key is known.
    pub position: Option<(usize, usize)>,
    /// The key path, for example ``task[2] `detector`.period``; empty for the file as a whole.
    pub key: String,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        if self.key.is_empty() { Ok(()) } else { write!(f, ": {}", self.key) }
    }
}

/// Why a configuration was refused. Nothing of it is used then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read as text.
    #[error("{}: cannot be read: {reason}; legal: a readable file of UTF-8 text", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A file cannot be written; what stood there before still stands.
    #[error("{}: cannot be written: {reason}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// The text is not TOML or JSON, or ends too early.
    #[error("{place}: {reason}")]
    Syntax {
        /// Where reading stopped.
        place: Box<Place>,
        /// What was found there and what was expected.
        reason: String,
    },
    /// A key has a value that is not legal, is missing, or does not exist.
    #[error("{place}{}: {problem}; legal: {legal}", Written(value))]
    Field {
        /// Where it stands.
        place: Box<Place>,
        /// The value as written; `None` where nothing is written.
        value: Option<String>,
        /// What is wrong with it.
        problem: String,
        /// What would be legal.
        legal: String,
    },
    /// A profile does not describe what the fleet runs.
    #[error(
        "{}: the entry of task `{task}` is stale: it was made for {what} {recorded}, the fleet has {found}; \
         legal: a profile of this fleet, made by `aegis profile`",
        profile.display()
    )]
    Stale {
        /// The profile.
        profile: PathBuf,
        /// The task whose entry it is.
        task: String,
        /// What differs: the model, its shapes or the partitions.
        what: &'static str,
        /// What the profile recorded.
        recorded: Box<str>,
        /// The same of the fleet.
        found: Box<str>,
    },
    /// The fleet promises less compute than was measured or declared.
    #[error("{place} = {budget}: less than what {evidence} says, {needed}; legal: at least {needed}")]
    Budget {
        /// Where the promise stands.
        place: Box<Place>,
        /// The fleet's budget of one job.
        budget: Nanos,
        /// The smallest budget that the evidence allows.
        needed: Nanos,
        /// Who says so.
        evidence: String,
    },
    /// Fleet and platform together are no model of the scheduler.
    #[error("{}: {reason}", file.display())]
    Model {
        /// The fleet.
        file: PathBuf,
        /// What the scheduler refuses.
        reason: ModelError,
    },
}

impl ConfigError {
    /// Input that is wrong stays wrong.
    pub const fn severity(&self) -> Severity {
        Severity::Permanent
    }
}

/// A value behind an equals sign, or nothing.
struct Written<'a>(&'a Option<String>);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |value| write!(f, " = {value}"))
    }
}
