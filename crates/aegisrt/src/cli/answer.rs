//! What a command says: for people, for programs, and by its exit code.

use aegis_memory::MemoryError;
use aegis_sched::ModelError;
use aegis_trace::TraceError;
use aegis_types::Severity;
use serde_json::{Value, json};

use crate::config::ConfigError;
use crate::error::RuntimeError;
use crate::tally::Outcome;

/// The answer of a command that did what was asked.
#[derive(Clone, Debug)]
pub struct Answer {
    /// For people; ends with a line break unless empty.
    pub text: String,
    /// For programs.
    pub json: Value,
    /// What the exit code says.
    pub exit: Exit,
}

impl Answer {
    /// An answer of a command that is done.
    pub const fn done(text: String, json: Value) -> Self {
        Self { text, json, exit: Exit::Done }
    }
}

/// The documented exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done,
    /// A certified deadline was missed with no broken assumption, or a checker found a violation.
    Violated,
    /// The input is wrong.
    BadInput,
    /// Admission refused.
    Refused,
    /// Deadlines were missed, each explained by a broken assumption.
    Explained,
    /// A limit was reached before a verdict.
    Undecided,
    /// The machine or a library failed.
    Fatal,
    /// The operator ended the run; the trace is complete.
    Interrupted,
}

impl Exit {
    /// The code.
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Violated => 1,
            Self::BadInput => 2,
            Self::Refused => 3,
            Self::Explained => 4,
            Self::Undecided => 5,
            Self::Fatal => 70,
            Self::Interrupted => 130,
        }
    }
}

impl From<Outcome> for Exit {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Kept => Self::Done,
            Outcome::Explained => Self::Explained,
            Outcome::Violated => Self::Violated,
        }
    }
}

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// What was asked makes no sense, and what would.
    #[error("{0}")]
    Input(String),
    /// Memory is not enough: a verdict, with the names of the tasks.
    #[error("refused: {0}")]
    Refused(String),
    /// A file for the answer cannot be written.
    #[error("{path}: cannot be written: {reason}")]
    Unwritable {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
}

impl CliError {
    /// What the exit code says.
    pub fn exit(&self) -> Exit {
        match self {
            Self::Runtime(RuntimeError::Memory(
                MemoryError::Shortage(_) | MemoryError::NoPlacement { .. },
            ))
            | Self::Runtime(RuntimeError::Group(_))
            | Self::Refused(_) => Exit::Refused,
            Self::Runtime(error) => match error.severity() {
                Severity::Permanent => Exit::BadInput,
                // A command line is its own caller, and has no better moment to try again.
                Severity::Transient | Severity::Fatal => Exit::Fatal,
            },
            Self::Input(_) | Self::Unwritable { .. } => Exit::BadInput,
        }
    }

    /// For programs.
    pub fn json(&self) -> Value {
        json!({ "error": self.to_string(), "exit_code": self.exit().code() })
    }
}

macro_rules! through_runtime {
    ($($error:ty),*) => {$(
        impl From<$error> for CliError {
            fn from(error: $error) -> Self {
                Self::Runtime(error.into())
            }
        }
    )*};
}

through_runtime!(
    ConfigError,
    ModelError,
    TraceError,
    MemoryError,
    aegis_cuda::DeviceError,
    aegis_cuda::BackendError
);

#[cfg(test)]
mod tests {
    use aegis_types::LaneId;

    use super::*;

    #[test]
    fn codes_are_the_documented_ones() {
        let lost = RuntimeError::CarrierLost { lane: LaneId::new(0), reason: "gone".into() };
        assert_eq!(CliError::from(lost).exit().code(), 70);
        let file = RuntimeError::File { path: "x".into(), reason: "absent".into() };
        assert_eq!(CliError::from(file).exit().code(), 2);
        assert_eq!(CliError::Refused("no".into()).exit().code(), 3);
        for outcome in [Outcome::Kept, Outcome::Explained, Outcome::Violated] {
            assert_eq!(Exit::from(outcome).code(), outcome.exit_code());
        }
    }
}
