//! The vendor's storage objects, made by us over memory of ours.
//!
//! The vendor has no function that makes one, so its layout is written down here: it belongs to TVM 0.27. A test at
//! load time ([`TvmRuntime::load`](crate::TvmRuntime::load)) makes one and has the vendor's own code cut a tensor out
//! of it, right and wrong, before any model is loaded.

use std::ffi::c_void;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::abi::{DELETE_SPACE, Device, FRESH, Header};
use crate::charge::Charge;

/// The allocator that the vendor's own storage names: "naive".
const NAIVE: i32 = 1;

/// A storage object, and behind the vendor's part what we know of it.
#[repr(C)]
pub(crate) struct Storage {
    header: Header,
    data: *mut c_void,
    size: usize,
    device: Device,
    allocator_kind: i32,
    padding: u32,
    /// Null: the vendor's destructor, which would use it, is never run.
    allocator: *mut c_void,
    /// Whom to tell when nobody uses it any more; null for nobody.
    charge: *const Charge,
    /// The run that it was made in.
    run: u64,
}

impl Storage {
    /// An object that nobody uses yet, of the vendor's kind `kind`.
    pub(crate) fn idle(kind: i32, charge: *const Charge) -> Box<Self> {
        let header = Header { references: AtomicU64::new(0), kind, padding: 0, deleter: Some(unused) };
        Box::new(Self {
            header,
            data: ptr::null_mut(),
            size: 0,
            device: Device { kind: 0, id: 0 },
            allocator_kind: NAIVE,
            padding: 0,
            allocator: ptr::null_mut(),
            charge,
            run: 0,
        })
    }

    /// Puts an idle object over `bytes` at `address`, with one reference for the vendor.
    pub(crate) fn put(&mut self, address: u64, bytes: u64, device: Device, run: u64) {
        // Addresses were made for this machine's pointers, so nothing is cut off.
        self.data = ptr::with_exposed_provenance_mut(usize::try_from(address).unwrap_or(0));
        self.size = usize::try_from(bytes).unwrap_or(0);
        (self.device, self.run) = (device, run);
        self.header.references.store(FRESH, Ordering::Relaxed);
    }

    /// Whether nobody uses it.
    pub(crate) fn is_idle(&self) -> bool {
        self.header.references.load(Ordering::Acquire) == 0
    }

    /// Tells it that its model is gone.
    pub(crate) fn forget_charge(&mut self) {
        self.charge = ptr::null();
    }
}

/// Called by the vendor when the last reference to an object of ours is gone.
unsafe extern "C" fn unused(object: *mut c_void, what: i32) {
    if what & DELETE_SPACE == 0 {
        return;
    }
    let Some(storage) = NonNull::new(object.cast::<Storage>()) else { return };
    // SAFETY: wants a live object that nobody else writes: the vendor passes the object whose last reference went,
    //  and the place itself is freed by the charge alone, on this thread.
    let (charge, address, run) = unsafe {
        let storage = storage.as_ref();
        storage.header.references.store(0, Ordering::Release);
        (storage.charge, storage.data.addr() as u64, storage.run)
    };
    // SAFETY: wants a live charge or null: a charge that goes away tells its objects before (`forget_charge`).
    if let Some(charge) = unsafe { charge.as_ref() } {
        charge.storage_unused(storage, run, address);
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    /// Counted by hand from the vendor's class: header, pointer, size, device, kind of allocator, allocator.
    #[test]
    fn the_layout_is_the_one_of_tvm_0_27() {
        assert_eq!((offset_of!(Storage, data), offset_of!(Storage, size)), (24, 32));
        assert_eq!((offset_of!(Storage, device), offset_of!(Storage, allocator_kind)), (40, 48));
        assert_eq!(offset_of!(Storage, allocator), 56);
    }

    #[test]
    fn an_object_is_idle_again_when_its_deleter_was_called() {
        let mut storage = Storage::idle(128, ptr::null());
        storage.put(64, 10, Device { kind: 1, id: 0 }, 1);
        assert!(!storage.is_idle());
        let raw = Box::into_raw(storage);
        // SAFETY: the deleter wants a live object of ours, with no charge to tell.
        unsafe { unused(raw.cast(), DELETE_SPACE) };
        // SAFETY: the pointer is the box's own.
        let storage = unsafe { Box::from_raw(raw) };
        assert!(storage.is_idle());
    }
}
