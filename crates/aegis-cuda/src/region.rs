//! One zeroed allocation of host memory with its book of lent extents: what the memory of host and simulator is.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::{Bytes, Extent};

use crate::error::DeviceError;
use crate::host::HostMemory;
use crate::lending::LentBook;
use crate::memory::{DeviceMemory, DeviceSlice, MemorySpace};
use crate::sim::SimMemory;

/// Regions start at page boundaries: every alignment that a backend may ask an extent for divides it.
const ALIGNMENT: usize = 4096;

/// What a device can reserve, counted over all its regions.
#[derive(Clone, Debug)]
pub(crate) struct Capacity {
    total: Bytes,
    reserved: Arc<AtomicU64>,
}

impl Capacity {
    pub(crate) fn new(total: Bytes) -> Self {
        Self { total, reserved: Arc::new(AtomicU64::new(0)) }
    }

    /// Reserves a zero-filled region; the system commits its pages when they are first touched.
    pub(crate) fn reserve(&self, space: MemorySpace, bytes: Bytes) -> Result<Region, DeviceError> {
        let charge = self.charge(space, bytes)?;
        // The region is too large for this machine although it fits the configured capacity.
        let refused = || DeviceError::System { what: "reserving memory", reason: format!("no {bytes}") };
        let block = Block::zeroed(bytes).ok_or_else(refused)?;
        Ok(Region { space, block, book: LentBook::new(bytes), _charge: charge })
    }

    /// Takes a share that is given back when it is dropped.
    pub(crate) fn charge(&self, space: MemorySpace, bytes: Bytes) -> Result<Charge, DeviceError> {
        let add = |used: u64| used.checked_add(bytes.get()).filter(|&sum| sum <= self.total.get());
        match self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(_) => Ok(Charge { reserved: Arc::clone(&self.reserved), bytes }),
            Err(used) => Err(DeviceError::OutOfMemory {
                space: match space {
                    MemorySpace::Device => "device",
                    MemorySpace::Staging => "staging",
                },
                asked: bytes,
                free: self.total.saturating_sub(Bytes::new(used)),
                capacity: self.total,
            }),
        }
    }
}

/// A region's share of the capacity.
#[derive(Debug)]
pub(crate) struct Charge {
    reserved: Arc<AtomicU64>,
    bytes: Bytes,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.reserved.fetch_sub(self.bytes.get(), Ordering::Relaxed);
    }
}

/// A reserved region.
#[derive(Debug)]
pub(crate) struct Region {
    space: MemorySpace,
    block: Block,
    book: LentBook,
    _charge: Charge,
}

impl Region {
    pub(crate) const fn space(&self) -> MemorySpace {
        self.space
    }

    pub(crate) const fn size(&self) -> Bytes {
        self.block.size
    }

    /// Marks an extent as lent, as [`DeviceMemory::lend`].
    pub(crate) fn lend(&self, extent: Extent) -> Result<(), DeviceError> {
        self.book.lend(extent)
    }

    /// Marks a lent extent as free, as [`DeviceMemory::take_back`].
    pub(crate) fn take_back(&self, extent: Extent) {
        self.book.take_back(extent);
    }

    /// The address of an extent, or `None` if it lies outside.
    pub(crate) fn pointer(&self, extent: Extent) -> Option<*mut u8> {
        let offset = usize::try_from(extent.offset.get()).ok()?;
        self.book.contains(extent).then(|| self.block.start.as_ptr().wrapping_add(offset))
    }

    /// Copies bytes in.
    ///
    /// # Safety
    /// As [`DeviceMemory::write`].
    ///
    /// # Panics
    /// If the range lies outside the region.
    pub(crate) unsafe fn write(&self, offset: Bytes, from: &[u8]) {
        let to = self.range(offset, from.len());
        // SAFETY: `copy` wants both ranges valid.
        //  to: `range` checked that it lies in the block, and the caller holds it with nothing in flight on it;
        //  from: a slice.
        unsafe { std::ptr::copy(from.as_ptr(), to, from.len()) }
    }

    /// Copies bytes out.
    ///
    /// # Safety
    /// As [`DeviceMemory::write`].
    ///
    /// # Panics
    /// If the range lies outside the region.
    pub(crate) unsafe fn read(&self, offset: Bytes, to: &mut [u8]) {
        let from = self.range(offset, to.len());
        // SAFETY: `copy` wants both ranges valid.
        //  from: `range` checked that it lies in the block, whose bytes are zeroed at first, and the caller holds it
        //  with nothing in flight on it;
        //  to: an exclusive slice.
        unsafe { std::ptr::copy(from, to.as_mut_ptr(), to.len()) }
    }

    fn range(&self, offset: Bytes, len: usize) -> *mut u8 {
        let extent = Extent { offset, len: Bytes::new(len as u64) };
        let pointer = self.pointer(extent);
        assert!(pointer.is_some(), "{len} bytes at {offset} lie outside a region of {}", self.size());
        pointer.unwrap_or(std::ptr::null_mut())
    }
}

/// Copies between slices of host or simulated memory, at once.
pub(crate) fn copy_now(from: &DeviceSlice, to: &DeviceSlice) -> Result<(), DeviceError> {
    if from.len() != to.len() {
        return Err(to.unfit("is not as long as the slice that is copied into it"));
    }
    let foreign = DeviceError::Unsupported { what: "a copy of another device's memory" };
    let (Some(source), Some(target)) = (address(from), address(to)) else {
        return Err(foreign);
    };
    let len = usize::try_from(from.len().get()).map_err(|_| foreign)?;
    // SAFETY: `copy` wants both ranges valid.
    //  source, target: each slice is a lent extent of a region that it keeps alive, `pointer` checked the bounds, and
    //  the stream's operations run in order on this thread, so nothing else is in flight on them;
    //  overlap: allowed by `copy`, and happens only where a slice is copied onto itself.
    unsafe { std::ptr::copy(source, target, len) }
    Ok(())
}

fn address(slice: &DeviceSlice) -> Option<*mut u8> {
    let region: &dyn DeviceMemory = &**slice.region();
    let any = region.as_any();
    let host = any.downcast_ref::<HostMemory>().and_then(|memory| memory.pointer(slice.extent()));
    host.or_else(|| any.downcast_ref::<SimMemory>().and_then(|memory| memory.pointer(slice.extent())))
}

/// An owned, zeroed, page-aligned allocation.
#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    layout: Layout,
    size: Bytes,
}

// SAFETY: `Send` wants that the allocation may be used and freed on another thread: the global allocator allows it, and
//  the block is the only owner.
unsafe impl Send for Block {}

// SAFETY: `Sync` wants that shared references cannot race: a shared block gives out addresses only; who reads or
//  writes through them answers for it (`Region::write`, `Region::read`, `copy_now`, `interop::with_host_pointer`).
unsafe impl Sync for Block {}

impl Block {
    fn zeroed(size: Bytes) -> Option<Self> {
        let bytes = usize::try_from(size.get()).ok()?.max(1);
        let layout = Layout::from_size_align(bytes, ALIGNMENT).ok()?;
        // SAFETY: `alloc_zeroed` wants a layout of more than zero bytes: `max(1)` above.
        let start = unsafe { alloc_zeroed(layout) };
        Some(Self { start: NonNull::new(start)?, layout, size })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: `dealloc` wants a live allocation of this layout: both stand in `self` since `zeroed`, and this is
        //  the only place that frees.
        unsafe { dealloc(self.start.as_ptr(), self.layout) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script::SplitMix64;

    /// A book of single bytes: slow, obvious.
    fn oracle(bytes: &[bool], extent: Extent) -> bool {
        let (start, end) = (extent.offset.get(), extent.offset.get() + extent.len.get());
        (start..end).all(|at| bytes.get(at as usize) == Some(&false)) && end <= bytes.len() as u64
    }

    fn check(seed: u64) {
        let mut generator = SplitMix64::new(seed);
        let region =
            Capacity::new(Bytes::new(64)).reserve(MemorySpace::Device, Bytes::new(64)).expect("fits");
        let (mut bytes, mut held) = ([false; 64], Vec::new());
        for step in 0..200 {
            if generator.draw_between(0, 2) == 0 && !held.is_empty() {
                let at = generator.draw_between(0, held.len() as u64 - 1) as usize;
                let extent: Extent = held.swap_remove(at);
                region.take_back(extent);
                bytes[extent.offset.get() as usize..][..extent.len.get() as usize].fill(false);
                continue;
            }
            let extent = Extent {
                offset: Bytes::new(generator.draw_between(0, 70)),
                len: Bytes::new(generator.draw_between(0, 12)),
            };
            let expected = oracle(&bytes, extent);
            assert_eq!(region.lend(extent).is_ok(), expected, "seed {seed}, step {step}: {extent:?}");
            if expected && !extent.len.is_zero() {
                bytes[extent.offset.get() as usize..][..extent.len.get() as usize].fill(true);
                held.push(extent);
            }
        }
    }

    /// A failing seed runs alone with `AEGIS_SEED=n cargo test -p aegis-cuda lending`.
    #[test]
    fn lending_agrees_with_a_book_of_bytes() {
        match std::env::var("AEGIS_SEED").ok().and_then(|seed| seed.parse().ok()) {
            Some(seed) => check(seed),
            None => (0..500).for_each(check),
        }
    }
}
