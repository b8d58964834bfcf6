//! Blocks of a few fixed sizes out of one extent, given and taken in constant time.
//!
//! Loading a model asks for many buffers of few sizes: one for each input slot, output and tensor between segments. A
//! pool made for these sizes answers each request by popping a free list: no search, no fragments, no growth. What it
//! costs is the rest of each block, and [`choose_classes`] makes that as small as it can be.

use aegis_types::{Bytes, Extent};

/// The most sizes of a pool. A request looks at each once at most, so this bounds its time.
pub const MOST_CLASSES: usize = 16;

/// Blocks of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassSize {
    /// Bytes of each block; a multiple of the pool's alignment.
    pub size: Bytes,
    /// How many there are.
    pub blocks: u32,
}

/// Why a pool was not made, gave nothing, or took nothing back. Nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PoolError {
    /// Sizes of classes that do not rise, are off the alignment, or are too many.
    #[error(
        "class {position} has blocks of {}; legal: at most {MOST_CLASSES} classes of rising sizes, each a multiple \
         of {}", .size.get(), .align.get()
    )]
    BadClass {
        /// Its position.
        position: usize,
        /// Its size.
        size: Bytes,
        /// The alignment.
        align: Bytes,
    },
    /// An alignment that is no power of two, or an extent that does not begin at a multiple of it.
    #[error("alignment {} and an extent at {}; legal: a power of two, and a multiple of it", .align.get(), .offset.get())]
    BadAlign {
        /// The alignment.
        align: Bytes,
        /// Where the extent begins.
        offset: Bytes,
    },
    /// All blocks together need more than the extent has.
    #[error("the classes need {}, but the extent has {}", .needs.get(), .has.get())]
    TooSmall {
        /// What the blocks need; the largest number if they need more than can be counted.
        needs: Bytes,
        /// What the extent has.
        has: Bytes,
    },
    /// A request that no block is large enough for.
    #[error("{} asked for, but the largest block has {}", .asked.get(), .largest.get())]
    TooLarge {
        /// What was asked for.
        asked: Bytes,
        /// The largest block.
        largest: Bytes,
    },
    /// All blocks that are large enough are lent.
    #[error("{} asked for, and all {blocks} blocks that are large enough are lent", .asked.get())]
    Empty {
        /// What was asked for.
        asked: Bytes,
        /// Blocks that would do.
        blocks: u64,
    },
    /// A block that is not lent: given back twice, or never taken.
    #[error("no block is lent at offset {}", .0.offset.get())]
    NotLent(Extent),
}

/// One class with its free list.
#[derive(Clone, Debug)]
struct Class {
    size: u64,
    start: u64,
    /// Numbers of free blocks; the last one is the next to be lent. As long as the class at most.
    free: Vec<u32>,
    lent: Vec<bool>,
}

/// Lends blocks of fixed sizes. Its tables are allocated with it and never grow.
///
/// ```
/// use aegis_memory::{Pool, choose_classes};
/// use aegis_types::{Bytes, Extent};
///
/// let asks: Vec<Bytes> = [64, 60, 4096, 100].map(Bytes::new).to_vec();
/// let classes = choose_classes(&asks, 2, Bytes::new(64));
/// let extent = Extent { offset: Bytes::ZERO, len: Bytes::new(8192) };
/// let mut pool = Pool::new(extent, Bytes::new(64), &classes)?;
/// let block = pool.take(Bytes::new(100))?;
/// assert_eq!(block.len, Bytes::new(128));
/// pool.give(block)?;
/// assert!(pool.give(block).is_err(), "it was given back");
/// # Ok::<(), aegis_memory::PoolError>(())
/// ```
#[derive(Clone, Debug)]
pub struct Pool {
    classes: Vec<Class>,
    used: u64,
    high_water: u64,
}

impl Pool {
    /// A pool of all blocks of `classes` in `extent`, from its start on, smaller ones first.
    ///
    /// # Errors
    /// [`PoolError::BadAlign`], [`PoolError::BadClass`] and [`PoolError::TooSmall`].
    pub fn new(extent: Extent, align: Bytes, classes: &[ClassSize]) -> Result<Self, PoolError> {
        let aligned = |bytes: Bytes| bytes.get().checked_rem(align.get()) == Some(0);
        if !align.get().is_power_of_two() || !aligned(extent.offset) {
            return Err(PoolError::BadAlign { align, offset: extent.offset });
        }
        let too_small = |needs| PoolError::TooSmall { needs, has: extent.len };
        let mut pool = Self { classes: Vec::with_capacity(classes.len()), used: 0, high_water: 0 };
        let (mut needs, mut below) = (0u64, Bytes::ZERO);
        // Sizes are checked before a table of many blocks is made.
        for (position, class) in classes.iter().enumerate() {
            let ClassSize { size, blocks } = *class;
            if size <= below || !aligned(size) || position >= MOST_CLASSES {
                return Err(PoolError::BadClass { position, size, align });
            }
            below = size;
            let all = size.get().checked_mul(blocks.into()).and_then(|all| needs.checked_add(all));
            needs = all.ok_or_else(|| too_small(Bytes::MAX))?;
        }
        if needs > extent.len.get() || extent.end().is_none() {
            return Err(too_small(Bytes::new(needs)));
        }
        let mut start = extent.offset.get();
        for &ClassSize { size, blocks } in classes {
            let lent = vec![false; blocks as usize];
            pool.classes.push(Class { size: size.get(), start, free: (0..blocks).rev().collect(), lent });
            start += size.get() * u64::from(blocks);
        }
        Ok(pool)
    }

    /// Lends the smallest free block that holds `bytes`: one of the smallest class that is large enough, or of the next
    /// one with a block left. So whoever keeps to what the classes were chosen for is never refused.
    ///
    /// # Errors
    /// [`PoolError::TooLarge`] and [`PoolError::Empty`].
    pub fn take(&mut self, bytes: Bytes) -> Result<Extent, PoolError> {
        let large_enough = |class: &Class| class.size >= bytes.get();
        let from = self.classes.iter().position(large_enough).unwrap_or(self.classes.len());
        for class in &mut self.classes[from..] {
            if let Some(block) = class.free.pop() {
                class.lent[block as usize] = true;
                self.used += class.size;
                self.high_water = self.high_water.max(self.used);
                let offset = Bytes::new(class.start + u64::from(block) * class.size);
                return Ok(Extent { offset, len: Bytes::new(class.size) });
            }
        }
        let largest = Bytes::new(self.classes.last().map_or(0, |class| class.size));
        let blocks = self.classes[from..].iter().map(|class| class.lent.len() as u64).sum();
        Err(if bytes > largest {
            PoolError::TooLarge { asked: bytes, largest }
        } else {
            PoolError::Empty { asked: bytes, blocks }
        })
    }

    /// The block that begins at an offset, lent or not.
    pub fn block_at(&self, offset: Bytes) -> Option<Extent> {
        let holds = |class: &&Class| {
            let inside = offset.get().checked_sub(class.start);
            inside.is_some_and(|inside| {
                inside.is_multiple_of(class.size) && inside / class.size < class.lent.len() as u64
            })
        };
        let class = self.classes.iter().find(holds)?;
        Some(Extent { offset, len: Bytes::new(class.size) })
    }

    /// Takes back a block that [`Pool::take`] lent, whole.
    ///
    /// # Errors
    /// [`PoolError::NotLent`] if it did not, or took it back already.
    pub fn give(&mut self, block: Extent) -> Result<(), PoolError> {
        let not_lent = PoolError::NotLent(block);
        let class = self.classes.iter_mut().find(|class| class.size == block.len.get()).ok_or(not_lent)?;
        let inside = block.offset.get().checked_sub(class.start).ok_or(not_lent)?;
        if !inside.is_multiple_of(class.size) {
            return Err(not_lent);
        }
        let number = u32::try_from(inside / class.size).map_err(|_| not_lent)?;
        match class.lent.get_mut(number as usize) {
            Some(lent) if *lent => *lent = false,
            _ => return Err(not_lent),
        }
        class.free.push(number);
        self.used -= class.size;
        Ok(())
    }

    /// Bytes of all blocks that are lent.
    pub const fn used(&self) -> Bytes {
        Bytes::new(self.used)
    }

    /// The most bytes that were ever lent at once.
    pub const fn high_water(&self) -> Bytes {
        Bytes::new(self.high_water)
    }
}

/// At most `most` classes, and never more than [`MOST_CLASSES`], whose blocks hold all `asks` at once with the fewest
/// bytes in all.
///
/// Sorted by size, the asks of one class stand side by side in some best answer: two that are not can be exchanged
/// without making a block larger. So the answer is found class by class (dynamic programming over the end of each) among
/// the distinct sizes: exact, O(classes * sizes^2). Asks for no bytes get no block. Sizes whose sum leaves 64 bits are
/// left to [`Pool::new`] to refuse.
pub fn choose_classes(asks: &[Bytes], most: usize, align: Bytes) -> Vec<ClassSize> {
    let mut sizes: Vec<ClassSize> = Vec::new();
    let round = |ask: &Bytes| ask.checked_align_up(align).unwrap_or(Bytes::MAX);
    let mut sorted: Vec<Bytes> = asks.iter().filter(|ask| !ask.is_zero()).map(round).collect();
    sorted.sort_unstable();
    for size in sorted {
        match sizes.last_mut() {
            Some(last) if last.size == size => last.blocks = last.blocks.saturating_add(1),
            _ => sizes.push(ClassSize { size, blocks: 1 }),
        }
    }
    merged(&sizes, most.clamp(1, MOST_CLASSES))
}

/// The best way to merge neighbours into at most `most` classes.
fn merged(sizes: &[ClassSize], most: usize) -> Vec<ClassSize> {
    let count = sizes.len();
    // Blocks of all sizes before each one.
    let mut before = vec![0u64];
    before.extend(sizes.iter().scan(0, |sum: &mut u64, size| {
        *sum += u64::from(size.blocks);
        Some(*sum)
    }));
    let blocks_from = |from: usize, to: usize| before[to] - before[from];
    // For each number of sizes the fewest bytes, and where the last class begins, with as many classes as rounds so far.
    let mut best: Vec<Option<u128>> = vec![None; count + 1];
    best[0] = Some(0);
    let mut begins: Vec<Vec<usize>> = Vec::with_capacity(most);
    for _ in 0..most.min(count) {
        let mut next = best.clone();
        let mut begin: Vec<usize> = (0..=count).collect();
        for to in 1..=count {
            for (from, &below) in best[..to].iter().enumerate() {
                let cost = u128::from(sizes[to - 1].size.get()) * u128::from(blocks_from(from, to));
                let total = below.map(|below| below + cost);
                if total.is_some_and(|total| next[to].is_none_or(|known| total < known)) {
                    (next[to], begin[to]) = (total, from);
                }
            }
        }
        best = next;
        begins.push(begin);
    }
    let (mut to, mut classes) = (count, Vec::new());
    for begin in begins.iter().rev() {
        let from = begin[to];
        if from < to {
            let blocks = u32::try_from(blocks_from(from, to)).unwrap_or(u32::MAX);
            classes.push(ClassSize { size: sizes[to - 1].size, blocks });
        }
        to = from;
    }
    classes.reverse();
    classes
}
