//! How memory is lent to those who must not know the planner.
//!
//! The memory crate decides offsets, the device crate makes pointers, and a backend needs both without knowing
//! either: it takes a [`MemoryGrant`] and gets an [`Extent`] of the device's one reservation.

use serde::{Deserialize, Serialize};

use crate::{Bytes, Severity, TaskId};

/// How long bytes live, which decides whom they may be shared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MemoryClass {
    /// Lives as long as the model is loaded: weights and what the backend prepares from them. Exclusive.
    Persistent,
    /// Inputs, outputs, recurrent state and tensors across a segment boundary. Exclusive.
    Exchange,
    /// Lives inside one segment only. Shared by the tasks of one lane, and of no other.
    Scratch,
}

/// A piece of the device's reservation: offset from its start and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Extent {
    /// Offset from the start of the reservation.
    pub offset: Bytes,
    /// Length; zero-length extents are legal and overlap nothing.
    pub len: Bytes,
}

impl Extent {
    /// The first offset behind the extent, or `None` on overflow.
    pub const fn end(&self) -> Option<Bytes> {
        self.offset.checked_add(self.len)
    }

    /// Whether the two share at least one byte.
    pub const fn overlaps(&self, other: &Self) -> bool {
        !self.len.is_zero()
            && !other.len.is_zero()
            && starts_inside(self, other)
            && starts_inside(other, self)
    }
}

/// Whether `a` starts before `b` ends; an end past the last offset counts as infinite.
const fn starts_inside(a: &Extent, b: &Extent) -> bool {
    match b.end() {
        Some(end) => a.offset.get() < end.get(),
        None => true,
    }
}

/// Why a grant gave no memory. Nothing changed for anyone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{owner}: {class:?} memory: {asked} asked for, {used} of {limit} in use")]
pub struct GrantRefused {
    /// The task whose budget it is.
    pub owner: TaskId,
    /// The class that was asked for.
    pub class: MemoryClass,
    /// What was asked for.
    pub asked: Bytes,
    /// What is in use of the limit.
    pub used: Bytes,
    /// The limit: the task's budget, or the lane's scratch.
    pub limit: Bytes,
}

impl GrantRefused {
    /// The same request fails again: the budget does not grow by waiting.
    pub const fn severity(&self) -> Severity {
        Severity::Permanent
    }
}

/// Memory lent to one task. Used by one thread at a time, through a shared reference, because a vendor library calls
/// back while the caller already holds the grant.
pub trait MemoryGrant: Send {
    /// The task whose budget is charged.
    fn owner(&self) -> TaskId;

    /// Lends `bytes` of `class`, aligned to `align` (a power of two).
    ///
    /// # Errors
    /// [`GrantRefused`] when the budget, the lane's scratch or the contiguous space is exceeded.
    fn allocate(&self, class: MemoryClass, bytes: Bytes, align: Bytes) -> Result<Extent, GrantRefused>;

    /// Takes back an extent that [`MemoryGrant::allocate`] lent with this `class`.
    ///
    /// # Panics
    /// If the extent was not lent by this grant: a double free is a programming error.
    fn free(&self, class: MemoryClass, extent: Extent);

    /// Bytes of `class` lent at the moment.
    fn used(&self, class: MemoryClass) -> Bytes;

    /// The most bytes of `class` lent at once, counting what alignment and holes cost.
    fn high_water(&self, class: MemoryClass) -> Bytes;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_is_half_open() {
        let e = |offset, len| Extent { offset: Bytes::new(offset), len: Bytes::new(len) };
        assert!(e(0, 4).overlaps(&e(3, 1)));
        assert!(!e(0, 4).overlaps(&e(4, 4)));
        assert!(!e(0, 0).overlaps(&e(0, 4)));
        assert!(e(u64::MAX, 2).overlaps(&e(u64::MAX, 1)), "an extent past the end is treated as overlapping");
    }
}
