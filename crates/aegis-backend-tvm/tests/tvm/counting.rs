//! Counts what this program allocates, and reads how much of the process's heap is in use.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// Initialised at compile time and without a destructor: looking at it allocates nothing itself.
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, with every allocation of a thread counted.
pub struct Counting;

/// Runs `work` and counts what the calling thread allocates meanwhile through the language's allocator.
pub fn count<R>(work: impl FnOnce() -> R) -> (R, u64) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (result, ALLOCATIONS.with(Cell::get) - before)
}

/// Bytes of the C library's heap that are in use, the vendor's among them.
pub fn heap() -> usize {
    // SAFETY: reads the allocator's own books.
    let books = unsafe { libc::mallinfo2() };
    books.uordblks + books.hblkhd
}

fn note() {
    ALLOCATIONS.with(|count| count.set(count.get() + 1));
}

// SAFETY: every method passes its arguments on to `System` unchanged and returns what that returns, so the contract
// of `GlobalAlloc` is kept because `System` keeps it. Counting touches one thread-local cell that needs no
// initialisation and has no destructor: it neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(start, layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(start, layout, size) }
    }
}
