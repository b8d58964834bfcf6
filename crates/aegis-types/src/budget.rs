//! What a task may use.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Nanos};

/// The resources that a task is granted. Exceeding one is an explicit error to the task that did, and changes
/// nothing for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceBudget {
    /// Device memory for weights, I/O, state and scratch together.
    pub memory: Bytes,
    /// Streams that the task's graph may occupy at once; a linear graph needs one.
    pub streams: u32,
    /// Longest occupancy of a lane by one job, launch to completion, under contention.
    pub compute: Nanos,
}
