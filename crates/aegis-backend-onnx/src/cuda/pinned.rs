//! Host memory that the GPU copies from and to directly, for the provider's own small copies.
//!
//! The provider gives such memory back from a function that the device calls when a copy is done, if the memory comes
//! from its own arena; a session that ends meanwhile then takes the arena down inside that function, where no call of
//! the driver is legal, and the process with it. From an allocator of somebody else's it waits for the copy instead.
//! Blocks are kept for the next request of their size, so that jobs ask the driver for nothing.
//!
//! While a job is recorded into a graph, no block that comes back is given again: what the graph's copies read when it is
//! replayed must be what the library wrote for them. Blocks that they read are kept for as long as the graph may be
//! replayed.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::driver::Driver;
use crate::registered::Serve;

/// The smallest block, which is also what all are aligned to.
const SMALLEST: usize = 256;

/// Serves requests for host memory that one device copies from and to.
pub(crate) struct PinnedAllocator {
    driver: Driver,
    pool: Mutex<Pool>,
    requests: AtomicU64,
    live: AtomicU64,
    bytes: AtomicU64,
}

/// Blocks by address and, where nobody has them, by size.
#[derive(Default)]
struct Pool {
    blocks: HashMap<usize, Block>,
    free: HashMap<usize, Vec<usize>>,
    /// How many jobs are being recorded.
    recordings: usize,
    /// What came back meanwhile.
    returned: Vec<usize>,
}

/// A block that the driver gave.
struct Block {
    size: usize,
    /// Which request it was given for last.
    given: u64,
    /// Whether the library has it.
    taken: bool,
    /// How many graphs copy from it.
    kept: usize,
    /// Whether it stands in one of the pool's lists.
    listed: bool,
}

impl Pool {
    /// Makes a block that nobody has and no graph reads available again.
    fn settle(&mut self, address: usize) {
        let block = self.blocks.get_mut(&address);
        let Some(block) = block.filter(|block| !block.taken && block.kept == 0 && !block.listed) else {
            return;
        };
        block.listed = true;
        if self.recordings > 0 {
            self.returned.push(address);
        } else {
            self.free.entry(block.size).or_default().push(address);
        }
    }

    /// Makes what came back while jobs were recorded available again.
    fn resume(&mut self) {
        for address in std::mem::take(&mut self.returned) {
            if let Some(block) = self.blocks.get_mut(&address) {
                block.listed = false;
            }
            self.settle(address);
        }
    }
}

/// What was asked of host memory that a GPU copies from and to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinnedBlocks {
    /// Requests since the first model was loaded.
    pub requests: u64,
    /// Blocks that the provider has at the moment.
    pub live: u64,
    /// Bytes that the driver gave; they are kept.
    pub bytes: u64,
}

impl PinnedAllocator {
    /// All of it comes from `driver`.
    pub(crate) fn new(driver: Driver) -> Self {
        let zero = || AtomicU64::new(0);
        Self { driver, pool: Mutex::default(), requests: zero(), live: zero(), bytes: zero() }
    }

    /// The counts.
    pub(crate) fn counts(&self) -> PinnedBlocks {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PinnedBlocks { requests: load(&self.requests), live: load(&self.live), bytes: load(&self.bytes) }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps blocks that come back from being given again, until the recording is dropped.
    pub(crate) fn record(&'static self) -> Recording {
        self.pool().recordings += 1;
        Recording { allocator: self, begun: self.requests.load(Ordering::Relaxed), kept: Vec::new() }
    }

    /// Keeps the block with those bytes, if it was given for `begun` or a later request.
    fn keep(&'static self, address: usize, bytes: usize, begun: u64) -> Option<Kept> {
        let mut pool = self.pool();
        let holds = |start: usize, block: &Block| {
            block.given >= begun
                && start <= address
                && address.checked_add(bytes).is_some_and(|end| end <= start + block.size)
        };
        let found = pool.blocks.iter_mut().find(|(start, block)| holds(**start, block));
        found.map(|(start, block)| {
            block.kept += 1;
            Kept { allocator: self, address: *start }
        })
    }
}

impl Serve for PinnedAllocator {
    fn allocate(&self, size: usize) -> *mut c_void {
        let Some(size) = size.max(SMALLEST).checked_next_power_of_two() else { return ptr::null_mut() };
        let mut pool = self.pool();
        // Counted with the pool locked: whoever begins to record knows which blocks were given before.
        let given = self.requests.fetch_add(1, Ordering::Relaxed);
        let address = match pool.free.get_mut(&size).and_then(Vec::pop) {
            Some(address) => address,
            None => {
                let Some(address) = self.driver.allocate_pinned(size) else { return ptr::null_mut() };
                self.bytes.fetch_add(size as u64, Ordering::Relaxed);
                address
            }
        };
        pool.blocks.insert(address, Block { size, given, taken: true, kept: 0, listed: false });
        self.live.fetch_add(1, Ordering::Relaxed);
        ptr::with_exposed_provenance_mut(address)
    }

    fn free(&self, block: NonNull<c_void>) {
        let address = block.addr().get();
        let mut pool = self.pool();
        let Some(block) = pool.blocks.get_mut(&address).filter(|block| block.taken) else { return };
        block.taken = false;
        pool.settle(address);
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// While a job is recorded.
pub(crate) struct Recording {
    allocator: &'static PinnedAllocator,
    begun: u64,
    kept: Vec<Kept>,
}

impl Recording {
    /// Keeps the block that a recorded copy reads. False if it is none that was given since the recording began: then
    /// nobody knows what lies there when the copy is replayed.
    pub(crate) fn keep(&mut self, address: usize, bytes: usize) -> bool {
        let kept = self.allocator.keep(address, bytes, self.begun);
        let found = kept.is_some();
        self.kept.extend(kept);
        found
    }

    /// Ends the recording; what was kept is to live as long as the graph.
    pub(crate) fn end(mut self) -> Vec<Kept> {
        std::mem::take(&mut self.kept)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        let mut pool = self.allocator.pool();
        pool.recordings -= 1;
        if pool.recordings == 0 {
            pool.resume();
        }
    }
}

/// A block that a graph copies from.
pub(crate) struct Kept {
    allocator: &'static PinnedAllocator,
    address: usize,
}

impl Drop for Kept {
    fn drop(&mut self) {
        let mut pool = self.allocator.pool();
        if let Some(block) = pool.blocks.get_mut(&self.address) {
            block.kept -= 1;
        }
        pool.settle(self.address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(blocks: &[usize]) -> Pool {
        let mut pool = Pool::default();
        for &address in blocks {
            let block = Block { size: SMALLEST, given: 0, taken: true, kept: 0, listed: false };
            pool.blocks.insert(address, block);
        }
        pool
    }

    fn change(pool: &mut Pool, address: usize, change: impl FnOnce(&mut Block)) {
        change(pool.blocks.get_mut(&address).expect("it was given"));
        pool.settle(address);
    }

    fn free(pool: &Pool) -> &[usize] {
        pool.free.get(&SMALLEST).map_or(&[], Vec::as_slice)
    }

    #[test]
    fn what_comes_back_while_a_job_is_recorded_is_given_again_only_afterwards() {
        let mut pool = pool(&[256, 512]);
        pool.recordings = 1;
        change(&mut pool, 256, |block| block.taken = false);
        assert_eq!((free(&pool), pool.returned.as_slice()), (&[][..], &[256][..]));
        pool.recordings = 0;
        pool.resume();
        assert_eq!((free(&pool), pool.returned.as_slice()), (&[256][..], &[][..]));
    }

    #[test]
    fn a_block_that_a_graph_reads_is_given_again_once_when_the_graph_is_gone() {
        let mut pool = pool(&[256]);
        pool.recordings = 1;
        change(&mut pool, 256, |block| block.taken = false);
        change(&mut pool, 256, |block| block.kept = 1);
        pool.recordings = 0;
        pool.resume();
        assert!(free(&pool).is_empty(), "the graph copies from it");
        // Another recording is under way when the graph goes.
        pool.recordings = 1;
        change(&mut pool, 256, |block| block.kept = 0);
        change(&mut pool, 256, |_| {});
        pool.recordings = 0;
        pool.resume();
        pool.resume();
        assert_eq!(free(&pool), [256], "once, or two would own it");
    }
}
