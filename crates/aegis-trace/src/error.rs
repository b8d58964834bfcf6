//! Everything that can go wrong around a trace. Lost records are not among it: they are counted, never an error.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use aegis_types::Severity;

/// Why a trace could not be made, written, read or asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TraceError {
    /// The file cannot be opened, made or read.
    #[error("trace {}: cannot be opened or read: {source}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The file took no more bytes. What was written before stays readable.
    #[error("trace {}: writing failed after {written} bytes: {source}; it ends there, and can be read up to there", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Bytes that were written before.
        written: u64,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The output of an export took no more bytes.
    #[error("export: writing failed: {source}")]
    Export {
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The bytes do not begin as a trace does.
    #[error("{place}: this is no trace: it must begin with the letters `{magic}`")]
    NotATrace {
        /// Where the bytes came from.
        place: String,
        /// What would be legal.
        magic: String,
    },
    /// The trace was written in a format that this build does not read.
    #[error("{place}: the trace has format version {found}; this build reads version {legal}")]
    Version {
        /// Where the bytes came from.
        place: String,
        /// The version found.
        found: u32,
        /// The version that would be legal.
        legal: u32,
    },
    /// A number of records is outside what can be kept.
    #[error("{place}: {asked} records asked for; legal is 1 to {limit}")]
    Capacity {
        /// Which ring or memory.
        place: String,
        /// Records asked for.
        asked: usize,
        /// The largest legal number.
        limit: usize,
    },
    /// Two producers of one trace have the same name.
    #[error("producer `{name}` exists already; every producer of a trace has a name of its own")]
    ProducerTaken {
        /// The name.
        name: String,
    },
    /// The trace has as many producers as a record's head can number.
    #[error("producer `{name}` would be one too many; a trace has at most {limit}")]
    TooManyProducers {
        /// The producer that was refused.
        name: String,
        /// The largest number of producers.
        limit: usize,
    },
    /// A name does not fit its chunk.
    #[error("the name `{name}` has {bytes} bytes; at most {limit} are legal")]
    NameTooLong {
        /// How the name begins.
        name: String,
        /// Its length in bytes.
        bytes: usize,
        /// The largest legal length in bytes.
        limit: usize,
    },
    /// Two schemas claim one number.
    #[error("schemas `{first}` and `{second}` both claim number {kind}; numbers are unique in a trace")]
    SchemaClash {
        /// The number.
        kind: u16,
        /// The schema that came first.
        first: String,
        /// The schema that came second.
        second: String,
    },
    /// The schemas do not fit the head of the file.
    #[error("the head of the trace cannot be encoded: {reason}")]
    Header {
        /// Why.
        reason: String,
    },
    /// The trace knows no such thing.
    #[error("the trace has no {what} `{name}`; it has: {legal}")]
    Unknown {
        /// What was asked for: a task, a kind or a producer.
        what: &'static str,
        /// The name asked for.
        name: String,
        /// What would be legal.
        legal: String,
    },
    /// A blob does not hold what its name promises.
    #[error("blob `{name}` of the trace: {reason}")]
    Blob {
        /// The blob.
        name: String,
        /// What is wrong, and what would be legal.
        reason: String,
    },
    /// The system gave no thread for the writer.
    #[error("the trace writer's thread could not start: {source}")]
    NoThread {
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// The writer's thread ended by a panic; records since its last flush are lost.
    #[error("the trace writer's thread panicked; the trace ends at its last flush")]
    WriterLost,
}

impl TraceError {
    /// The response that the error demands. None is fatal: without a trace the runtime still keeps its guarantees,
    /// it can only no longer show them.
    pub const fn severity(&self) -> Severity {
        match self {
            Self::NoThread { .. } | Self::Write { .. } => Severity::Transient,
            Self::Open { .. }
            | Self::Export { .. }
            | Self::NotATrace { .. }
            | Self::Version { .. }
            | Self::Capacity { .. }
            | Self::ProducerTaken { .. }
            | Self::TooManyProducers { .. }
            | Self::NameTooLong { .. }
            | Self::SchemaClash { .. }
            | Self::Header { .. }
            | Self::Unknown { .. }
            | Self::Blob { .. }
            | Self::WriterLost => Severity::Permanent,
        }
    }
}
