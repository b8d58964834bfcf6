//! The exchange memory of one task: a pool where every block is known before the model is loaded, else an arena.
//!
//! Inputs, outputs and what segments hand over are taken once, while a model loads, in sizes that its description lists.
//! A task may have thousands of input slots, and an arena looks at every hole before the one that it lends. A pool of
//! exactly these blocks answers each request in constant time and needs no byte more, because nothing is rounded up
//! that an arena would not align.

use aegis_types::{Bytes, Extent, TaskId};

use crate::arena::{Arena, ArenaError};
use crate::pool::{ClassSize, MOST_CLASSES, Pool, choose_classes};

/// Lends one extent to one task.
#[derive(Debug)]
pub(crate) enum Exchange {
    /// Any blocks.
    Arena(Arena),
    /// Blocks of known sizes.
    Pool {
        /// The blocks.
        pool: Pool,
        /// All of them.
        extent: Extent,
        /// What every block begins at a multiple of.
        align: Bytes,
    },
}

impl Exchange {
    /// Memory for these blocks, if they are all that the extent holds; else for any, with a table of `lines` lines.
    pub(crate) fn new(extent: Extent, lines: usize, blocks: &[Bytes], align: Bytes) -> Self {
        let classes = choose_classes(blocks, MOST_CLASSES, align);
        let all = |class: &ClassSize| class.size.get().checked_mul(class.blocks.into());
        let needs = classes.iter().try_fold(0u64, |sum, class| sum.checked_add(all(class)?));
        if needs != Some(extent.len.get()) || blocks.is_empty() {
            return Self::Arena(Arena::new(extent, lines));
        }
        Pool::new(extent, align, &classes).map_or_else(
            |_| Self::Arena(Arena::new(extent, lines)),
            |pool| Self::Pool { pool, extent, align },
        )
    }

    /// Where it lies.
    pub(crate) const fn extent(&self) -> Extent {
        match self {
            Self::Arena(arena) => arena.extent(),
            Self::Pool { extent, .. } => *extent,
        }
    }

    /// Bytes lent, whole blocks of a pool.
    pub(crate) fn used(&self) -> Bytes {
        match self {
            Self::Arena(arena) => arena.used(),
            Self::Pool { pool, .. } => pool.used(),
        }
    }

    /// Lends `bytes`; `None` where they do not fit, and nothing changed.
    pub(crate) fn allocate(&mut self, owner: TaskId, bytes: Bytes, align: Bytes) -> Option<Extent> {
        match self {
            Self::Arena(arena) => arena.allocate(owner, bytes, align).ok(),
            Self::Pool { extent, .. } if bytes.is_zero() => {
                Some(Extent { offset: extent.offset, len: bytes })
            }
            Self::Pool { pool, align: blocks, .. } if align.get().is_power_of_two() && align <= *blocks => {
                let block = pool.take(bytes).ok()?;
                Some(Extent { offset: block.offset, len: bytes })
            }
            Self::Pool { .. } => None,
        }
    }

    /// Takes back what was lent.
    ///
    /// # Errors
    /// [`ArenaError::NotLent`] if it was not.
    pub(crate) fn free(&mut self, owner: TaskId, extent: Extent) -> Result<(), ArenaError> {
        match self {
            Self::Arena(arena) => arena.free(owner, extent),
            Self::Pool { .. } if extent.len.is_zero() => Ok(()),
            Self::Pool { pool, .. } => {
                let block = pool.block_at(extent.offset).filter(|block| block.len >= extent.len);
                let given = block.is_some_and(|block| pool.give(block).is_ok());
                if given { Ok(()) } else { Err(ArenaError::NotLent { owner, extent }) }
            }
        }
    }
}
