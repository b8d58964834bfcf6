//! An allocator as the library knows it: a table of functions, and behind it one of ours.
//!
//! The library passes back the pointer that it was given and nothing else, so that the table has to stand in front of
//! what serves it. That is the same for every kind of memory, and so is what makes it sound; it is here once.

use std::ffi::c_void;
use std::ops::Deref;
use std::ptr::{self, NonNull};

use ort::sys;

use crate::raw::MemoryInfo;

/// What serves the library's requests for one kind of memory, from any thread.
pub(crate) trait Serve: Send + Sync + 'static {
    /// A block of `size` bytes; null where there is none.
    fn allocate(&self, size: usize) -> *mut c_void;

    /// Takes back a block. The library gives back what it was given, once; what else comes is the library's error, of which
    /// the implementation says what it sees.
    fn free(&self, block: NonNull<c_void>);
}

/// An allocator that is registered with the library's environment. It lives as long as the process, because the
/// environment does.
#[repr(C)]
pub(crate) struct Registered<S> {
    /// First, so that a pointer to the whole is a pointer to the vendor's part.
    base: sys::OrtAllocator,
    info: MemoryInfo,
    serves: S,
}

// SAFETY: `Send` and `Sync` want every access through a shared reference to be free of races.
//  `base` and `info` are never written after `new`; the vendor reads them from any thread by contract;
//  `serves` is both by itself.
unsafe impl<S: Send + Sync> Send for Registered<S> {}
// SAFETY: as for `Send`, above.
unsafe impl<S: Send + Sync> Sync for Registered<S> {}

impl<S: Serve> Registered<S> {
    /// `serves` as the allocator for memory described by `info`.
    pub(crate) fn new(info: MemoryInfo, serves: S) -> Self {
        let base = sys::OrtAllocator {
            version: sys::ORT_API_VERSION,
            Alloc: Some(alloc_block::<S>),
            Free: Some(free_block::<S>),
            Info: Some(memory_info::<S>),
            Reserve: Some(reserve_block::<S>),
            GetStats: None,
            AllocOnStream: None,
        };
        Self { base, info, serves }
    }

    /// The vendor's view of it.
    pub(crate) fn as_vendor(&'static self) -> *mut sys::OrtAllocator {
        // The vendor's signature wants `*mut`, but only passes the pointer back to the functions below.
        ptr::from_ref(self).cast::<sys::OrtAllocator>().cast_mut()
    }
}

impl<S> Deref for Registered<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.serves
    }
}

/// The allocator behind the vendor's pointer.
///
/// # Safety
/// `this` is the pointer that [`Registered::as_vendor`] of a `Registered<S>` made.
unsafe fn owner<S: Serve>(this: *const sys::OrtAllocator) -> &'static Registered<S> {
    // SAFETY: `as_vendor` made the pointer of a `Registered<S>` that lives as long as the process, whose first field
    //  the vendor's struct is.
    unsafe { &*this.cast::<Registered<S>>() }
}

unsafe extern "system" fn alloc_block<S: Serve>(this: *mut sys::OrtAllocator, size: usize) -> *mut c_void {
    // SAFETY: the vendor passes back the pointer that was registered, in whose table `new` entered this function for its S.
    unsafe { owner::<S>(this) }.allocate(size)
}

unsafe extern "system" fn reserve_block<S: Serve>(
    this: *const sys::OrtAllocator,
    size: usize,
) -> *mut c_void {
    // SAFETY: the vendor passes back the pointer that was registered, in whose table `new` entered this function for its S.
    unsafe { owner::<S>(this) }.allocate(size)
}

unsafe extern "system" fn free_block<S: Serve>(this: *mut sys::OrtAllocator, block: *mut c_void) {
    if let Some(block) = NonNull::new(block) {
        // SAFETY: the vendor passes back the pointer that was registered, in whose table `new` entered this function for its
        //  S.
        unsafe { owner::<S>(this) }.free(block);
    }
}

unsafe extern "system" fn memory_info<S: Serve>(this: *const sys::OrtAllocator) -> *const sys::OrtMemoryInfo {
    // SAFETY: the vendor passes back the pointer that was registered, in whose table `new` entered this function for its S.
    unsafe { owner::<S>(this) }.info.as_ptr()
}
