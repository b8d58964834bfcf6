//! What can go wrong while a command runs, and the exit code that each failure ends with.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a command did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line names nothing that exists.
    #[error("{0}")]
    Usage(String),
    /// A program could not be started at all.
    #[error("cannot start `{command}`: {source}")]
    Start {
        /// The command line as printed.
        command: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A program ran and ended with a code that is not a success here.
    #[error("`{command}` ended with exit code {code}")]
    Failed {
        /// The command line as printed.
        command: String,
        /// Its exit code; 128 plus the signal's number where a signal ended it.
        code: i32,
    },
    /// A program was ended because its time was up.
    #[error("`{command}` was ended after {} s, its limit", limit.as_secs())]
    TimedOut {
        /// The command line as printed.
        command: String,
        /// How long it was allowed to run.
        limit: Duration,
    },
    /// A file or folder could not be read or written.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A download is missing, incomplete or not the pinned one.
    #[error("{0}")]
    Fetch(String),
    /// A committed file is not what its generator writes.
    #[error("{file}:{line}: generated is {wanted}, committed is {found}; `{command}` writes it anew")]
    Stale {
        /// The committed file.
        file: &'static str,
        /// The first line that differs, counted from 1.
        line: usize,
        /// What the committed file has there.
        found: String,
        /// What the generator writes there.
        wanted: String,
        /// The command that writes it.
        command: &'static str,
    },
    /// The lint found something; each finding has been printed.
    #[error("lint: {findings} finding(s) in {rules} rule(s)")]
    Lint {
        /// Findings of all rules together.
        findings: usize,
        /// Rules with at least one finding.
        rules: usize,
    },
    /// A bundle would not run where it is promised to, or cannot be put where it was asked for.
    #[error("{0}")]
    Bundle(String),
    /// This machine cannot build for the board, or what it built does not hold there.
    #[error("{0}")]
    Jetson(String),
    /// A fact about the workspace could not be read.
    #[error("cannot read the workspace: {0}")]
    Workspace(String),
    /// The stages together took longer than continuous integration allows.
    #[error("the stages took {} min, above the limit of {} min", took.as_secs() / 60, limit.as_secs() / 60)]
    TooSlow {
        /// Time of all stages together.
        took: Duration,
        /// The limit.
        limit: Duration,
    },
}

impl Error {
    /// Wraps an error of the file system with what was tried and where.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    /// The exit code of the process: that of the failed program, 2 for a wrong command line, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Failed { code, .. } => u8::try_from(*code).ok().filter(|&code| code != 0).unwrap_or(1),
            Self::Start { .. }
            | Self::TimedOut { .. }
            | Self::Io { .. }
            | Self::Fetch(_)
            | Self::Stale { .. }
            | Self::Lint { .. }
            | Self::Bundle(_)
            | Self::Jetson(_)
            | Self::Workspace(_)
            | Self::TooSlow { .. } => 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_program_hands_its_code_on_and_never_reads_as_success() {
        let failed = |code| Error::Failed { command: "x".to_owned(), code }.exit_code();
        assert_eq!(failed(3), 3);
        assert_eq!(failed(101), 101);
        assert_eq!(failed(256), 1);
        assert_eq!(failed(0), 1);
    }
}
