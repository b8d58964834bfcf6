//! What the runtime refuses, classed by the response that each refusal demands.

use aegis_cuda::{BackendError, DeviceError};
use aegis_sched::ModelError;
use aegis_types::{LaneId, Severity};

/// Why the runtime did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RuntimeError {
    /// A file of the user is wrong.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Tasks and platform are no model.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A backend refused.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A model could not be made ready on its lane.
    #[error(transparent)]
    Context(#[from] aegis_context::ContextError),
    /// Memory was refused.
    #[error(transparent)]
    Memory(#[from] aegis_memory::MemoryError),
    /// A group of tasks asks for more than its budget.
    #[error(transparent)]
    Group(Box<crate::groups::Excess>),
    /// The trace cannot be written or read.
    #[error(transparent)]
    Trace(#[from] aegis_trace::TraceError),
    /// A file cannot be read or written.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// The system's reason.
        reason: String,
    },
    /// Inputs of a task cannot be used.
    #[error("task `{task}`: inputs: {reason}")]
    Inputs {
        /// The task.
        task: String,
        /// What is wrong.
        reason: String,
    },
    /// The system refused something.
    #[error("{what} failed: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        reason: String,
    },
    /// A carrier's thread ended by itself.
    #[error("the carrier of {lane} ended: {reason}")]
    CarrierLost {
        /// The lane.
        lane: LaneId,
        /// What it said.
        reason: String,
    },
}

impl RuntimeError {
    /// The response that the error demands.
    pub fn severity(&self) -> Severity {
        match self {
            Self::Config(_) | Self::File { .. } | Self::Inputs { .. } => Severity::Permanent,
            Self::Model(error) => error.severity(),
            Self::Device(error) => error.severity(),
            Self::Backend(error) => error.severity(),
            Self::Context(error) => error.severity(),
            Self::Memory(error) => error.severity(),
            Self::Group(excess) => excess.severity(),
            Self::Trace(error) => error.severity(),
            Self::System { .. } => Severity::Transient,
            Self::CarrierLost { .. } => Severity::Fatal,
        }
    }
}
