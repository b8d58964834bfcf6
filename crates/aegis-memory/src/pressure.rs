//! How full a device is, in levels that the user chose, and who could make room.
//!
//! A level is a report and never an action: nothing here takes a byte from anybody. A level says which tasks hold the
//! memory and what each would give back if it ended; whether one ends is the caller's decision.

use std::cmp::Reverse;
use std::fmt;

use aegis_types::{Bytes, Record, Schema, Sink, TaskId, Time, record};
use serde::{Deserialize, Serialize};

use crate::error::MemoryError;
use crate::plan::{MemoryPlan, TaskShare};

record! {
    /// A reservation, or the end of one, changed the level of pressure.
    pub struct PressureChanged(150) {
        /// Whose reservation it was.
        task: TaskId,
        /// Thresholds reached after it; 0 is below the first.
        level: u64,
        /// The highest level there is.
        highest: u64,
        /// Bytes reserved on the device after it.
        reserved: Bytes,
        /// The device's capacity.
        capacity: Bytes,
    }
}
record! {
    /// A task that holds memory while a threshold is reached. Nothing is taken from it.
    pub struct PressureHolder(151) {
        /// The task.
        task: TaskId,
        /// Bytes that it holds; the scratch of a lane is held by the task that needs most of it.
        holds: Bytes,
        /// Bytes that the device would get back if the task ended and the others were planned again.
        frees: Bytes,
    }
}

/// The schemas of this crate's records, for the head of a trace.
pub const SCHEMAS: &[Schema] = &[PressureChanged::SCHEMA, PressureHolder::SCHEMA];

/// The most levels that can be told apart usefully.
pub const MOST_THRESHOLDS: usize = 8;

/// Shares of the capacity, in rising percent, from each of which on a level begins.
///
/// ```
/// use aegis_memory::Thresholds;
/// use aegis_types::Bytes;
///
/// let thresholds = Thresholds::new(vec![70, 90])?;
/// let level = |reserved| thresholds.level(Bytes::new(reserved), Bytes::new(1000));
/// assert_eq!([level(699), level(700), level(899), level(900)], [0, 1, 1, 2]);
/// # Ok::<(), aegis_memory::MemoryError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<u8>", into = "Vec<u8>")]
pub struct Thresholds(Vec<u8>);

impl Thresholds {
    /// Checks thresholds; none at all is legal and means that there is one level.
    ///
    /// # Errors
    /// [`MemoryError::BadThreshold`] for one that is not above the one before, or not within 1 and 100, and for more
    /// than [`MOST_THRESHOLDS`].
    pub fn new(percent: Vec<u8>) -> Result<Self, MemoryError> {
        let mut below = 0;
        for (position, &value) in percent.iter().enumerate() {
            if value <= below || value > 100 || position >= MOST_THRESHOLDS {
                return Err(MemoryError::BadThreshold { position, value, below });
            }
            below = value;
        }
        Ok(Self(percent))
    }

    /// No threshold, and so one level.
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    /// The thresholds in percent.
    pub fn percent(&self) -> &[u8] {
        &self.0
    }

    /// How many thresholds are reached. A device without memory is full.
    pub fn level(&self, reserved: Bytes, capacity: Bytes) -> usize {
        let reaches = |percent: u8| {
            u128::from(reserved.get()) * 100 >= u128::from(percent) * u128::from(capacity.get())
        };
        self.0.iter().take_while(|&&percent| reaches(percent)).count()
    }
}

impl Default for Thresholds {
    /// 70 and 90 percent: room for a task more, and hardly room for anything.
    fn default() -> Self {
        Self(vec![70, 90])
    }
}

impl TryFrom<Vec<u8>> for Thresholds {
    type Error = MemoryError;

    fn try_from(percent: Vec<u8>) -> Result<Self, MemoryError> {
        Self::new(percent)
    }
}

impl From<Thresholds> for Vec<u8> {
    fn from(thresholds: Thresholds) -> Self {
        thresholds.0
    }
}

/// How full a device is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pressure {
    /// Thresholds reached; 0 is below the first.
    pub level: usize,
    /// The highest level there is: the number of thresholds.
    pub highest: usize,
    /// Bytes reserved.
    pub reserved: Bytes,
    /// Bytes that there are.
    pub capacity: Bytes,
    /// The tasks that hold bytes, most first; ties by number.
    pub holders: Vec<(TaskId, Bytes)>,
}

impl Pressure {
    /// The level of `reserved` bytes of `capacity`, which `holders` hold.
    pub(crate) fn of(
        thresholds: &Thresholds,
        reserved: Bytes,
        capacity: Bytes,
        mut holders: Vec<(TaskId, Bytes)>,
    ) -> Self {
        holders.retain(|(_, bytes)| !bytes.is_zero());
        holders.sort_by_key(|&(task, bytes)| (Reverse(bytes), task));
        let level = thresholds.level(reserved, capacity);
        Self { level, highest: thresholds.percent().len(), reserved, capacity, holders }
    }
}

impl fmt::Display for Pressure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { level, highest, reserved, capacity, .. } = self;
        write!(f, "level {level} of {highest}: {reserved} of {capacity} reserved")
    }
}

impl MemoryPlan {
    /// How full the device is with this plan alone. The scratch of a lane is held by the task that needs most of it.
    pub fn pressure(&self, thresholds: &Thresholds) -> Pressure {
        let charged = |share: &TaskShare| {
            let lanes = self.lanes().iter().filter(|lane| lane.holder == share.task);
            let scratch = lanes.fold(0u64, |sum, lane| sum.saturating_add(lane.charged.get()));
            (share.task, Bytes::new(share.private.get().saturating_add(scratch)))
        };
        let holders = self.tasks().iter().map(charged).collect();
        Pressure::of(thresholds, self.peak(), self.parts().capacity, holders)
    }

    /// Records the tasks that hold memory, most first, if a threshold is reached.
    pub fn record_holders(&self, thresholds: &Thresholds, sink: &mut dyn Sink, now: Time) {
        let pressure = self.pressure(thresholds);
        if pressure.level == 0 {
            return;
        }
        for &(task, holds) in &pressure.holders {
            let frees = self.task(task).map_or(Bytes::ZERO, |share| self.released_by(share));
            sink.emit(PressureHolder { task, holds, frees }.at(now));
        }
    }

    /// What the device would get back if one task ended and the others were planned again, task by task. It is less
    /// than what the task holds where others of its lane go on to need the scratch.
    pub fn releasable(&self) -> Vec<(TaskId, Bytes)> {
        self.tasks().iter().map(|share| (share.task, self.released_by(share))).collect()
    }

    fn released_by(&self, share: &TaskShare) -> Bytes {
        let others = self.tasks().iter().filter(|other| other.lane == share.lane && other.task != share.task);
        let stays = others.map(|other| other.shared).max().unwrap_or(Bytes::ZERO);
        let exclusive = share.persistent.len.get().saturating_add(share.exchange.len.get());
        Bytes::new(exclusive.saturating_add(share.shared.saturating_sub(stays).get()))
    }
}
