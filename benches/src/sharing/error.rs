//! Why there is no answer.

use aegis_cuda::{BackendError, DeviceError};
use aegis_memory::MemoryError;
use aegisrt::RuntimeError;

use crate::gpu::error::ExperimentError;

/// Why there is no answer about shared memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SharingError {
    /// The runtime refused.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The library refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The memory was not planned or not reserved.
    #[error(transparent)]
    Memory(#[from] MemoryError),
    /// A job did not run.
    #[error("{task}: {reason}")]
    Job {
        /// The task's name.
        task: String,
        /// What is known.
        reason: String,
    },
    /// More lanes than tasks, or none.
    #[error("{lanes} lanes for {tasks} tasks; legal: from 1 to {tasks}")]
    Lanes {
        /// Lanes asked for.
        lanes: u16,
        /// Tasks that there are.
        tasks: usize,
    },
    /// What is resident is not known.
    #[error("the system does not say in /proc/self/status what of this process is resident")]
    Resident,
    /// What is in use on the GPU is not known.
    #[error(
        "no source tells how much of the GPU's memory is free; legal: a machine with the management library"
    )]
    Unwatched,
    /// The GPU could not be opened.
    #[error(transparent)]
    Gpu(#[from] ExperimentError),
    /// A lane's thread panicked.
    #[error("the thread of a lane panicked")]
    Panicked,
}

impl From<aegisrt::config::ConfigError> for SharingError {
    fn from(error: aegisrt::config::ConfigError) -> Self {
        Self::Runtime(error.into())
    }
}
