//! What contexts and lanes refuse, classed by the response that each refusal demands.

use aegis_cuda::{BackendError, DeviceError};
use aegis_types::{Bytes, GrantRefused, LaneId, Severity};

use crate::state::{ExecutionEvent, ExecutionState, Illegal, LaneEvent, LaneState};

/// Why a context was not made, or why its I/O was not touched. Nothing stays taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ContextError {
    /// The budget grants too few streams.
    #[error("model `{model}`: the budget grants {granted} streams; a linear graph needs 1")]
    Streams {
        /// The model.
        model: String,
        /// Streams granted.
        granted: u32,
    },
    /// The model does not fit its memory budget.
    #[error("model `{model}`: {what} needs {needed}, the budget grants {granted}")]
    MemoryBudget {
        /// The model.
        model: String,
        /// What was added up when the budget was exceeded.
        what: &'static str,
        /// What is needed.
        needed: Bytes,
        /// What is granted.
        granted: Bytes,
    },
    /// The grant gave no memory for I/O.
    #[error("model `{model}`: tensor `{tensor}`: {source}")]
    Io {
        /// The model.
        model: String,
        /// The tensor.
        tensor: String,
        /// The refusal.
        source: GrantRefused,
    },
    /// The device does not share the host's memory, and no staging, or too little, was given.
    #[error("model `{model}`: staging of its I/O needs {needed}, given is {granted}")]
    Staging {
        /// The model.
        model: String,
        /// What the I/O plan takes.
        needed: Bytes,
        /// What was given.
        granted: Bytes,
    },
    /// A number of slots is not legal.
    #[error("model `{model}`: {asked} {what} slots; legal: 1 to {most}")]
    Slots {
        /// The model.
        model: String,
        /// Input or output.
        what: &'static str,
        /// What the plan says.
        asked: u32,
        /// The most that are legal.
        most: u32,
    },
    /// A state pair does not fit the model.
    #[error("model `{model}`: state `{output}` -> `{input}`: {reason}")]
    State {
        /// The model.
        model: String,
        /// The output that is carried.
        output: String,
        /// The input that it feeds.
        input: String,
        /// What is wrong, and what would be legal.
        reason: String,
    },
    /// There is no such tensor or slot, or the bytes do not fill it.
    #[error("model `{model}`: {what} {index} of slot {slot}: {reason}")]
    Access {
        /// The model.
        model: String,
        /// Input or output.
        what: &'static str,
        /// Its position.
        index: usize,
        /// The slot.
        slot: u32,
        /// What is wrong, and what would be legal.
        reason: String,
    },
    /// The backend refused or panicked.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// The lane cannot take a model in its state.
    #[error("a model is loaded while its lane is {0}; legal: while it is idle")]
    LaneNotIdle(LaneState),
}

impl ContextError {
    /// The response that the error demands.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Streams { .. }
            | Self::MemoryBudget { .. }
            | Self::Io { .. }
            | Self::Staging { .. }
            | Self::Slots { .. }
            | Self::State { .. }
            | Self::Access { .. } => Severity::Permanent,
            Self::Backend(error) => error.severity(),
            Self::Device(error) => error.severity(),
            // A running segment ends; a lost lane stays lost.
            Self::LaneNotIdle(LaneState::Lost) => Severity::Fatal,
            Self::LaneNotIdle(LaneState::Unbound | LaneState::Idle(_) | LaneState::Launched(_)) => {
                Severity::Transient
            }
        }
    }
}

/// Why a launch did not run its segment to the end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// The backend or the device failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// The lane is busy, lost, or the number is stale. Nothing was signalled: that would free a busy lane.
    #[error("lane: {0}")]
    Lane(Illegal<LaneState, LaneEvent>),
    /// The context is poisoned, or the segment is not the one that is due. The lane was signalled.
    #[error("context: {0}")]
    Context(Illegal<ExecutionState, ExecutionEvent>),
    /// The model was loaded on another lane. The lane that was asked was signalled.
    #[error("a model of {home} was launched on {here}")]
    OtherLane {
        /// Where the model was loaded.
        home: LaneId,
        /// Where it was launched.
        here: LaneId,
    },
    /// There is no such slot. The lane was signalled.
    #[error("slot {slot} of {slots}")]
    Slot {
        /// The slot asked for.
        slot: u32,
        /// How many there are.
        slots: usize,
    },
}

impl LaunchError {
    /// The response that the error demands.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Backend(error) => error.severity(),
            Self::Lane(Illegal { state: LaneState::Lost, .. }) => Severity::Fatal,
            Self::Lane(_) | Self::Context(_) | Self::OtherLane { .. } | Self::Slot { .. } => {
                Severity::Permanent
            }
        }
    }
}
