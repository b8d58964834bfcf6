//! The allocator that ONNX Runtime calls for every tensor, and that charges the task at work.
//!
//! ```text
//! | header: whom and what to give back | payload, what the library sees |
//! ```
//! A block that no task pays for comes from the system's allocator and is counted: either nobody was at work on the
//! thread (*foreign*, expected never), the task computes on a GPU and its grant holds no host memory (*beside*), or the
//! budget was exceeded (*overflow*). The library writes to what it gets
//! without looking for null, so an overflow must be served; its caller sees the refusal, reports it as the budget
//! error and discards what was computed.

use std::alloc::{self, Layout};
use std::ffi::c_void;
use std::mem::size_of;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use aegis_types::{Bytes, Extent, MemoryClass};

use crate::charge::{self, ALIGN, Charge, Piece};
use crate::registered::Serve;

/// Marks a block as one of ours; mixed with its address, so that a copied header does not pass.
const MAGIC: u64 = 0x6165_6769_735f_6f72;

/// What stands before every block.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Header {
    magic: u64,
    /// Whom to give back to; null for the system's allocator.
    charge: *const Charge,
    extent: Extent,
    class: MemoryClass,
}

const HEADER: usize = size_of::<Header>();
const _: () = assert!(HEADER == ALIGN, "the payload behind the header must be as aligned as the block");

/// Serves requests for host memory.
#[derive(Default)]
pub(crate) struct GrantAllocator {
    foreign: AtomicU64,
    overflows: AtomicU64,
    corrupt: AtomicU64,
    beside: AtomicU64,
}

impl GrantAllocator {
    /// Blocks that were asked for while no task was at work on the thread.
    pub(crate) fn foreign(&self) -> u64 {
        self.foreign.load(Ordering::Relaxed)
    }

    /// Blocks that exceeded a budget and were served so that the library could return.
    pub(crate) fn overflows(&self) -> u64 {
        self.overflows.load(Ordering::Relaxed)
    }

    /// Blocks given back with a damaged header, which were leaked instead of trusted.
    pub(crate) fn corrupt(&self) -> u64 {
        self.corrupt.load(Ordering::Relaxed)
    }

    /// Blocks on the host of models that compute on a GPU.
    pub(crate) fn beside(&self) -> u64 {
        self.beside.load(Ordering::Relaxed)
    }

    fn serve_uncharged(&self, total: usize, counter: &AtomicU64) -> *mut c_void {
        counter.fetch_add(1, Ordering::Relaxed);
        let Ok(layout) = Layout::from_size_align(total, ALIGN) else {
            return ptr::null_mut();
        };
        // SAFETY: `alloc` wants a layout of non-zero size; `total` includes the header.
        let start = unsafe { alloc::alloc(layout) };
        let extent = Extent { offset: Bytes::ZERO, len: Bytes::new(total as u64) };
        match NonNull::new(start) {
            Some(start) => place(Piece { start, extent, class: MemoryClass::Scratch }, ptr::null()),
            None => ptr::null_mut(),
        }
    }
}

impl Serve for GrantAllocator {
    fn allocate(&self, size: usize) -> *mut c_void {
        let Some(total) = size.checked_add(HEADER).filter(|_| size > 0) else {
            return ptr::null_mut();
        };
        match charge::current() {
            Some(charge) => {
                // SAFETY: a reference wants a live, aligned `Charge` that nothing mutates.
                //  live: its `Scope` borrows it and lives until after the call that led here;
                //  mutation: all of its state is in cells or behind `&self`.
                let charge = unsafe { charge.as_ref() };
                if charge.is_on_device() {
                    return self.serve_uncharged(total, &self.beside);
                }
                match charge.take(total) {
                    Some(piece) => place(piece, charge),
                    None => self.serve_uncharged(total, &self.overflows),
                }
            }
            None => self.serve_uncharged(total, &self.foreign),
        }
    }

    fn free(&self, payload: NonNull<c_void>) {
        let start = payload.cast::<u8>().as_ptr().wrapping_sub(HEADER).cast::<Header>();
        // SAFETY: `read` wants an initialised, aligned header that is not written meanwhile.
        //  initialised: the library frees what it was given, and `place` wrote a header before each of those;
        //  written: the block belongs to the thread that frees it.
        let header = unsafe { start.read() };
        if header.magic != mark(start) {
            self.corrupt.fetch_add(1, Ordering::Relaxed);
            return;
        }
        // A second free of the block finds no mark.
        // SAFETY: `write` wants the header's memory, as above; the mark is the first field of a `repr(C)` struct.
        unsafe { start.cast::<u64>().write(0) };
        match NonNull::new(header.charge.cast_mut()) {
            Some(charge) => {
                // SAFETY: a reference wants a live `Charge`. The model that owns it drops its session first, and a
                // block outlives neither the session nor the values that the model made.
                let charge = unsafe { charge.as_ref() };
                charge.give_back(header.extent, header.class);
            }
            None => release_uncharged(start, header.extent.len),
        }
    }
}

fn release_uncharged(start: *mut Header, len: Bytes) {
    let Ok(layout) = Layout::from_size_align(usize::try_from(len.get()).unwrap_or(usize::MAX), ALIGN) else {
        return;
    };
    // SAFETY: `dealloc` wants the pointer and layout of one `alloc`: `serve_uncharged` stored both.
    unsafe { alloc::dealloc(start.cast(), layout) }
}

/// Writes the header and returns the payload behind it.
fn place(piece: Piece<NonNull<u8>>, charge: *const Charge) -> *mut c_void {
    let start = piece.start.as_ptr().cast::<Header>();
    let header = Header { magic: mark(start), charge, extent: piece.extent, class: piece.class };
    // SAFETY: `write` wants memory for an aligned header. The piece is aligned to `ALIGN`, which is the header's own
    // alignment, holds at least `HEADER` bytes, and was lent to nobody else.
    unsafe { start.write(header) };
    start.wrapping_add(1).cast()
}

fn mark(start: *mut Header) -> u64 {
    MAGIC ^ start.addr() as u64
}
