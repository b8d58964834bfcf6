//! Why an experiment ended without its result.

use std::path::PathBuf;

use aegis_cuda::{BackendError, DeviceError};
use aegis_sched::ModelError;
use aegisrt::RuntimeError;

/// Why an experiment ended without its result.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExperimentError {
    /// There is no device to measure: nothing failed.
    #[error("skipped: {0}")]
    Skipped(String),
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A backend refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// Tasks and platform are no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A file cannot be read or written.
    #[error("{}: {reason}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        reason: String,
    },
    /// A model failed while it was measured.
    #[error("{task} failed while it was measured: {reason}")]
    Failed {
        /// The task's name.
        task: String,
        /// What is known.
        reason: String,
    },
    /// Work that was launched did not end.
    #[error("{what} did not end within {seconds} s; the device or the lane hangs")]
    Hung {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// What was asked for cannot be had.
    #[error("{what}; legal: {legal}")]
    Illegal {
        /// What is wrong.
        what: String,
        /// What would be legal.
        legal: String,
    },
}

impl From<aegisrt::config::ConfigError> for ExperimentError {
    fn from(error: aegisrt::config::ConfigError) -> Self {
        Self::Runtime(error.into())
    }
}
