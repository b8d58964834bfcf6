//! Host memory that the GPU copies from and to directly, for the provider's own small copies.
//!
//! The provider gives such memory back from a function that the device calls when a copy is done, if the memory comes
//! from its own arena; a session that ends meanwhile then takes the arena down inside that function, where no call of
//! the driver is legal, and the process with it. From an allocator of somebody else's it waits for the copy instead.
//! Blocks are kept for the next request of their size, so that jobs ask the driver for nothing.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use ort::sys;

use super::driver::Driver;
use crate::raw::MemoryInfo;

/// The smallest block, which is also what all are aligned to.
const SMALLEST: usize = 256;

/// The allocator as ONNX Runtime knows it. It lives as long as the process, because the environment does.
#[repr(C)]
pub(crate) struct PinnedAllocator {
    /// First, so that a pointer to the whole is a pointer to the vendor's part.
    base: sys::OrtAllocator,
    info: MemoryInfo,
    driver: Driver,
    pool: Mutex<Pool>,
    requests: AtomicU64,
    live: AtomicU64,
    bytes: AtomicU64,
}

/// Blocks by address and, where nobody has them, by size.
#[derive(Default)]
struct Pool {
    sizes: HashMap<usize, usize>,
    free: HashMap<usize, Vec<usize>>,
}

// SAFETY: `Send` and `Sync` want every access through a shared reference to be free of races: `base`, `info` and
//  `driver` are never written after `new`, the pool is behind a lock, the counters are atomic.
unsafe impl Send for PinnedAllocator {}
// SAFETY: as for `Send`, above.
unsafe impl Sync for PinnedAllocator {}

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
    /// The allocator for the memory that `info` describes.
    pub(crate) fn new(info: MemoryInfo, driver: Driver) -> Self {
        let base = sys::OrtAllocator {
            version: sys::ORT_API_VERSION,
            Alloc: Some(alloc_block),
            Free: Some(free_block),
            Info: Some(memory_info),
            Reserve: Some(reserve_block),
            GetStats: None,
            AllocOnStream: None,
        };
        let zero = || AtomicU64::new(0);
        Self { base, info, driver, pool: Mutex::default(), requests: zero(), live: zero(), bytes: zero() }
    }

    /// The vendor's view of it.
    pub(crate) fn as_vendor(&'static self) -> *mut sys::OrtAllocator {
        // The vendor's signature wants `*mut`, but only passes the pointer back to the functions below.
        ptr::from_ref(self).cast::<sys::OrtAllocator>().cast_mut()
    }

    /// The counts.
    pub(crate) fn counts(&self) -> PinnedBlocks {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PinnedBlocks { requests: load(&self.requests), live: load(&self.live), bytes: load(&self.bytes) }
    }

    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allocate(&self, size: usize) -> *mut c_void {
        let Some(size) = size.max(SMALLEST).checked_next_power_of_two() else { return ptr::null_mut() };
        self.requests.fetch_add(1, Ordering::Relaxed);
        let mut pool = self.pool();
        let address = match pool.free.get_mut(&size).and_then(Vec::pop) {
            Some(address) => address,
            None => {
                let Some(address) = self.driver.allocate_pinned(size) else { return ptr::null_mut() };
                self.bytes.fetch_add(size as u64, Ordering::Relaxed);
                pool.sizes.insert(address, size);
                address
            }
        };
        self.live.fetch_add(1, Ordering::Relaxed);
        ptr::with_exposed_provenance_mut(address)
    }

    fn free(&self, address: usize) {
        let mut pool = self.pool();
        let Some(&size) = pool.sizes.get(&address) else { return };
        pool.free.entry(size).or_default().push(address);
        self.live.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The allocator behind the vendor's pointer.
///
/// # Safety
/// `this` is the pointer that was registered.
unsafe fn owner(this: *const sys::OrtAllocator) -> &'static PinnedAllocator {
    // SAFETY: `as_vendor` made the pointer of a `PinnedAllocator` that lives as long as the process, whose first field
    //  the vendor's struct is.
    unsafe { &*this.cast::<PinnedAllocator>() }
}

unsafe extern "system" fn alloc_block(this: *mut sys::OrtAllocator, size: usize) -> *mut c_void {
    // SAFETY: the vendor passes back the pointer that was registered.
    unsafe { owner(this) }.allocate(size)
}

unsafe extern "system" fn reserve_block(this: *const sys::OrtAllocator, size: usize) -> *mut c_void {
    // SAFETY: the vendor passes back the pointer that was registered.
    unsafe { owner(this) }.allocate(size)
}

unsafe extern "system" fn free_block(this: *mut sys::OrtAllocator, block: *mut c_void) {
    // SAFETY: the vendor passes back the pointer that was registered.
    unsafe { owner(this) }.free(block.addr());
}

unsafe extern "system" fn memory_info(this: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    // SAFETY: the vendor passes back the pointer that was registered.
    unsafe { owner(this) }.info.as_ptr()
}
