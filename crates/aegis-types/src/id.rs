//! Identities. An identity is not a count and not an index of something else.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! index_id {
    ($(#[$doc:meta])* $name:ident, $word:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(u16);

        impl $name {
            /// The identity with this index.
            pub const fn new(index: u16) -> Self {
                Self(index)
            }

            /// The index as written in tables and traces.
            pub const fn get(self) -> u16 {
                self.0
            }

            /// The index for looking up a slot of a table.
            pub const fn index(self) -> usize {
                self.0 as usize
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($word, "{}"), self.0)
            }
        }
    };
}

index_id!(
    /// A task: a model with a recurring contract. Numbered in the order of the fleet.
    TaskId,
    "task"
);
index_id!(
    /// A lane: a permit to have one segment in flight. Numbered across all partitions of the device.
    LaneId,
    "lane"
);
index_id!(
    /// A partition: a fixed share of the device.
    PartitionId,
    "partition"
);
index_id!(
    /// The position of a segment inside its job.
    SegmentIndex,
    "segment"
);

/// One activation of a task: the task and how many jobs of it were accepted before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct JobId {
    /// The task.
    pub task: TaskId,
    /// Accepted jobs of the task before this one; 48 bits are traced.
    pub number: u64,
}

impl JobId {
    /// The job `number` of `task`.
    pub const fn new(task: TaskId, number: u64) -> Self {
        Self { task, number }
    }

    /// The job as one word of a record: 16 bits of task, 48 bits of number (8,900 years at 1 kHz).
    pub const fn to_word(self) -> u64 {
        ((self.task.0 as u64) << 48) | (self.number & 0xFFFF_FFFF_FFFF)
    }

    /// The job in a word of a record.
    pub const fn from_word(word: u64) -> Self {
        Self { task: TaskId((word >> 48) as u16), number: word & 0xFFFF_FFFF_FFFF }
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.task, self.number)
    }
}

/// The sequence number of a dispatch on its lane, which its completion flag must carry. The first dispatch is 1, so
/// that zero means "nothing completed yet".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DispatchSeq(u64);

impl DispatchSeq {
    /// Nothing dispatched.
    pub const NONE: Self = Self(0);

    /// The dispatch with this number.
    pub const fn new(seq: u64) -> Self {
        Self(seq)
    }

    /// The number as stored in the flag.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The dispatch after this one.
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn job_word_round_trip() {
        for job in
            [JobId::default(), JobId::new(TaskId::new(65_535), (1 << 48) - 1), JobId::new(TaskId::new(3), 7)]
        {
            assert_eq!(JobId::from_word(job.to_word()), job);
        }
    }
}
