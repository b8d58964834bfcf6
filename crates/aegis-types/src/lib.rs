//! Vocabulary of AegisRT: quantities, identities, and the few contracts that let crates which do not know each
//! other meet.
//!
//! A type enters this crate only if two crates that must not depend on each other both speak of it. There is no
//! policy, no I/O, no clock and no allocation strategy here.
//!
//! | module | what it holds |
//! |---|---|
//! | [`quantity`] | [`Nanos`], [`Time`], [`Bytes`]: units as types, checked arithmetic, human-readable text |
//! | [`id`] | [`TaskId`], [`LaneId`], [`PartitionId`], [`JobId`], [`DispatchSeq`] |
//! | [`budget`] | [`ResourceBudget`] |
//! | [`severity`] | [`Severity`]: errors by the response they demand |
//! | [`graph`] | [`ExecutionGraph`]: the immutable plan of one job |
//! | [`record`](mod@record) | [`Record`], [`Schema`], [`Sink`]: how anything is traced |
//! | [`records`] | the records that explain and replay read |
//! | [`grant`] | [`MemoryGrant`]: how memory is lent to those who must not know the planner |
#![forbid(unsafe_code)]

pub mod budget;
pub mod grant;
pub mod graph;
pub mod hash;
pub mod id;
mod parse;
pub mod quantity;
pub mod record;
pub mod records;
pub mod severity;

pub use budget::ResourceBudget;
pub use grant::{Extent, GrantRefused, MemoryClass, MemoryGrant};
pub use graph::{ExecutionGraph, GraphError, Node, NodeId};
pub use hash::ContentHash;
pub use id::{DispatchSeq, JobId, LaneId, PartitionId, SegmentIndex, TaskId};
pub use parse::QuantityError;
pub use quantity::{Bytes, Nanos, Time};
pub use record::{RawRecord, Record, Schema, Sink};
pub use severity::Severity;
