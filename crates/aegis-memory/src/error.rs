//! Everything that can go wrong with memory, classed by the response it demands.
//!
//! A grant that is refused while a model loads or runs is not here: that is [`aegis_types::GrantRefused`], which
//! backends see without knowing this crate.

use aegis_types::{Bytes, Severity, TaskId};

use crate::problem::{BufferId, Gap};
use crate::shortage::Shortage;
use crate::verify::Fault;

/// Why memory was not planned or not reserved. Whatever was planned and reserved before is unchanged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MemoryError {
    /// The ledger has too little left.
    #[error("{task}: asked for {asked}, but {reserved} of {capacity} are reserved; at most {fits} would fit")]
    OverCapacity {
        /// Who asked.
        task: TaskId,
        /// What was asked for.
        asked: Bytes,
        /// What is reserved on the device.
        reserved: Bytes,
        /// The device's capacity.
        capacity: Bytes,
        /// The largest request that would be granted.
        fits: Bytes,
    },
    /// The fleet needs more than the device has, whatever the placement.
    #[error(transparent)]
    Shortage(Box<Shortage>),
    /// The planner found no placement. Another planner may.
    #[error("planner {planner}: no placement within {capacity}; the best it found needs {peak}")]
    NoPlacement {
        /// The planner's name.
        planner: String,
        /// The lowest peak that it found.
        peak: Bytes,
        /// The capacity.
        capacity: Bytes,
    },
    /// The verifier rejected what a planner returned: the planner is wrong.
    #[error("planner {planner}: placement rejected: {fault}")]
    Rejected {
        /// The planner's name.
        planner: String,
        /// What is wrong.
        fault: Box<Fault>,
    },
    /// A plan that was read contradicts itself.
    #[error("memory plan rejected: {0}")]
    PlanRejected(Box<Fault>),
    /// Two demands name the same task.
    #[error("demand {position}: {task} has a demand already; a task has one")]
    DuplicateTask {
        /// Position of the second demand.
        position: usize,
        /// The task.
        task: TaskId,
    },
    /// A task that is asked about has no demand.
    #[error("{task} has no demand; legal: a task of the fleet")]
    NoDemand {
        /// The task.
        task: TaskId,
    },
    /// A threshold that is out of order or out of range.
    #[error("threshold {position} is {value}; legal: at most {most} whole percentages, each above {below} and at most 100",
        most = crate::pressure::MOST_THRESHOLDS)]
    BadThreshold {
        /// Its position.
        position: usize,
        /// The value found.
        value: u8,
        /// The threshold before it, or 0.
        below: u8,
    },
    /// An alignment that is no power of two.
    #[error("{place}: alignment {} is not a power of two", .align.get())]
    BadAlign {
        /// What was to be aligned.
        place: String,
        /// The alignment found.
        align: Bytes,
    },
    /// Buffers are numbered by position.
    #[error("buffer at position {position} has number {}; legal is its position", .found.0)]
    BufferNumber {
        /// The position.
        position: usize,
        /// The number found.
        found: BufferId,
    },
    /// A buffer that is live at no time.
    #[error("{buffer}: interval [{lower}, {upper}) is empty; the upper end must be greater")]
    BadInterval {
        /// The buffer.
        buffer: BufferId,
        /// First logical instant at which it is live.
        lower: u64,
        /// First logical instant at which it is not.
        upper: u64,
    },
    /// A fixed offset that cannot be kept.
    #[error(
        "{buffer}: fixed offset {offset} is not a multiple of {align}, or {size} there end beyond {capacity}"
    )]
    BadFixedOffset {
        /// The buffer.
        buffer: BufferId,
        /// The offset demanded.
        offset: Bytes,
        /// The alignment demanded.
        align: Bytes,
        /// The buffer's size.
        size: Bytes,
        /// The capacity.
        capacity: Bytes,
    },
    /// More buffers than a problem may have.
    #[error("{found} buffers; legal: at most {most}")]
    TooManyBuffers {
        /// Buffers found.
        found: usize,
        /// The most that are legal.
        most: usize,
    },
    /// A gap that makes no sense.
    #[error("{}: gap [{}, {}); legal: {legal}", .gap.buffer, .gap.lower, .gap.upper)]
    BadGap {
        /// The gap.
        gap: Gap,
        /// What would be legal.
        legal: String,
    },
    /// Sizes add up to more than 64 bits can count.
    #[error("{place}: sizes and alignments add up to 2^64 bytes or more")]
    Overflow {
        /// Where the sum left the range.
        place: String,
    },
}

impl MemoryError {
    /// The response that the error demands.
    pub const fn severity(&self) -> Severity {
        match self {
            // Another reservation may end.
            Self::OverCapacity { .. } => Severity::Transient,
            Self::Shortage(_)
            | Self::NoPlacement { .. }
            | Self::Rejected { .. }
            | Self::PlanRejected(_)
            | Self::DuplicateTask { .. }
            | Self::NoDemand { .. }
            | Self::BadThreshold { .. }
            | Self::BadAlign { .. }
            | Self::BufferNumber { .. }
            | Self::BadInterval { .. }
            | Self::BadFixedOffset { .. }
            | Self::BadGap { .. }
            | Self::TooManyBuffers { .. }
            | Self::Overflow { .. } => Severity::Permanent,
        }
    }
}
