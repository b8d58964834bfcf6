//! Where the CUDA provider's device memory comes from: the grant of the task at work, or the driver, counted.
//!
//! The provider asks its environment's allocator instead of the driver if one is registered for the device and the
//! session opts in. It cannot be told whose memory it wants, so the thread remembers ([`crate::charge`]). A block has no
//! header, because the host cannot write one: a table says what a block's address stands for.
//!
//! A request above the budget is served by the driver and counted as an overflow: the provider hands addresses to
//! kernels without looking for null, and a kernel that writes to address zero would lose the device for everybody. The
//! caller sees the refusal, reports it as the budget error and discards what was computed. While a stream records, the
//! driver gives nothing either; then nothing is executed that could use the address.

use std::collections::HashMap;
use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use aegis_types::{Bytes, Extent, MemoryClass};

use super::driver::Driver;
use crate::charge::{self, Charge, Piece};
use crate::registered::Serve;

/// Blocks for which the table has room from the start: more than models of some thousand nodes hold at once, so that
/// the table does not grow while jobs run.
const ROOM: usize = 1 << 14;

/// Serves requests for the memory of one device.
pub(crate) struct DeviceAllocator {
    driver: Driver,
    blocks: Mutex<HashMap<u64, Block>>,
    served: AtomicU64,
    foreign: AtomicU64,
    overflows: AtomicU64,
    abandoned: AtomicU64,
    unknown: AtomicU64,
}

/// What stands behind an address.
struct Block {
    /// Whom to give back to; null for the driver.
    charge: *const Charge,
    extent: Extent,
    class: MemoryClass,
}

// SAFETY: `Send` wants that a block may be used by another thread than the one that made it. The pointer is only
//  dereferenced by the thread that frees the block, which is the one that carries the model: see `free`.
unsafe impl Send for Block {}

/// How often the allocator was asked, and how it answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DeviceAllocations {
    /// Blocks that were charged to the task at work.
    pub charged: u64,
    /// Blocks that were asked for while no task was at work on the thread.
    pub foreign: u64,
    /// Blocks that exceeded a budget.
    pub overflows: u64,
    /// Blocks that exceeded a budget in loads that were given up, of models that then loaded by other rules.
    pub abandoned: u64,
    /// Blocks that came back without having been given.
    pub unknown: u64,
}

impl DeviceAllocator {
    /// What the grants do not cover comes from `driver`.
    pub(crate) fn new(driver: Driver) -> Self {
        let zero = || AtomicU64::new(0);
        let blocks = Mutex::new(HashMap::with_capacity(ROOM));
        Self {
            driver,
            blocks,
            served: zero(),
            foreign: zero(),
            overflows: zero(),
            abandoned: zero(),
            unknown: zero(),
        }
    }

    /// The counts since it was made.
    pub(crate) fn counts(&self) -> DeviceAllocations {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DeviceAllocations {
            charged: load(&self.served),
            foreign: load(&self.foreign),
            overflows: load(&self.overflows),
            abandoned: load(&self.abandoned),
            unknown: load(&self.unknown),
        }
    }

    /// Counts the overflows beyond the first `before` as those of a load that was given up. Models are loaded one after
    /// the other, before anything is served, so that they are of that load.
    pub(crate) fn abandon(&self, before: u64) {
        let since = self.overflows.load(Ordering::Relaxed).saturating_sub(before);
        self.overflows.fetch_sub(since, Ordering::Relaxed);
        self.abandoned.fetch_add(since, Ordering::Relaxed);
    }

    fn blocks(&self) -> MutexGuard<'_, HashMap<u64, Block>> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve_by_driver(&self, size: usize, counter: &AtomicU64) -> *mut c_void {
        counter.fetch_add(1, Ordering::Relaxed);
        let Some(address) = self.driver.allocate(size) else { return ptr::null_mut() };
        let extent = Extent { offset: Bytes::ZERO, len: Bytes::ZERO };
        self.blocks().insert(address, Block { charge: ptr::null(), extent, class: MemoryClass::Scratch });
        as_pointer(address)
    }
}

impl Serve for DeviceAllocator {
    fn allocate(&self, size: usize) -> *mut c_void {
        if size == 0 {
            return ptr::null_mut();
        }
        let Some(charge) = charge::current() else { return self.serve_by_driver(size, &self.foreign) };
        // SAFETY: a reference wants a live, aligned `Charge` that nothing mutates.
        //  live: its `Scope` borrows it and lives until after the call that led here;
        //  mutation: all of its state is in cells or behind `&self`.
        let charge = unsafe { charge.as_ref() };
        if !charge.is_on_device() {
            return self.serve_by_driver(size, &self.foreign);
        }
        match charge.take_on_device(size) {
            Some(Piece { start, extent, class }) => {
                self.served.fetch_add(1, Ordering::Relaxed);
                self.blocks().insert(start, Block { charge, extent, class });
                as_pointer(start)
            }
            None => self.serve_by_driver(size, &self.overflows),
        }
    }

    fn free(&self, block: NonNull<c_void>) {
        let address = block.addr().get() as u64;
        let Some(block) = self.blocks().remove(&address) else {
            self.unknown.fetch_add(1, Ordering::Relaxed);
            return;
        };
        match NonNull::new(block.charge.cast_mut()) {
            Some(charge) => {
                // SAFETY: a reference wants a live `Charge`. The model that owns it drops its session first, on the
                //  thread that loaded it, and a block outlives neither the session nor the values that the model made.
                let charge = unsafe { charge.as_ref() };
                charge.give_back(block.extent, block.class);
            }
            // SAFETY: `release` wants an address of the driver's that nothing uses: `serve_by_driver` noted it, and the
            //  provider gave it up. `cuMemFree` waits for what is enqueued.
            None => unsafe { self.driver.release(address) },
        }
    }
}

fn as_pointer(address: u64) -> *mut c_void {
    ptr::without_provenance_mut(usize::try_from(address).unwrap_or(0))
}
