//! Sub-allocation of one extent: first fit with coalescing, over a table that never grows.
//!
//! First fit is not the tightest rule, but it is repeatable: equal calls give equal offsets, so a high-water mark that
//! was measured once is a budget that holds. The table is allocated with the arena; serving touches no heap.

use aegis_types::{Bytes, Extent, TaskId};

/// Why an arena gave or took nothing. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ArenaError {
    /// No hole is large enough.
    #[error("{asked} at a multiple of {} do not fit: {used} of {limit} in use", .align.get())]
    Full {
        /// What was asked for.
        asked: Bytes,
        /// At which alignment.
        align: Bytes,
        /// Bytes lent.
        used: Bytes,
        /// Bytes that the request may lie in.
        limit: Bytes,
    },
    /// There is room, but no line of the table to write it down.
    #[error("the arena's table of {lines} lines is full")]
    TableFull {
        /// Lines of the table.
        lines: usize,
    },
    /// An alignment that is no power of two.
    #[error("alignment {} is not a power of two", .0.get())]
    BadAlign(Bytes),
    /// An extent that is not lent to the task that gives it back.
    #[error("extent {} + {} is not lent to {owner}", .extent.offset.get(), .extent.len.get())]
    NotLent {
        /// Who gave it back.
        owner: TaskId,
        /// The extent.
        extent: Extent,
    },
}

impl ArenaError {
    /// The response that the error demands: the same request may succeed after something was freed.
    pub const fn severity(&self) -> aegis_types::Severity {
        match self {
            Self::Full { .. } | Self::TableFull { .. } => aegis_types::Severity::Transient,
            Self::BadAlign(_) | Self::NotLent { .. } => aegis_types::Severity::Permanent,
        }
    }
}

/// A line of the table: a hole or a lent block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Block {
    start: u64,
    end: u64,
    owner: Option<TaskId>,
}

/// Lends pieces of one extent. It knows offsets only.
///
/// Lines are sorted, cover the extent without gaps, and no two holes touch.
#[derive(Debug)]
pub struct Arena {
    extent: Extent,
    lines: usize,
    blocks: Vec<Block>,
    used: u64,
    high_water: u64,
}

impl Arena {
    /// An empty arena over `extent`, with a table of `lines` lines (at least one). A lent block takes one line, and so
    /// does every hole between two of them, before the first or behind the last.
    pub fn new(extent: Extent, lines: usize) -> Self {
        let lines = lines.max(1);
        let mut blocks = Vec::with_capacity(lines);
        // Saturating only shortens an extent that no plan holds.
        let end = extent.offset.get().saturating_add(extent.len.get());
        blocks.push(Block { start: extent.offset.get(), end, owner: None });
        Self { extent, lines, blocks, used: 0, high_water: 0 }
    }

    /// The extent that it lends from.
    pub const fn extent(&self) -> Extent {
        self.extent
    }

    /// Bytes lent.
    pub const fn used(&self) -> Bytes {
        Bytes::new(self.used)
    }

    /// The farthest end of any block ever lent, from the start of the extent: what alignment and holes cost included.
    pub const fn high_water(&self) -> Bytes {
        Bytes::new(self.high_water)
    }

    /// Lends `bytes` to `owner` at the lowest multiple of `align` where they fit. No bytes always fit, and need not be
    /// freed.
    ///
    /// # Errors
    /// [`ArenaError`] when there is no room or no line, or `align` is no power of two.
    pub fn allocate(&mut self, owner: TaskId, bytes: Bytes, align: Bytes) -> Result<Extent, ArenaError> {
        self.allocate_within(owner, bytes, align, self.extent.len)
    }

    /// As [`Arena::allocate`], but inside the first `limit` bytes of the extent. So a task whose budget is `limit` gets
    /// the offsets that it would get from an arena of its own.
    ///
    /// # Errors
    /// As [`Arena::allocate`].
    pub fn allocate_within(
        &mut self,
        owner: TaskId,
        bytes: Bytes,
        align: Bytes,
        limit: Bytes,
    ) -> Result<Extent, ArenaError> {
        if !align.get().is_power_of_two() {
            return Err(ArenaError::BadAlign(align));
        }
        let full = ArenaError::Full { asked: bytes, align, used: self.used(), limit };
        if bytes.is_zero() {
            let offset = self.extent.offset.checked_align_up(align).ok_or(full)?;
            return Ok(Extent { offset, len: bytes });
        }
        let ceiling = self.extent.offset.get().saturating_add(limit.get());
        let (at, start, end) = self.first_fit(bytes, align, ceiling).ok_or(full)?;
        self.cut(at, Block { start, end, owner: Some(owner) })?;
        self.used += bytes.get();
        self.high_water = self.high_water.max(end - self.extent.offset.get());
        Ok(Extent { offset: Bytes::new(start), len: bytes })
    }

    /// Takes back what [`Arena::allocate`] lent to `owner`.
    ///
    /// # Errors
    /// [`ArenaError::NotLent`] if it did not: freed twice, or lent to another task.
    pub fn free(&mut self, owner: TaskId, extent: Extent) -> Result<(), ArenaError> {
        if extent.len.is_zero() {
            return Ok(());
        }
        let not_lent = ArenaError::NotLent { owner, extent };
        let lent = Some((extent.offset.get(), extent.end().ok_or(not_lent)?.get(), Some(owner)));
        let at = self.blocks.partition_point(|block| block.start < extent.offset.get());
        if self.blocks.get(at).map(|block| (block.start, block.end, block.owner)) != lent {
            return Err(not_lent);
        }
        self.used -= extent.len.get();
        self.blocks[at].owner = None;
        self.coalesce(at);
        Ok(())
    }

    /// Takes back everything that is lent to `owner` and returns how much that was. For a segment that failed halfway.
    pub fn free_all(&mut self, owner: TaskId) -> Bytes {
        let mut freed = 0;
        while let Some(at) = self.blocks.iter().position(|block| block.owner == Some(owner)) {
            freed += self.blocks[at].end - self.blocks[at].start;
            self.blocks[at].owner = None;
            self.coalesce(at);
        }
        self.used -= freed;
        Bytes::new(freed)
    }

    fn first_fit(&self, bytes: Bytes, align: Bytes, ceiling: u64) -> Option<(usize, u64, u64)> {
        self.blocks.iter().enumerate().filter(|(_, block)| block.owner.is_none()).find_map(|(at, hole)| {
            let start = Bytes::new(hole.start).checked_align_up(align)?;
            let end = start.checked_add(bytes)?.get();
            (end <= hole.end && end <= ceiling).then_some((at, start.get(), end))
        })
    }

    /// Cuts `block` out of the hole at line `at`; what is left of the hole on either side keeps a line.
    fn cut(&mut self, at: usize, block: Block) -> Result<(), ArenaError> {
        let hole = self.blocks[at];
        let before = Block { end: block.start, ..hole };
        let behind = Block { start: block.end, ..hole };
        let rest = usize::from(before.start < before.end) + usize::from(behind.start < behind.end);
        if self.blocks.len() + rest > self.lines {
            return Err(ArenaError::TableFull { lines: self.lines });
        }
        self.blocks[at] = block;
        if behind.start < behind.end {
            self.blocks.insert(at + 1, behind);
        }
        if before.start < before.end {
            self.blocks.insert(at, before);
        }
        Ok(())
    }

    /// Joins the hole at line `at` with the holes that it touches.
    fn coalesce(&mut self, at: usize) {
        let is_hole = |block: Option<&Block>| block.is_some_and(|block| block.owner.is_none());
        if is_hole(self.blocks.get(at + 1)) {
            self.blocks[at].end = self.blocks[at + 1].end;
            self.blocks.remove(at + 1);
        }
        if at > 0 && is_hole(self.blocks.get(at - 1)) {
            self.blocks[at - 1].end = self.blocks[at].end;
            self.blocks.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serving_moves_no_table() {
        let (task, bytes) = (TaskId::new(0), Bytes::new);
        let mut arena = Arena::new(Extent { offset: Bytes::ZERO, len: bytes(4096) }, 32);
        let table = (arena.blocks.as_ptr(), arena.blocks.capacity());
        for _ in 0..3 {
            let mut lent = Vec::new();
            while let Ok(extent) = arena.allocate(task, bytes(40), bytes(64)) {
                lent.push(extent);
            }
            assert_eq!(arena.blocks.len(), 32, "the table was filled");
            lent.iter().for_each(|&extent| arena.free(task, extent).expect("lent"));
            assert_eq!((arena.blocks.as_ptr(), arena.blocks.capacity()), table);
            assert_eq!(arena.blocks.len(), 1, "one hole is left");
        }
    }
}
