//! An allocator that counts: "allocates nothing" is a claim, and only a count shows it.
//!
//! A program makes it its global allocator. The count is kept for each thread, so that what a trace writer allocates
//! beside a decider is not taken for the decider's, and once for all of them, for who watches a whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::atomic::{AtomicU64, Ordering};

thread_local! {
    /// Initialised at compile time and without a destructor: looking at it allocates nothing itself.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Of all threads: a statistic, which orders nothing.
static EVERYBODY: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, with every allocation and reallocation counted. Giving memory back is not counted: what is
/// given back was taken before.
///
/// ```
/// use aegis_benches::counting::{CountingAllocator, count};
///
/// #[global_allocator]
/// static ALLOCATOR: CountingAllocator = CountingAllocator;
///
/// let (boxed, allocations) = count(|| Box::new(7));
/// assert_eq!((*boxed, allocations), (7, 1));
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct CountingAllocator;

/// Allocations of the calling thread since it started; zero for ever where [`CountingAllocator`] is not the global
/// allocator.
pub fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Runs `work` and counts what the calling thread allocates meanwhile.
pub fn count<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = allocations();
    let result = work();
    (result, allocations().wrapping_sub(before))
}

/// Allocations of every thread of the process since it started.
impl From<CountingAllocator> for u64 {
    fn from(_: CountingAllocator) -> Self {
        EVERYBODY.load(Ordering::Relaxed)
    }
}

fn note() {
    ALLOCATIONS.with(|count| count.set(count.get().wrapping_add(1)));
    EVERYBODY.fetch_add(1, Ordering::Relaxed);
}

// SAFETY: every method passes its arguments on to `System` unchanged and returns what that returns, so the contract
// of `GlobalAlloc` is kept because `System` keeps it. Counting touches an atomic and one thread-local cell that needs
// no initialisation and has no destructor: it neither allocates nor unwinds.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: `System::alloc` wants a layout of non-zero size; our caller promises that by the same contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: `System::alloc_zeroed` wants a layout of non-zero size; our caller promises that by the same
        // contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: `System::realloc` wants a live block of `System` with this layout and a legal non-zero size. Every
        // block of ours came from `System`; the rest our caller promises by the same contract.
        unsafe { System.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: `System::dealloc` wants a live block of `System` with this layout. Every block of ours came from
        // `System`; the rest our caller promises by the same contract.
        unsafe { System.dealloc(block, layout) }
    }
}
