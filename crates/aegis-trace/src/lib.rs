//! Where records go and how they are read back: rings, the file, query and export.
//!
//! Whoever has something to tell holds a [`RingProducer`] and pushes fixed-size records into it; a full ring counts
//! the loss and never makes its producer wait. A [`TraceCollector`], made by the composition root, drains the rings
//! into a file or into bounded memory. A [`Trace`] is the read side: it describes itself, so that records of crates
//! that this one has never heard of are shown with their names, and it says where it has gaps and damage.
//!
//! There is no global recorder: every producer is handed to the one who uses it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`mod@ring`] | [`RingProducer`], [`RingConsumer`]: bounded, lock-free, one producer and one consumer |
//! | [`collector`] | [`TraceCollector`]: names the producers, drains them, closes the trace |
//! | [`writer`] | [`TraceWriter`]: the thread that drains once per flush period |
//! | [`mod@file`] | the bytes of a trace: checked chunks, each readable without the ones after it |
//! | [`read`] | [`Trace`]: records merged by stamp, with schemas, blobs and damage |
//! | [`gap`] | [`Gap`], [`Totals`]: what was lost, how much and where |
//! | [`schema`] | schemas as a file carries them, and [`Value`]s read through them |
//! | [`segments`] | [`SegmentSpan`]: from a dispatch to its completion |
//! | [`query`] | [`Rationale`]: what happened to a task and why; [`Filter`] |
//! | [`export`] | JSON lines, and JSON for trace viewers |
//! | [`error`] | [`TraceError`] |
#![forbid(unsafe_code)]

pub mod collector;
pub mod error;
pub mod export;
pub mod file;
pub mod gap;
pub mod query;
mod rationale;
pub mod read;
pub mod ring;
pub mod schema;
pub mod segments;
pub mod writer;

pub use collector::{Finished, TraceCollector, TraceMode, TraceOptions};
pub use error::TraceError;
pub use file::{Damage, DamageKind};
pub use gap::{Gap, Totals};
pub use query::{Filter, Rationale, TaskSelector};
pub use read::Trace;
pub use ring::{RingConsumer, RingProducer, ring};
pub use schema::{FieldKind, OwnedField, OwnedSchema, Value};
pub use segments::{SegmentSpan, SpanEnd};
pub use writer::TraceWriter;
