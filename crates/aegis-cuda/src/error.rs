//! What devices and backends refuse, classed by the response that each refusal demands.

use aegis_types::{Bytes, GrantRefused, LaneId, PartitionId, Severity};

/// Why a device did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device is not there or its driver cannot be loaded.
    #[error("device `{device}` is not available: {reason}")]
    Unavailable {
        /// The device asked for.
        device: String,
        /// What was missing.
        reason: String,
    },
    /// The device's memory does not hold the reservation.
    #[error("{asked} of {space} memory asked for, {free} of {capacity} free")]
    OutOfMemory {
        /// Which memory.
        space: &'static str,
        /// What was asked for.
        asked: Bytes,
        /// What is free.
        free: Bytes,
        /// What there is.
        capacity: Bytes,
    },
    /// The partitions asked for cannot be made on this device.
    #[error("partition `{partition}`: {reason}; legal: {legal}")]
    BadPartition {
        /// Name of the partition.
        partition: String,
        /// What is wrong with it.
        reason: String,
        /// What would be legal.
        legal: String,
    },
    /// No such partition was made.
    #[error("{partition} was not made; there are {made}")]
    UnknownPartition {
        /// The partition asked for.
        partition: PartitionId,
        /// How many there are.
        made: usize,
    },
    /// The lane is already bound to a thread.
    #[error("{lane} is already bound; a lane belongs to one thread")]
    LaneTaken {
        /// The lane.
        lane: LaneId,
    },
    /// More streams than the hardware has queues: they would alias and serialise falsely.
    #[error("{asked} streams asked for, the device has {limit} hardware queues")]
    TooManyStreams {
        /// Lanes and copy streams together.
        asked: u32,
        /// The limit.
        limit: u32,
    },
    /// A slice lies outside its region, or shares bytes with one that is still lent.
    #[error("slice of {len} at offset {offset} {reason} (region of {region})")]
    BadSlice {
        /// Offset in the region.
        offset: Bytes,
        /// Length asked for.
        len: Bytes,
        /// Size of the region.
        region: Bytes,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The device cannot do this; its [`Capabilities`](crate::Capabilities) say so.
    #[error("{what} is not supported by this device")]
    Unsupported {
        /// What was asked for.
        what: &'static str,
    },
    /// The driver refuses this call; others are unaffected.
    #[error("{call} was refused: {reason}")]
    Refused {
        /// The call.
        call: &'static str,
        /// The driver's reason.
        reason: String,
    },
    /// The system refused something that may work later.
    #[error("{what} failed: {reason}")]
    System {
        /// What was tried.
        what: &'static str,
        /// The system's reason.
        reason: String,
    },
    /// The context is lost: every call on it fails from here on.
    #[error("the device context is lost: {reason}")]
    Lost {
        /// The first error seen.
        reason: String,
    },
}

impl DeviceError {
    /// The response that the error demands.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::System { .. } => Severity::Transient,
            Self::Unavailable { .. }
            | Self::OutOfMemory { .. }
            | Self::BadPartition { .. }
            | Self::UnknownPartition { .. }
            | Self::LaneTaken { .. }
            | Self::TooManyStreams { .. }
            | Self::BadSlice { .. }
            | Self::Unsupported { .. }
            | Self::Refused { .. } => Severity::Permanent,
            Self::Lost { .. } => Severity::Fatal,
        }
    }
}

/// Why a backend did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// The vendor library cannot be loaded or is of the wrong version.
    #[error("backend `{backend}`: {reason}")]
    Library {
        /// The backend.
        backend: &'static str,
        /// What was missing or wrong.
        reason: String,
    },
    /// The artifact is not a model that this backend reads.
    #[error("model `{model}`: {reason}")]
    InvalidModel {
        /// The model.
        model: String,
        /// What is wrong, and where.
        reason: String,
    },
    /// The model contains something that the runtime refuses to run.
    #[error("model `{model}`: node `{node}` ({operator}): {reason}")]
    UnsupportedNode {
        /// The model.
        model: String,
        /// The node's name.
        node: String,
        /// Its operator.
        operator: String,
        /// Why it is refused and what would make it legal.
        reason: String,
    },
    /// A tensor has no shape that fits the model: an axis of an input that the fleet does not fix or fixes otherwise, or more
    /// bytes than can be.
    #[error("model `{model}`: tensor `{tensor}`: {reason}")]
    Shape {
        /// The model.
        model: String,
        /// The tensor.
        tensor: String,
        /// What is wrong and what would be legal.
        reason: String,
    },
    /// A buffer lent for I/O does not fit its tensor.
    #[error("model `{model}`: tensor `{tensor}` needs {expected}, the buffer lent has {got}")]
    Binding {
        /// The model.
        model: String,
        /// The tensor.
        tensor: String,
        /// Size of the tensor.
        expected: Bytes,
        /// Size of the buffer.
        got: Bytes,
    },
    /// The wrong number of buffers was lent.
    #[error("model `{model}`: {expected} {what} buffers needed, {got} lent")]
    BindingCount {
        /// The model.
        model: String,
        /// Inputs or outputs.
        what: &'static str,
        /// How many the model has.
        expected: usize,
        /// How many were lent.
        got: usize,
    },
    /// A budget was exceeded; nothing changed for others.
    #[error("model `{model}`: {source}")]
    Memory {
        /// The model.
        model: String,
        /// The refusal.
        source: GrantRefused,
    },
    /// A segment failed.
    #[error("model `{model}`: segment failed: {reason}")]
    Execution {
        /// The model.
        model: String,
        /// The backend's reason.
        reason: String,
        /// Whether anything ran; only a launch that failed before may be tried again.
        started: bool,
    },
    /// The device refused.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl BackendError {
    /// The response that the error demands.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::Execution { started: false, .. } => Severity::Transient,
            Self::Library { .. }
            | Self::InvalidModel { .. }
            | Self::UnsupportedNode { .. }
            | Self::Shape { .. }
            | Self::Binding { .. }
            | Self::BindingCount { .. }
            | Self::Memory { .. }
            | Self::Execution { started: true, .. } => Severity::Permanent,
            Self::Device(error) => error.severity(),
        }
    }
}
